/** Plays one run: makes its programs, simulates them under its system, and keeps what a point needs. */
import { balancers, doublingLadder, isBalancerName } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import { readPreset } from "@autellix/engines/preset-file";
import {
  type FrozenChanges,
  finiteTrace,
  isWorkloadName,
  type SimulationResult,
  type SimulationSpec,
  type System,
  sensitivities,
  simulate,
  systems,
  type WorkloadName,
  type WorkloadOptions,
  workloads,
} from "@autellix/simulation";
import { aloneWithGapsMs } from "./alone.ts";
import { decileEdges, workTokensOf } from "./deciles.ts";
import { GROWTH_MIN, warmUpPrograms } from "./protocols.ts";
import type { Protocol, RunSpec, SystemChanges } from "./spec.ts";
import { type RunResult, summariseRun } from "./summary.ts";

/** Programs that the tenths of a workload are cut by, and their seed: no run's own. */
const DECILE_PROGRAMS = 1_000;
const DECILE_SEED = 0;
const CACHED_EDGES_MAX = 64;

/** @param play the simulator; tests give their own. */
export function playRun(spec: RunSpec, play: (spec: SimulationSpec) => SimulationResult = simulate): RunResult {
  const { protocol } = spec;
  return protocol.kind === "steady" ? playSteady(spec, protocol, play) : playFinite(spec, protocol, play);
}

type Play = (spec: SimulationSpec) => SimulationResult;

function playFinite(spec: RunSpec, protocol: Exclude<Protocol, { kind: "steady" }>, play: Play): RunResult {
  const workload = workloadOf(spec);
  const programs =
    protocol.kind === "finite"
      ? finiteTrace(workload, { ...optionsOf(spec), intervalMs: protocol.intervalS * 1_000 })
      : workloads[workload]({ ...optionsOf(spec), programs: protocol.programs });
  const { result, wallMs } = timed(() => play({ ...commonOf(spec), programs }));
  const range = { from: 0, to: programs.length };
  const run = summariseRun({ programs, range, decileEdges: edgesOf(spec), result, wallMs });
  if (run.unfinished > 0) throw new Error(`${run.unfinished} programs of a finite trace never ended`);
  return run;
}

/** Follows the measured programs to their end, in stages, while others go on to arrive: they meet a full system. */
function playSteady(spec: RunSpec, protocol: Protocol & { kind: "steady" }, play: Play): RunResult {
  const make = workloads[workloadOf(spec)];
  const from = warmUpPrograms(protocol, spec.ratePerS);
  const range = { from, to: from + protocol.measuredPrograms };
  const measured = make({ ...optionsOf(spec), programs: range.to }).slice(from);
  const { cost } = presetOf(spec);
  const longestMs = Math.max(...measured.map((program) => aloneWithGapsMs(program, cost)));
  const lastMs = measured.at(-1)?.arrivesAtMs ?? 0;
  let spentMs = 0;
  for (const [stage, factor] of protocol.boundFactors.entries()) {
    const boundMs = factor * Math.max(protocol.boundMsMin, longestMs);
    const untilMs = lastMs + boundMs;
    const more = Math.ceil((ARRIVALS_MARGIN * spec.ratePerS * boundMs) / 1_000);
    const programs = make({ ...optionsOf(spec), programs: range.to + more });
    const { result, wallMs } = timed(() => play({ ...commonOf(spec), programs, untilMs, untilEnded: range }));
    spentMs += wallMs;
    const run = summariseRun({ programs, range, decileEdges: edgesOf(spec), result, wallMs: spentMs });
    if (run.unfinished === 0 || stage === protocol.boundFactors.length - 1) return run;
    if (growthOf(result) >= GROWTH_MIN) return { ...run, grew: true };
  }
  throw new Error("a steady protocol needs a bound");
}

/** Programs beyond those expected, so that arrivals never end before a run does. */
const ARRIVALS_MARGIN = 1.2;

