/** What an operator, an experiment or a test chooses; fixed for the life of a scheduler. */
import type { Balancer } from "./balancers.ts";
import type { Millis } from "./ids.ts";
import type { Ladder } from "./ladder.ts";
import type { Policy } from "./policies.ts";

/** The ladder calibrates itself from completed calls (see calibration.ts). */
export interface Calibration {
  /** Upper end of Q1 until enough calls have completed, in the policy's unit. */
  first: number;
  levels: number;
  /** Each level is so many times as wide as the one before. */
  factor: number;
}

export interface CoreConfig {
  policy: Policy;
  /** For policies that move calls between levels: a fixed ladder, or one that follows the load. */
  ladder: Ladder | Calibration;
  balancer: Balancer;
  /** A call gets its engine when it arrives (the paper), or when an engine has room for it. Default `arrival`. */
  binding?: "arrival" | "late";
  /** What the walk does at the first call that does not fit: stop (the paper), or look behind it. Default `stop`. */
  misfit?: "stop" | "skip";
  /** N of multi-step scheduling: decode steps between two plans. */
  windowSteps: number;
  /** Over-provisioned calls per engine, which fill a vacancy inside the window (paper §4.4). */
  reserveCallsMax: number;
  /** Waiting over service at which a call is promoted to Q1; `Infinity`: never. Default `BETA`. */
  beta?: number;
  /** Service below this counts as this much in the ratio: a call that never ran is not starving at once. */
  betaFloorMs?: Millis;
  /**
   * Share of an engine's places that promoted calls may have at a time; `Infinity`: all that are due are promoted (the
   * paper). Default `PROMOTED_SHARE`.
   */
  promotedShare?: number;
  /** Crashes that one call may be charged with before it is dead. */
  attemptsCrashedMax: number;
  /** A program without calls is forgotten after this time. */
  programIdleMaxMs: Millis;
  /** A cancel can overtake its call: it is remembered so long, and so many are. */
  cancelMemoryMs: Millis;
  cancelMemoryMax: number;
  /** A plan that its agent has not applied after this time is sent again. */
  planResendMs: Millis;
}
