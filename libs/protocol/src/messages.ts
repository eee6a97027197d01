/**
 * The internal messages: plans and reports between scheduler and agents, tokens and questions between agents and
 * frontends, status and control. All are msgpack, all are validated where they arrive. A field may be added when it
 * is optional; `test/fixtures/` keeps the bytes of every message so that old ones still decode.
 */
import { z } from "zod";
import { isErrorCode } from "./errors.ts";
import { isProgramId, NAME_PATTERN, PROGRAM_ID_LENGTH_MAX } from "./ids.ts";
import { tracedSchema } from "./traced.ts";

const count = z.int().nonnegative();
const millis = z.number().nonnegative();
const name = z.string().regex(NAME_PATTERN);
const callKey = z.string().regex(/^[A-Za-z0-9_-]{1,64}\/[A-Za-z0-9_-]{1,64}$/);
/** Free text, but what a header can carry: no control characters, no spaces around it (NATS trims them). */
export const programIdSchema = z
  .string()
  .min(1)
  .max(PROGRAM_ID_LENGTH_MAX)
  .refine((id) => isProgramId(id), "must be text without control characters and outer spaces");
export const errorCodeSchema = z.string().refine(isErrorCode, "unknown error code");

// ── scheduler → agent ──────────────────────────────────────────────────────────────────────────────────────────

/** What an agent needs to take a call on. Sent with each plan until a report shows that the agent holds the call. */
export const dispatchSchema = z.object({
  /** Sequence of the call in CALLS; the body is fetched by it. */
  seq: count,
  /** Sequence that the outcome subject must have when this attempt writes: 0, or its marker's (S3). */
  fence: count,
  program: programIdSchema,
  thread: z.string().optional(),
  /** Where tokens go: `autellix.tokens.<frontend>` or an inbox. */
  reply: z.string().optional(),
  /** `traceparent` of the caller. */
  trace: z.string().optional(),
  /** Name of the body in the object store, when it was too large for the stream. */
  bodyObject: z.string().optional(),
  /** Waiting up to this plan, earlier attempts included. The agent adds its own to it. */
  waitedMs: millis,
  /** Service of earlier attempts. */
  servedMs: millis,
  /** The retained context of an ended call of the same program on this engine: the call goes on from it. */
  continues: callKey.optional(),
  /** Set when its program is traced. */
  traced: tracedSchema.optional(),
});

export const planCallSchema = z.object({
  call: callKey,
  attempt: z.int().positive(),
  dispatch: dispatchSchema.optional(),
  /** Its queue now, 0 = Q1; set when its program is traced. */
  level: count.optional(),
});

/** Where an idle context lies. `none`: nowhere, its call is recomputed. */
export const tierSchema = z.enum(["engine", "host", "none"]);

/** The whole desired state of one engine (design §5). What is in none of its lists is dropped by the agent. */
export const planSchema = z.object({
  pool: name,
  engine: name,
  incarnation: z.string(),
  epoch: count,
  /** Rises within an epoch; an agent refuses a lower (epoch, number). */
  number: count,
  /** The highest report number that the scheduler has read: finished calls up to it need no repetition. */
  reportSeen: count,
  /** The batch, in priority order. */
  run: z.array(planCallSchema),
  /** What fills a slot the moment it frees. */
  reserve: z.array(planCallSchema),
  /** Parked calls in order of value; the agent takes room from the tail, and only when it is needed (paper §4.4). */
  keep: z.array(planCallSchema.extend({ tier: tierSchema.optional() })),
  /** Contexts of ended calls in order of value, kept for their programs' next calls. */
  retained: z.array(z.object({ call: callKey, tier: z.enum(["engine", "host"]) })).optional(),
  cancel: z.array(
    z.object({
      call: callKey,
      attempt: z.int().positive(),
      cause: z.enum(["client", "deadline", "orphan", "program"]),
    }),
  ),
  /** Answers to `fenced` reports: the new fence, or null = drop the result (S4). */
  fences: z.array(z.object({ call: callKey, attempt: z.int().positive(), fence: count.nullable() })).optional(),
  /** Steps per window: the agent reports after so many. */
  windowSteps: z.int().positive(),
});

