/** Runs without a simulator. */
import { emptyDeciles } from "../src/paper/deciles.ts";
import type { Executor } from "../src/paper/pool.ts";
import type { RunSpec } from "../src/paper/spec.ts";
import { CALL_CLASSES, type RunResult } from "../src/paper/summary.ts";

export function fakeSpec(changes: Partial<RunSpec> = {}): RunSpec {
  return {
    workload: "sharegpt",
    protocol: { kind: "finite", intervalS: 100 },
    ratePerS: 1,
    system: "plas",
    engines: 1,
    preset: "a100-8b",
    seed: 1,
    ...changes,
  };
}

/** @param tokenLatencyS of each program. @param workShare of all of them that was completed. */
export function fakeRun(tokenLatencyS: number[], workShare = 1): RunResult {
  return {
    programs: tokenLatencyS.length,
    unfinished: workShare < 1 ? 1 : 0,
    tokenLatencyS,
    offeredWork: 1_000,
    completedWork: 1_000 * workShare,
    waitingMs: 300,
    serviceMs: 700,
    deciles: emptyDeciles(),
    callClasses: CALL_CLASSES.map(() => ({ programs: 0, waitingMs: 0, serviceMs: 0 })),
    endedAtMs: 60_000,
    engine: {
      steps: 10,
      windows: 5,
      busyMs: 900,
      idleMs: 100,
      batchMean: 4,
      prefilledTokens: 250,
      cachedTokens: 600,
      hostHitTokens: 150,
      swapOuts: 2,
      swapIns: 2,
      swapTransfers: 4,
      swapMs: 9,
      planMs: 90,
    },
    promotions: 1,
    demotions: 2,
    preemptions: 3,
    calls: 100,
    callsInEngineMean: 4,
    waitingCallsMean: 2,
    wallMs: 500,
  };
}

/** Plays whatever `answer` says, at most `width` at once. */
export function fakeExecutor(answer: (spec: RunSpec) => RunResult | Promise<RunResult>, width = 2) {
  const played: RunSpec[] = [];
  let running = 0;
  const executor: Executor & { played: RunSpec[]; runningMax: number } = {
    width,
    played,
    runningMax: 0,
    execute: async (spec) => {
      running++;
      executor.runningMax = Math.max(executor.runningMax, running);
      played.push(spec);
      await Promise.resolve();
      try {
        return await answer(spec);
      } finally {
        running--;
      }
    },
    close: async () => {},
  };
  return executor;
}
