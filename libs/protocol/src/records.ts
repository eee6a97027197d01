/**
 * The record of a call in OUTCOMES: a terminal record, or the marker of a later attempt (S3, S4). What a take-over
 * needs is in the headers; usage, timings and the result are in the body.
 */
import { z } from "zod";
import type { ChatCompletion, Usage } from "./chat.ts";
import { type Encoding, encode } from "./codec.ts";
import type { ErrorCode } from "./errors.ts";
import { errorCodeSchema, type TerminalStatus, terminalStatusSchema } from "./messages.ts";

/** Headers of calls, outcomes and replies. All of a call's are optional (design §3, "Outside publishers"). */
export const headers = {
  program: "Autellix-Program-Id",
  thread: "Autellix-Thread-Id",
  /** Comma-separated call ids. */
  parents: "Autellix-Parent-Call-Ids",
  reply: "Autellix-Reply",
  deadlineMs: "Autellix-Deadline-Ms",
  trace: "traceparent",
  /** Set by frontends, which know them; estimated from the size otherwise. */
  promptTokens: "Autellix-Prompt-Tokens",
  completionTokensMax: "Autellix-Completion-Tokens-Max",
  /** Name of the body in the object store. */
  bodyObject: "Autellix-Body-Object",
  bodyBytes: "Autellix-Body-Bytes",
  /** `msgpack` or `json` (default): the encoding that the outcome shall have. */
  encoding: "Autellix-Encoding",
  kind: "Autellix-Kind",
  status: "Autellix-Status",
  code: "Autellix-Code",
  attempt: "Autellix-Attempt",
  epoch: "Autellix-Epoch",
  engine: "Autellix-Engine",
  cause: "Autellix-Cause",
  crashes: "Autellix-Crashes",
  /** On the last message to an inbox: the call's terminal status. */
  end: "Autellix-End",
} as const;

/** Why a later attempt was needed. */
export const markerCauses = ["engine_lost", "crash", "take_over"] as const;
export type MarkerCause = (typeof markerCauses)[number];

export type RecordHead =
  | {
      kind: "outcome";
      status: TerminalStatus;
      code: ErrorCode | undefined;
      attempt: number;
      epoch: number;
      engine: string;
    }
  | { kind: "marker"; attempt: number; epoch: number; engine: string; cause: MarkerCause; crashes: number };

export function headFields(head: RecordHead): Record<string, string> {
  const common = {
    [headers.kind]: head.kind,
    [headers.attempt]: String(head.attempt),
    [headers.epoch]: String(head.epoch),
    [headers.engine]: head.engine,
  };
  if (head.kind === "marker")
    return { ...common, [headers.cause]: head.cause, [headers.crashes]: String(head.crashes) };
  return { ...common, [headers.status]: head.status, ...(head.code ? { [headers.code]: head.code } : {}) };
}

/** Digits only: `Number("")` is 0 and `Number("0x10")` is 16, and neither was written by us. */
const digits = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);

const headSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("outcome"),
    status: terminalStatusSchema,
    code: errorCodeSchema.optional(),
    attempt: digits,
    epoch: digits,
    engine: z.string(),
  }),
  z.object({
    kind: z.literal("marker"),
    attempt: digits.refine((n) => n > 0),
    epoch: digits,
    engine: z.string(),
    cause: z.enum(markerCauses),
    crashes: digits,
  }),
]);

/** @param get reads one header, `""` when it is absent. @returns undefined when the message is no record of ours. */
export function parseHead(get: (name: string) => string): RecordHead | undefined {
  const parsed = headSchema.safeParse({
    kind: get(headers.kind),
    status: get(headers.status),
    code: get(headers.code) || undefined,
    attempt: get(headers.attempt),
    epoch: get(headers.epoch),
    engine: get(headers.engine),
    cause: get(headers.cause),
    crashes: get(headers.crashes),
  });
  return parsed.success ? (parsed.data as RecordHead) : undefined;
}

/** Body of a terminal record, as outside readers see it too: hence JSON's field names. */
export const outcomeBodySchema = z.looseObject({
  call_id: z.string(),
  program_id: z.string(),
  status: terminalStatusSchema,
  error: z.object({ code: errorCodeSchema, message: z.string(), param: z.string().optional() }).optional(),
  /** A `chat.completion`, when the call completed. */
  response: z.custom<ChatCompletion>((v) => typeof v === "object" && v !== null).optional(),
  /** Name of the object that holds `response`, when it is larger than `RESULT_INLINE_BYTES_MAX`. */
  response_object: z.string().optional(),
  /** What was generated before a call was cancelled or failed. */
  usage: z
    .object({
      prompt_tokens: z.number(),
      completion_tokens: z.number(),
      total_tokens: z.number(),
      prompt_tokens_details: z.object({ cached_tokens: z.number() }).optional(),
    })
    .optional(),
  timings: z.object({ waiting_ms: z.number(), service_ms: z.number() }).optional(),
});
export interface OutcomeBody {
  call_id: string;
  program_id: string;
  status: TerminalStatus;
  error?: { code: ErrorCode; message: string; param?: string };
  response?: ChatCompletion;
  response_object?: string;
  usage?: Usage;
  timings?: { waiting_ms: number; service_ms: number };
}

export function encodeOutcome(body: OutcomeBody, encoding: Encoding): Uint8Array {
  return encode(body, encoding);
}