// ── agent → scheduler ──────────────────────────────────────────────────────────────────────────────────────────

export const engineInfoSchema = z.object({
  kind: z.enum(["llama", "simulated", "http"]),
  /** Names under which frontends offer the model; the first is its own. */
  models: z.array(z.string().min(1)).min(1),
  preemption: z.enum(["swap", "recompute", "none"]),
  /** Sequences that one step may advance. */
  batchCallsMax: z.int().positive(),
  /** Calls whose context can be on the engine at once, running or parked. */
  residentCallsMax: z.int().positive(),
  /** Calls that the agent can hold, resident or not. */
  heldCallsMax: z.int().positive(),
  kvBlocks: z.int().positive(),
  blockTokens: z.int().positive(),
  contextTokensMax: z.int().positive(),
  /** KV blocks of the host tier; none without it. */
  hostBlocks: count.optional(),
  /** It keeps contexts of ended calls as the plan says. */
  retains: z.boolean().optional(),
  /** It hands requests on to a server, which serves more of OpenAI's API than `ChatCall` says. */
  forwards: z.boolean().optional(),
});

/** `swapped`: its context lies in the host tier. */
export const callStateSchema = z.enum(["fetching", "running", "parked", "swapped", "evicted"]);

export const reportCallSchema = z.object({
  call: callKey,
  attempt: z.int().positive(),
  state: callStateSchema,
  /** Cumulative over this attempt: sum of the durations of the steps whose batch it was in. */
  serviceMs: millis,
  /** Tokens in the context, prompt and answer; 0 until counted. */
  contextTokens: count,
  promptTokens: count,
  completionTokens: count,
  /** False: it must stay in the batch until it ends, since its engine cannot go on with it exactly. */
  preemptible: z.literal(false).optional(),
});

export const terminalStatusSchema = z.enum(["completed", "failed", "cancelled", "expired", "dead"]);

export const finishedCallSchema = z.object({
  call: callKey,
  attempt: z.int().positive(),
  status: terminalStatusSchema,
  /** True when the outcome was there already (a redelivery): nothing was run, nothing is charged. */
  found: z.boolean(),
  serviceMs: millis,
  waitingMs: millis,
  promptTokens: count,
  completionTokens: count,
  /** Prompt tokens that were found in a context or cache. */
  cachedTokens: count.optional(),
  /** Its context is retained: this many tokens. */
  contextTokens: count.optional(),
  /**
   * Its span (`spanText`), when its program is traced, in the first report that carries it: should the agent die before
   * it was out, the leader sends the same once more.
   */
  span: z.string().optional(),
  /** First report that carries it: it is repeated until `reportSeen` reaches this number. */
  report: count,
});

/** Cumulative over the incarnation. */
export const countersSchema = z.object({
  steps: count,
  stepCalls: count,
  busyMs: millis,
  tokens: count,
  batchMax: count,
  prefilledTokens: count.optional(),
  cachedTokens: count.optional(),
  swapOuts: count.optional(),
  swapIns: count.optional(),
  /** Both ways. */
  swapBytes: count.optional(),
  swapMs: millis.optional(),
  /** Time without a step while a call was held that could have run, had a plan said so. */
  planIdleMs: millis.optional(),
});

/** KV blocks now, by what they are for. */
export const kvUseSchema = z.object({ running: count, parked: count, retained: count, host: count });

