/**
 * A point of a curve: the runs of its seeds, added up.
 */
import { type Confidence, confidence95, quantile } from "../stats.ts";
import { meanSlowdowns, mergeDeciles } from "./deciles.ts";
import { P99_PROGRAMS_MIN, WORK_SHARE_MIN } from "./protocols.ts";
import type { PointSpec } from "./spec.ts";
import type { CallClass, EngineSums, RunResult } from "./summary.ts";

export interface PointResult {
  spec: PointSpec;
  seeds: number[];
  programs: number;
  unfinished: number;
  /** ≥ 99 % of the measured programs' work was completed, in all seeds together, and no queue was seen to grow. */
  stable: boolean;
  workShare: number;
  /** s/token. The mean over seeds of each seed's mean, with its 95 % interval. */
  mean: Confidence;
  p95: number;
  /** `undefined` below 1,000 programs. */
  p99: number | undefined;
  /** Waiting as a share of waiting and service. */
  waitingShare: number;
  /** Mean response over response alone, by tenth of program size. */
  slowdowns: (number | undefined)[];
  slowdownWorst: number;
  callClasses: CallClass[];
  /** Share of prompt tokens that were not computed: found on the engine, or loaded from its host tier. */
  hitRate: number;
  /** Means over seeds. */
  engine: EngineSums;
  makespanS: number;
  promotionsPerCall: number;
  preemptionsPerCall: number;
  callsInEngineMean: number;
  waitingCallsMean: number;
  callServiceP25Ms: number | undefined;
  /** Of all seeds together, on one core. */
  wallS: number;
}

export function pointOf(spec: PointSpec, seeds: readonly number[], runs: readonly RunResult[]): PointResult {
  if (runs.length === 0 || runs.length !== seeds.length) throw new Error("a point needs a run for each of its seeds");
  const sum = (read: (run: RunResult) => number) => runs.reduce((total, run) => total + read(run), 0);
  const latencies = runs.flatMap((run) => run.tokenLatencyS).sort((a, b) => a - b);
  const programs = sum((run) => run.programs);
  const workShare = sum((run) => run.completedWork) / sum((run) => run.offeredWork);
  const [waitingMs, serviceMs] = [sum((run) => run.waitingMs), sum((run) => run.serviceMs)];
  const found = sum(({ engine }) => engine.cachedTokens + engine.hostHitTokens);
  const prefilled = sum((run) => run.engine.prefilledTokens);
  const deciles = mergeDeciles(runs.map((run) => run.deciles));
  const calls = Math.max(
    1,
    sum((run) => run.calls),
  );
  const services = runs.flatMap((run) => run.callServiceP25Ms ?? []);
  return {
    spec,
    seeds: [...seeds],
    programs,
    unfinished: sum((run) => run.unfinished),
    stable: workShare >= WORK_SHARE_MIN && !runs.some(({ grew }) => grew),
    workShare,
    mean: confidence95(runs.map(meanLatencyOf)),
    p95: quantile(latencies, 0.95),
    p99: programs < P99_PROGRAMS_MIN ? undefined : quantile(latencies, 0.99),
    waitingShare: waitingMs / Math.max(1e-9, waitingMs + serviceMs),
    slowdowns: meanSlowdowns(deciles),
    slowdownWorst: Math.max(...deciles.slowdownMax),
    callClasses: mergeClasses(runs.map((run) => run.callClasses)),
    hitRate: found / Math.max(1, found + prefilled),
    engine: meanEngine(runs.map((run) => run.engine)),
    makespanS: sum((run) => run.endedAtMs) / runs.length / 1_000,
    promotionsPerCall: sum((run) => run.promotions) / calls,
    preemptionsPerCall: sum((run) => run.preemptions) / calls,
    callsInEngineMean: sum((run) => run.callsInEngineMean) / runs.length,
    waitingCallsMean: sum((run) => run.waitingCallsMean) / runs.length,
    callServiceP25Ms: services.length === 0 ? undefined : services.reduce((a, b) => a + b, 0) / services.length,
    wallS: sum((run) => run.wallMs) / 1_000,
  };
}

/** Whether others of its size cannot make up for what this run left undone: then they need not be played. */
export function isHopeless(run: RunResult, seeds: number): boolean {
  return run.grew === true || 1 - run.completedWork / run.offeredWork > seeds * (1 - WORK_SHARE_MIN);
}

/** Mean program-level token latency of one run. s/token */
export function meanLatencyOf(run: RunResult): number {
  return run.tokenLatencyS.reduce((sum, value) => sum + value, 0) / run.tokenLatencyS.length;
}

function mergeClasses(parts: readonly (readonly CallClass[])[]): CallClass[] {
  return (parts[0] ?? []).map((_, index) => {
    const merged = { programs: 0, waitingMs: 0, serviceMs: 0 };
    for (const part of parts) {
      merged.programs += part[index]?.programs ?? 0;
      merged.waitingMs += part[index]?.waitingMs ?? 0;
      merged.serviceMs += part[index]?.serviceMs ?? 0;
    }
    return merged;
  });
}

function meanEngine(engines: readonly EngineSums[]): EngineSums {
  const steps = engines.reduce((sum, engine) => sum + engine.steps, 0);
  const mean = (read: (engine: EngineSums) => number) =>
    engines.reduce((sum, engine) => sum + read(engine), 0) / engines.length;
  return {
    steps: mean((e) => e.steps),
    windows: mean((e) => e.windows),
    busyMs: mean((e) => e.busyMs),
    idleMs: mean((e) => e.idleMs),
    batchMean: steps === 0 ? 0 : engines.reduce((sum, e) => sum + e.batchMean * e.steps, 0) / steps,
    prefilledTokens: mean((e) => e.prefilledTokens),
    cachedTokens: mean((e) => e.cachedTokens),
    hostHitTokens: mean((e) => e.hostHitTokens),
    swapOuts: mean((e) => e.swapOuts),
    swapIns: mean((e) => e.swapIns),
    swapTransfers: mean((e) => e.swapTransfers),
    swapMs: mean((e) => e.swapMs),
    planMs: mean((e) => e.planMs),
  };
}
