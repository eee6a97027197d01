/**
 * The fields of log lines: every name that a service may write, with its unit and meaning. A test runs a whole system
 * and finds no other. None of them ever holds prompt or completion text (S12).
 */
import { z } from "zod";
import { LOG_LEVELS } from "./logger.ts";

const word = z.string().max(200);
/** Free text: another's words on what went wrong. */
const sentence = z.string().max(4_000);
const count = z.number().nonnegative();
const whole = z.int().nonnegative();

interface Field {
  schema: z.ZodType;
  meaning: string;
}

const field = (schema: z.ZodType, meaning: string): Field => ({ schema, meaning });

/** Whom and what the line is about: the same names in every service, so that they can be searched for together. */
const correlation = {
  pool: field(word, "the pool"),
  tenant: field(word, "the tenant"),
  program: field(z.string().max(256), "the program, as its client names it"),
  call: field(z.string().regex(/^[^/]{1,64}\/[^/]{1,64}$/), "the call: `<tenant>/<call id>`"),
  attempt: field(whole, "attempt at the call, from 1"),
  epoch: field(whole, "number of the leadership"),
  engine: field(word, "the engine"),
  incarnation: field(word, "one life of its agent"),
  frontend: field(word, "one life of a frontend"),
} as const;

const details = {
  status: field(word, "how a call ended"),
  code: field(word, "code of `libs/protocol/src/errors.ts`"),
  cause: field(word, "why an engine was lost"),
  reason: field(sentence, "what went wrong, or what is going on, in others' words"),
  err: field(z.object({ type: z.string(), message: sentence, stack: z.string() }).loose(), "an error with its stack"),
  model: field(z.string(), "name of the model, as the client gave it"),
  stream: field(z.boolean(), "whether the answer was streamed"),
  promptTokens: field(whole.optional(), "tokens of the prompt"),
  completionTokens: field(whole.optional(), "tokens generated"),
  ttftMs: field(count.optional(), "from the request to the first token"),
  durationMs: field(count, "from the request to the end"),
  serviceMs: field(count, "service of the call"),
  waitingMs: field(count, "waiting of the call"),
  downMs: field(count, "how long a server has been down"),
  sliceTokens: field(whole, "prompt tokens that one step evaluates"),
  host: field(word, "address that is listened on"),
  port: field(whole, "port that is listened on"),
  subject: field(word, "subject of a message"),
  key: field(word, "key in the bucket"),
  url: field(word, "address of another server"),
  path: field(word, "a file that is written"),
  file: field(word, "a file that cannot be written"),
  calls: field(whole, "number of calls"),
  engines: field(whole, "number of engines"),
  records: field(whole, "number of records"),
  dropped: field(whole, "what could not be read"),
  keys: field(whole, "number of API keys"),
  plan: field(whole, "number of a plan"),
  share: field(count, "share of the room of the outcomes' stream"),
  dispatching: field(z.boolean(), "whether new calls are begun"),
  llama: field(word, "level that llama.cpp gave its line"),
  traceBytesMax: field(whole, "limit of a call trace"),
  inputLogBytesMax: field(whole, "limit of an input log"),
  waitingBytesMax: field(whole, "limit of what waits for a disk"),
} as const;

export const LOG_FIELDS: Readonly<Record<string, Field>> = { ...correlation, ...details };

/** One line of a service's log. */
export const logLineSchema = z.strictObject({
  time: z.iso.datetime(),
  level: z.enum(LOG_LEVELS),
  service: word,
  instance: word.optional(),
  /** A constant sentence: what changes from line to line is in the fields. */
  msg: z.string().regex(/^[A-Za-z][A-Za-z0-9 ,;:'().-]{0,119}$/),
  ...Object.fromEntries(Object.entries(LOG_FIELDS).map(([name, { schema }]) => [name, schema.optional()])),
});