/** Whole state of one agent. Counters are cumulative over the incarnation. */
export const reportSchema = z.object({
  kind: z.literal("report"),
  pool: name,
  engine: name,
  incarnation: z.string(),
  /** Rises within an incarnation. */
  number: count,
  /** The (epoch, number) of the plan in force. */
  planEpoch: count,
  planNumber: count,
  /** On hello and when asked for a full report. */
  info: engineInfoSchema.optional(),
  calls: z.array(reportCallSchema),
  finished: z.array(finishedCallSchema),
  /** Results that a newer marker keeps from being written (S4). */
  fenced: z.array(z.object({ call: callKey, attempt: z.int().positive() })),
  /** Frontends silent for `orphanGraceMs`. */
  frontendsDead: z.array(name),
  /** It is about to leave: what it has not begun is for others. */
  draining: z.boolean().optional(),
  counters: countersSchema,
  kv: kvUseSchema.optional(),
});

/** A graceful end: the agent runs nothing any more and will not come back under this incarnation. */
export const exitSchema = z.object({ kind: z.literal("exit"), pool: name, engine: name, incarnation: z.string() });

export const agentMessageSchema = z.discriminatedUnion("kind", [reportSchema, exitSchema]);

// ── requests to an agent ───────────────────────────────────────────────────────────────────────────────────────

export const askSchema = z.discriminatedUnion("kind", [
  /** A new leader wants the whole state; the agent adopts the epoch. Answered by a report with `info`. */
  z.object({ kind: z.literal("report"), epoch: count }),
  /** Gap fill by a frontend: what was generated from token `from` on. */
  z.object({ kind: z.literal("tokens"), call: callKey, from: count }),
]);

/** A piece of an answer that is more than text, as OpenAI's chunks have it. */
export const answerDeltaSchema = z.object({
  /** `choices[0].delta`, without the role. */
  delta: z.record(z.string(), z.unknown()),
  /** `choices[0].logprobs` */
  logprobs: z.unknown().optional(),
});

export const gapAnswerSchema = z.discriminatedUnion("state", [
  z.object({
    state: z.literal("known"),
    epoch: count,
    attempt: z.int().positive(),
    index: count,
    count,
    text: z.string(),
    ids: z.array(count).optional(),
    deltas: z.array(answerDeltaSchema).optional(),
  }),
  z.object({ state: z.literal("unknown") }),
]);

// ── agent → frontend ───────────────────────────────────────────────────────────────────────────────────────────

export const tokenItemSchema = z.object({
  call: callKey,
  attempt: z.int().positive(),
  /** Tokens generated before this item; the item covers `index … index + count − 1`. */
  index: count,
  count,
  /** Whole characters only; may be empty while a character or a stop sequence is open. */
  text: z.string(),
  /** Token ids, where the engine has them: what a later attempt is forced to repeat (S2). */
  ids: z.array(count).optional(),
  /** Set when the item is more than text: all of it, in order; `text` is the content among it. */
  deltas: z.array(answerDeltaSchema).optional(),
});

export const frontendMessageSchema = z.discriminatedUnion("kind", [
  /** One message per frontend and step. */
  z.object({ kind: z.literal("tokens"), engine: name, epoch: count, items: z.array(tokenItemSchema) }),
  /** A request, repeated until confirmed: the call has a terminal outcome. `body` is that of the outcome. */
  z.object({
    kind: z.literal("end"),
    call: callKey,
    pool: name,
    status: terminalStatusSchema,
    body: z.instanceof(Uint8Array).optional(),
  }),
  /** A request: a resumed attempt asks what the client has seen (S2). */
  z.object({ kind: z.literal("have"), call: callKey, engine: name, epoch: count, attempt: z.int().positive() }),
  z.object({ kind: z.literal("ping") }),
]);

/** `gone`: this frontend does not know the call (any more); nobody will read its tokens. */
export const haveAnswerSchema = z.discriminatedUnion("state", [
  z.object({ state: z.literal("live"), count, ids: z.array(count).optional() }),
  z.object({ state: z.literal("gone") }),
]);

export const confirmSchema = z.object({ ok: z.literal(true) });

// ── leader → everybody ─────────────────────────────────────────────────────────────────────────────────────────

