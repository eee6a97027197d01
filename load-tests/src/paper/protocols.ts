/**
 * The two protocols. In the steady state arrivals do not stop and a warm-up is cut away; a finite trace arrives in
 * an interval and runs to its end, as in the paper. A heavy load has a latency only in the second: there the length of
 * the interval sets it, so it is printed, and swept.
 */
import type { Scope } from "./section.ts";
import type { PointSpec, Protocol } from "./spec.ts";

const MINUTE_MS = 60_000;

/** Programs by arrival that are measured, at least; a 99th percentile of fewer than 1,000 says nothing. */
export const POINT_PROGRAMS_MIN = 1_000;
/** Of workloads whose programs have hundreds of calls. */
export const POINT_PROGRAMS_MIN_LARGE = 300;
export const P99_PROGRAMS_MIN = 1_000;
/** A point below this is unstable: what did not end is the long programs, which hold the work. */
export const WORK_SHARE_MIN = 0.99;
/** Seeds of a point, at least: what its confidence interval is made of. */
export const SEEDS_MIN = 5;
/** At most: a rate so low that a run has few programs must not run for ever. */
export const SEEDS_MAX = 40;

/** A fifth of the programs by arrival, at least, is warm-up … */
const WARM_UP_SHARE = 0.2;
/** … and at least half an hour of arrivals: longer than nearly every program lasts when alone. */
const WARM_UP_MS = 30 * MINUTE_MS;
/**
 * Measured programs may take so many times as long as the longest of them would alone (ten minutes at least). It is
 * looked at in stages: a run whose queue only grows need not go on to the last one.
 */
const BOUND_FACTORS = [1, 3, 10] as const;
const BOUND_MS_MIN = 10 * MINUTE_MS;
/** A queue grows when it has so many times as many programs in the last quarter of a run as in the second. */
export const GROWTH_MIN = 2;

/** Programs of the workload have hundreds of calls: fewer of them make a point. */
const LARGE = new Set(["lats", "deep-research"]);

/** The interval of a finite trace, s: long enough for the wanted number of programs at the rates that matter. */
const INTERVALS_S: Readonly<Record<string, number>> = {
  sharegpt: 600,
  bfcl: 1_800,
  lats: 1_800,
  mixed: 1_800,
};
const INTERVAL_S = 1_800;

export function pointProgramsMin(workload: string): number {
  return LARGE.has(workload) ? POINT_PROGRAMS_MIN_LARGE : POINT_PROGRAMS_MIN;
}

export function intervalOf(workload: string): number {
  return INTERVALS_S[workload] ?? INTERVAL_S;
}

/** Shorter intervals and warm-ups for a quick run: they show that everything works, no more. */
const QUICK_FACTOR = 0.2;

/** @param factor of the workload's interval. */
export function finite({ quick }: Scope, workload: string, factor = 1): Protocol {
  return { kind: "finite", intervalS: intervalOf(workload) * factor * (quick ? QUICK_FACTOR : 1) };
}

/** @param seeds that share the point's programs; the scope's without it. */
export function steady(scope: Scope, workload: string, seeds = scope.seedsMin): Protocol {
  const factor = scope.quick ? QUICK_FACTOR : 1;
  return {
    kind: "steady",
    measuredPrograms: Math.ceil((scope.programsMin ?? pointProgramsMin(workload)) / seeds),
    warmUpMs: WARM_UP_MS * factor,
    boundMsMin: BOUND_MS_MIN,
    boundFactors: BOUND_FACTORS,
  };
}

/** Programs of one run that are measured; of a finite trace as many as are expected. */
export function programsOf({ protocol, ratePerS }: PointSpec): number {
  if (protocol.kind === "count") return protocol.programs;
  if (protocol.kind === "steady") return protocol.measuredPrograms;
  return Math.max(1, Math.round(ratePerS * protocol.intervalS));
}

/** Programs that arrive before the first measured one in the steady state. */
export function warmUpPrograms(protocol: Protocol & { kind: "steady" }, ratePerS: number): number {
  const byShare = (WARM_UP_SHARE / (1 - WARM_UP_SHARE)) * protocol.measuredPrograms;
  return Math.ceil(Math.max(byShare, (ratePerS * protocol.warmUpMs) / 1_000));
}

/**
 * Seeds of a point: the same ones for every system and rate. Rates at which a finite trace has few programs get more of
 * them, until the point has its programs.
 */
export function seedsOf(
  spec: PointSpec,
  seedsMin = SEEDS_MIN,
  programsMin = pointProgramsMin(spec.workload),
): number[] {
  const count = Math.min(SEEDS_MAX, Math.max(seedsMin, Math.ceil(programsMin / programsOf(spec))));
  return Array.from({ length: count }, (_, index) => index + 1);
}

export function describeProtocol(protocol: Protocol): string {
  if (protocol.kind === "finite")
    return `finite trace: all programs of ${protocol.intervalS} s of arrivals, run to the end`;
  if (protocol.kind === "count") return `finite trace: ${protocol.programs} programs, run to the end`;
  const { measuredPrograms, warmUpMs, boundFactors, boundMsMin } = protocol;
  return [
    `steady state: ${measuredPrograms} programs a seed measured, after a warm-up of ${warmUpMs / MINUTE_MS} min of arrivals (at least a fifth of the programs)`,
    `arrivals go on until the last one measured has ended, for ${boundFactors.at(-1)} times what the longest takes alone at most (at least ${((boundFactors.at(-1) ?? 1) * boundMsMin) / MINUTE_MS} min)`,
    `stable: ≥ ${WORK_SHARE_MIN * 100} % of the measured programs' work was completed; a run stops early as unstable when the programs in the system have doubled from its second quarter to its last`,
  ].join("; ");
}
