/**
 * What a pool's leader shows to people: its programs, calls and engines, whole on request (`subjects.view`) and as
 * changes while somebody watches (`subjects.events`). Sizes, times and names only, never prompt or completion text
 * (S12).
 *
 * A watcher renews its watch every `WATCH_RENEW_MS`, listens to the changes, reads all pages of a snapshot, and then
 * applies the changes whose `number` is above the snapshot's. A gap in the numbers, or another epoch, means: read
 * again. What a change names replaces what was known under the same id.
 */
import { z } from "zod";
import {
  countersSchema,
  engineInfoSchema,
  engineStateSchema,
  kvUseSchema,
  programIdSchema,
  terminalStatusSchema,
  tierSchema,
} from "./messages.ts";

/** A watch that is not renewed ends after `WATCH_MS`. */
export const WATCH_MS = 15_000;
export const WATCH_RENEW_MS = 5_000;
/** Changes are gathered for this long: ten messages a second at most. */
export const CHANGES_EVERY_MS = 100;
/** Items of one page, so that an answer stays below the server's message limit. */
export const VIEW_PAGE_MAX = 2_000;

const count = z.int().nonnegative();
const millis = z.number().nonnegative();
const callKey = z.string();

/**
 * `waiting`: in a queue. `starting`: an agent was told to run it and fetches it. `ending`: its record is being written.
 * The others: as its agent reports.
 */
export const viewStateSchema = z.enum(["waiting", "starting", "running", "parked", "swapped", "evicted", "ending"]);

/** A call that is not acked yet. */
export const viewCallSchema = z.object({
  /** `<tenant>/<callId>` */
  call: callKey,
  program: programIdSchema,
  thread: z.string().optional(),
  state: viewStateSchema,
  /** 0 = Q1, served first. */
  level: count,
  /** It is bound to, or held by, this engine. */
  engine: z.string().optional(),
  attempt: z.int().positive(),
  /** Unix time by the stream's clock. */
  arrivedAtMs: millis,
  /** Waiting and service so far, earlier attempts included. */
  waitingMs: millis,
  serviceMs: millis,
  promptTokens: count,
  completionTokens: count,
});

/** A call that has ended, with what is final about it: told once, also of one that no changes have named before. */
export const viewEndedSchema = z.object({
  call: callKey,
  program: programIdSchema,
  thread: z.string().optional(),
  status: terminalStatusSchema,
  /** Its last one. */
  level: count,
  engine: z.string().optional(),
  attempt: z.int().positive(),
  /** Unix times by the stream's clock. */
  arrivedAtMs: millis,
  endedAtMs: millis,
  /** Of the waiting: until it was in a batch for the first time. The rest is its start, and what it was preempted. */
  queuedMs: millis,
  /** Earlier attempts included. */
  waitingMs: millis,
  serviceMs: millis,
  /** Absent when it ended before they were counted. */
  promptTokens: count.optional(),
  completionTokens: count.optional(),
});

export const viewProgramSchema = z.object({
  tenant: z.string(),
  program: programIdSchema,
  state: z.enum(["open", "ended"]),
  /** Sums over ended calls. */
  serviceMs: millis,
  waitingMs: millis,
  /** What the policy ranks by, in ms or tokens: the pool's `measures`. */
  attained: z.number().nonnegative(),
  /** The level that a call of it would enter now. */
  level: count,
  calls: z.object({ waiting: count, running: count, ended: count }),
  /** Unix times of its first call and of its last arrival or end. */
  startedAtMs: millis,
  lastAtMs: millis,
  /** Engine of its long calls. */
  pin: z.string().optional(),
});

export const viewEngineSchema = z.object({
  engine: z.string(),
  incarnation: z.string(),
  state: engineStateSchema,
  info: engineInfoSchema,
  /** Lists of the plan in force, in its order. */
  run: z.array(callKey),
  reserve: z.array(callKey),
  keep: z.array(z.object({ call: callKey, tier: tierSchema })),
  retained: z.array(z.object({ call: callKey, tier: z.enum(["engine", "host"]) })),
  counters: countersSchema,
  kv: kvUseSchema.optional(),
});

