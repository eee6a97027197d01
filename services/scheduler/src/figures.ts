/** What people want to know of a leader at a glance, for its metrics; O(engines · levels + batches). */
import type { Scheduler } from "@autellix/core";
import type { Liveness } from "./liveness.ts";

export interface FigureSources {
  core: Scheduler;
  liveness: Liveness;
  /** Whether service is counted in time. */
  timed: boolean;
  dispatching: boolean;
}

export type Figures = ReturnType<typeof figuresOf>;

export function figuresOf({ core, liveness, timed, dispatching }: FigureSources) {
  return {
    counts: core.counts(),
    waitingByLevel: core.views.waitingByLevel(),
    runningByLevel: core.views.runningByLevel(),
    waits: core.waits,
    totals: core.totals,
    /** Of Q1 … QK−1; none where they are no times. */
    quantaMs: timed ? core.ladder.map(({ quantum }) => quantum).filter(Number.isFinite) : [],
    engines: [...liveness.agents].map(([engine, { silentMs }]) => ({
      engine,
      silentMs,
      state: liveness.stateOf(engine),
    })),
    dispatching: dispatching ? 1 : 0,
  };
}
