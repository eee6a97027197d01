/**
 * The limits of one agent, each with its unit in its name and its reason. Those that an operator may want to change
 * are in `AgentLimits` (set by `main.ts`); the others belong to the protocol or are too small to matter.
 */

export interface AgentLimits {
  /** Results whose record is not stored yet. Above it no new call is started: they are memory that nothing frees. */
  unsentOutcomesMax: number;
  /** After SIGTERM: how long running calls may go on. Longer answers move to another engine. */
  drainMsMax: number;
  /** Contexts of ended calls that are kept for their programs' next ones; beside the room that they take. */
  retainedMax: number;
  /** A step or a transfer that takes longer is taken for a hung engine: a step is meant to take some 100 ms. */
  stepWatchdogMs: number;
  /** A server behind the engine that is down for longer: the agent leaves its pool, so that its calls go elsewhere. */
  engineDownMsMax: number;
}

export const defaultLimits: AgentLimits = {
  unsentOutcomesMax: 64,
  drainMsMax: 3_000,
  retainedMax: 1_024,
  stepWatchdogMs: 30_000,
  engineDownMsMax: 5_000,
};

/** So often is looked whether the server behind an engine is down for long, or back. */
export const HEALTH_MS = 500;

/** A timer that comes so late was not looked at: the process stood still, and the engine's answer may be waiting. */
export const STANDSTILL_MS = 1_000;

/** After draining: how long results may take to be stored and ends to be confirmed. */
export const FLUSH_MS_MAX = 2_000;

/** Reports while nothing happens, and hellos until the first plan. Must be well below the scheduler's 2 s. */
export const REPORT_IDLE_MS = 500;
/** Reports are coalesced: what happens within this time goes into one. */
export const REPORT_GAP_MS_MIN = 2;

/** Tokens of steps within this time share a message: fifty a second are more than a reader can tell (decision 0015). */
export const TOKENS_GAP_MS_MIN = 20;

/** Ends that no plan has confirmed. Above it nothing is taken on: a report must stay below the payload limit. */
export const FINISHED_CALLS_MAX = 1_000;

/** Pause before an answerless read, write or fetch is tried again: doubles from the first to the second. */
export const RETRY_MS_MIN = 50;
export const RETRY_MS_MAX = 2_000;

/** A resumed attempt asks its frontend so often what the client has seen (S2). */
export const HAVE_MS_MIN = 250;
export const HAVE_MS_MAX = 1_000;

/** Every frontend of a held call is asked so often whether it lives. */
export const PING_MS = 1_000;

/** An end is repeated so often, and so long, until its frontend confirms it. */
export const END_REPEAT_MS = 1_000;
export const END_MS_MAX = 30_000;
/** Ends under way; the oldest is given up above it (its frontend finds the outcome by itself). */
export const ENDS_MAX = 2_048;
/** Outcomes up to this size travel with the end, so that the frontend need not read them. */
export const END_BODY_BYTES_MAX = 256 * 1024;

/** Text of one gap answer, in UTF-16 units; what is left is asked for again. */
export const GAP_TEXT_LENGTH_MAX = 128 * 1024;

/** Wait before try `tries` (1 = the first repetition). */
export function retryMs(tries: number, minMs = RETRY_MS_MIN, maxMs = RETRY_MS_MAX): number {
  return Math.min(maxMs, minMs * 2 ** Math.min(tries - 1, 20));
}