/** `suspect`: silent for a while. `draining`: about to leave. */
export const engineStateSchema = z.enum(["up", "suspect", "draining"]);

export const statusSchema = z.object({
  pool: name,
  epoch: count,
  policy: z.string(),
  models: z.array(z.string()),
  queuedCalls: count,
  runningCalls: count,
  queuedCallsMax: count,
  engines: z.array(
    z.object({
      engine: name,
      state: engineStateSchema,
      runningCalls: count,
      heldCalls: count,
      counters: countersSchema,
      kv: kvUseSchema.optional(),
    }),
  ),
  /** Mean rate of ends over the last seconds; 0 when unknown. */
  endsPerSecond: z.number().nonnegative(),
  /** False while nothing new is dispatched, with the reason. */
  dispatching: z.boolean(),
  reason: z.string().optional(),
});

export const beatSchema = z.object({ pool: name, epoch: count, leader: z.string(), number: count });

// ── control (request–reply, JSON or msgpack; the answer has the encoding of the request) ───────────────────────

export const controlSchema = z.discriminatedUnion("op", [
  z.object({ op: z.literal("program.start"), program_id: programIdSchema }),
  z.object({ op: z.literal("program.end"), program_id: programIdSchema, cancel: z.boolean().optional() }),
  z.object({ op: z.literal("program.read"), program_id: programIdSchema }),
  z.object({ op: z.literal("call.cancel"), call_id: name, cause: z.enum(["client", "orphan"]).optional() }),
]);

export const programViewSchema = z.object({
  id: z.string(),
  object: z.literal("program"),
  pool: name,
  state: z.enum(["open", "ended"]),
  /** Sum over ended calls, in ms. */
  service_ms: millis,
  waiting_ms: millis,
  /** What the policy ranks by: the sum (plas) or the critical path (atlas). */
  attained_service_ms: millis,
  calls: z.object({ waiting: count, running: count, ended: count }),
});

export const controlAnswerSchema = z.union([
  z.object({
    ok: z.literal(true),
    program: programViewSchema.optional(),
    call: z.enum(["pending", "ended", "unknown"]).optional(),
  }),
  z.object({ ok: z.literal(false), error: z.object({ code: errorCodeSchema, message: z.string() }) }),
]);

export type AnswerDelta = z.infer<typeof answerDeltaSchema>;
export type KvUse = z.infer<typeof kvUseSchema>;
export type Counters = z.infer<typeof countersSchema>;
export type Tier = z.infer<typeof tierSchema>;
export type Dispatch = z.infer<typeof dispatchSchema>;
export type PlanCall = z.infer<typeof planCallSchema>;
export type Plan = z.infer<typeof planSchema>;
export type EngineInfo = z.infer<typeof engineInfoSchema>;
export type CallState = z.infer<typeof callStateSchema>;
export type ReportCall = z.infer<typeof reportCallSchema>;
export type FinishedCall = z.infer<typeof finishedCallSchema>;
export type TerminalStatus = z.infer<typeof terminalStatusSchema>;
export type Report = z.infer<typeof reportSchema>;
export type Exit = z.infer<typeof exitSchema>;
export type AgentMessage = z.infer<typeof agentMessageSchema>;
export type Ask = z.infer<typeof askSchema>;
export type GapAnswer = z.infer<typeof gapAnswerSchema>;
export type TokenItem = z.infer<typeof tokenItemSchema>;
export type FrontendMessage = z.infer<typeof frontendMessageSchema>;
export type HaveAnswer = z.infer<typeof haveAnswerSchema>;
export type EngineState = z.infer<typeof engineStateSchema>;
export type Status = z.infer<typeof statusSchema>;
export type Beat = z.infer<typeof beatSchema>;
export type Control = z.infer<typeof controlSchema>;
export type ProgramView = z.infer<typeof programViewSchema>;
export type ControlAnswer = z.infer<typeof controlAnswerSchema>;