/** What attained service counts under the policy: ms of service, or tokens. */
export const viewMeasuresSchema = z.enum(["time", "tokens"]);

/** Of the pool as a whole; the first page of a snapshot and each message of changes have it. */
export const viewPoolSchema = z.object({
  pool: z.string(),
  epoch: count,
  leader: z.string(),
  policy: z.string(),
  /** Calls that wait in Q1 … QK, all engines together. */
  waitingByLevel: z.array(count),
  /** Upper bounds of attained service of Q1 … QK−1 and quanta, in ms or tokens (`measures`); empty when the policy has one level. */
  levelBoundsMs: z.array(millis),
  queuedCalls: count,
  runningCalls: count,
  queuedCallsMax: count,
  programs: count,
  endsPerSecond: z.number().nonnegative(),
  dispatching: z.boolean(),
  reason: z.string().optional(),
  /** Since this leader began. */
  totals: z.object({ demotions: count, promotions: count, preemptions: count, ended: count, failovers: count }),
  /** Unit of `levelBoundsMs` and of programs' `attained`; absent: time. */
  measures: viewMeasuresSchema.optional(),
});

export const viewAskSchema = z.discriminatedUnion("op", [
  /** Changes are published for `WATCH_MS` from now. Answered by a page without items. */
  z.object({ op: z.literal("watch") }),
  z.object({
    op: z.literal("page"),
    what: z.enum(["programs", "calls", "engines"]),
    /** `next` of the page before; absent: the first. */
    from: z.string().optional(),
    max: z.int().positive().max(VIEW_PAGE_MAX).optional(),
    /** Only of this tenant, of this program. */
    tenant: z.string().optional(),
    program: programIdSchema.optional(),
  }),
]);

export const viewPageSchema = z.object({
  pool: viewPoolSchema,
  /** Changes up to this number are in the page. */
  number: count,
  atMs: millis,
  programs: z.array(viewProgramSchema).optional(),
  calls: z.array(viewCallSchema).optional(),
  engines: z.array(viewEngineSchema).optional(),
  /** There are more. */
  next: z.string().optional(),
  /** Of a page of one program's calls: its calls that have ended, the last ones, oldest first. */
  ended: z.array(callKey).optional(),
});

export const viewChangesSchema = z.object({
  pool: viewPoolSchema,
  /** Rises by one within an epoch. */
  number: count,
  /** Unix time by the stream's clock. */
  atMs: millis,
  programs: z.array(viewProgramSchema),
  calls: z.array(viewCallSchema),
  engines: z.array(viewEngineSchema),
  /** Calls that have ended, each told once: with its name in `gone`, or before. Absent from an older leader. */
  ended: z.array(viewEndedSchema).optional(),
  /** Forgotten, acked, lost. */
  gone: z.object({
    programs: z.array(z.object({ tenant: z.string(), program: programIdSchema })),
    calls: z.array(callKey),
    engines: z.array(z.string()),
  }),
});

export type ViewState = z.infer<typeof viewStateSchema>;
export type ViewCall = z.infer<typeof viewCallSchema>;
export type ViewEnded = z.infer<typeof viewEndedSchema>;
export type ViewProgram = z.infer<typeof viewProgramSchema>;
export type ViewEngine = z.infer<typeof viewEngineSchema>;
export type ViewMeasures = z.infer<typeof viewMeasuresSchema>;
export type ViewPool = z.infer<typeof viewPoolSchema>;
export type ViewAsk = z.infer<typeof viewAskSchema>;
export type ViewPage = z.infer<typeof viewPageSchema>;
export type ViewChanges = z.infer<typeof viewChangesSchema>;
