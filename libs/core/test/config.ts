/** What the tests of the core have in common: a small ladder, a small engine, and a configuration without surprises. */
import {
  balancers,
  type Calibration,
  type CoreConfig,
  type EngineCapacity,
  type Ladder,
  type Policy,
} from "../src/index.ts";

/** Q1 takes service below 10, Q2 below 30, Q3 the rest. */
export const ladder: Ladder = [
  { lo: 0, hi: 10, quantum: 10 },
  { lo: 10, hi: 30, quantum: 20 },
  { lo: 30, hi: Number.POSITIVE_INFINITY, quantum: 40 },
];

export const capacity: EngineCapacity = {
  batchCallsMax: 2,
  residentCallsMax: 8,
  heldCallsMax: 8,
  kvBlocks: 100,
  blockTokens: 10,
  preemption: "swap",
};

/** Plans after every step, no reserve, no promotion unless a test asks for it, and then of all that are due. */
export function coreConfig(
  policy: Policy,
  levels: Ladder | Calibration = ladder,
  over: Partial<CoreConfig> = {},
): CoreConfig {
  return {
    policy,
    ladder: levels,
    balancer: balancers["least-used"],
    windowSteps: 1,
    reserveCallsMax: 0,
    beta: Number.POSITIVE_INFINITY,
    promotedShare: Number.POSITIVE_INFINITY,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 1e9,
    cancelMemoryMs: 60_000,
    cancelMemoryMax: 100,
    planResendMs: 500,
    ...over,
  };
}
