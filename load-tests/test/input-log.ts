/** The first line of an input log, for tests. */
export const header = {
  log: "autellix-inputs",
  version: 1,
  pool: "sim",
  epoch: 7,
  config: {
    policy: "plas",
    balancer: "locality",
    ladder: { first: 1_000, levels: 7, factor: 2 },
    binding: "arrival",
    misfit: "stop",
    windowSteps: 8,
    reserveCallsMax: 2,
    beta: 8,
    betaFloorMs: 1_000,
    promotedShare: Number.POSITIVE_INFINITY,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 1,
    cancelMemoryMs: 1,
    cancelMemoryMax: 1,
    planResendMs: 1,
  },
} as const;