/** Mean number of programs in the system in the last quarter of a run, over that in its second quarter. */
export function growthOf({ programs, endedAtMs }: SimulationResult): number {
  const meanOf = (fromMs: number, toMs: number) => {
    let area = 0;
    for (const program of programs)
      area += Math.max(0, Math.min(toMs, program.endedAtMs ?? endedAtMs) - Math.max(fromMs, program.arrivedAtMs));
    return area / (toMs - fromMs);
  };
  const quarter = endedAtMs / 4;
  return meanOf(3 * quarter, endedAtMs) / meanOf(quarter, 2 * quarter);
}

function timed(play: () => SimulationResult): { result: SimulationResult; wallMs: number } {
  const startedMs = performance.now();
  const result = play();
  return { result, wallMs: Math.round(performance.now() - startedMs) };
}

function commonOf(spec: RunSpec): Omit<SimulationSpec, "programs"> {
  return {
    engines: spec.engines,
    preset: presetOf(spec),
    system: systemOf(spec.system, spec.changes),
    ...(spec.wantsCallService ? { keepCalls: true } : {}),
  };
}

function optionsOf(spec: RunSpec): Omit<WorkloadOptions, "programs"> {
  const { ratePerS, seed, arrivals } = spec;
  return { ratePerS, seed, changes: changesOf(spec), ...(arrivals === undefined ? {} : { arrivals }) };
}

/** A named system with what the run changes in it. @throws for a name that does not exist. */
export function systemOf(name: string, changes: SystemChanges = {}): System {
  const system = Object.values(systems).find((known) => known.name === name);
  if (!system) throw new Error(`there is no system "${name}"`);
  const { balancer, beta, promotedShare, calibration, fixedLadder, ...same } = changes;
  if (balancer !== undefined && !isBalancerName(balancer)) throw new Error(`there is no balancer "${balancer}"`);
  return {
    ...system,
    ...same,
    ...(balancer === undefined ? {} : { balancer: balancers[balancer] }),
    ...(beta === undefined ? {} : { beta: beta === "never" ? Number.POSITIVE_INFINITY : beta }),
    ...(promotedShare === undefined
      ? {}
      : { promotedShare: promotedShare === "all" ? Number.POSITIVE_INFINITY : promotedShare }),
    ...(calibration === undefined ? {} : { ladder: calibration }),
    ...(fixedLadder === undefined
      ? {}
      : { ladder: doublingLadder(fixedLadder.first, fixedLadder.levels, fixedLadder.factor) }),
  };
}

function presetOf({ preset, planFactor = 1 }: RunSpec): EnginePreset {
  const known = readPreset(preset);
  return planFactor === 1 ? known : { ...known, cost: { ...known.cost, planMs: known.cost.planMs * planFactor } };
}

function workloadOf({ workload }: RunSpec): WorkloadName {
  if (!isWorkloadName(workload)) throw new Error(`there is no workload "${workload}"`);
  return workload;
}

/** What a sensitivity run changes in the frozen configuration. */
function changesOf({ sensitivity }: RunSpec): FrozenChanges {
  if (sensitivity === undefined) return {};
  const known = sensitivities.find(({ name }) => name === sensitivity);
  if (!known) throw new Error(`there is no sensitivity "${sensitivity}"`);
  return known.changes;
}

const edges = new Map<string, number[]>();

/** The same tenths for every run of a workload. */
function edgesOf(spec: RunSpec): readonly number[] {
  const key = `${spec.workload} ${spec.sensitivity ?? ""}`;
  const known = edges.get(key);
  if (known) return known;
  const sample = { programs: DECILE_PROGRAMS, ratePerS: 1, seed: DECILE_SEED, changes: changesOf(spec) };
  const made = decileEdges(workloads[workloadOf(spec)](sample).map(workTokensOf));
  if (edges.size >= CACHED_EDGES_MAX) edges.clear();
  edges.set(key, made);
  return made;
}
