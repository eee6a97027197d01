/** Plays one run: makes its programs, simulates them under its system, and keeps what a point needs. */
import { balancers, doublingLadder, isBalancerName } from "@autellix/core";
import { type EnginePreset, presets } from "@autellix/engines/cost";
import {
  type FrozenChanges,
  finiteTrace,
  isWorkloadName,
  type ProgramSpec,
  type SimulationResult,
  type SimulationSpec,
  type System,
  sensitivities,
  simulate,
  systems,
  type WorkloadName,
  workloads,
} from "@autellix/simulation";
import { aloneWithGapsMs } from "./alone.ts";
import { decileEdges, workTokensOf } from "./deciles.ts";
import { warmUpPrograms } from "./protocols.ts";
import type { RunSpec, SystemChanges } from "./spec.ts";
import { type RunResult, summariseRun } from "./summary.ts";

/** Programs that the tenths of a workload are cut by, and their seed: no run's own. */
const DECILE_PROGRAMS = 1_000;
const DECILE_SEED = 0;
const CACHED_EDGES_MAX = 64;

export interface Played {
  programs: readonly ProgramSpec[];
  /** Of the measured ones. */
  range: { from: number; to: number };
  untilMs?: number;
}

/** @param play the simulator; tests give their own. */
export function playRun(spec: RunSpec, play: (spec: SimulationSpec) => SimulationResult = simulate): RunResult {
  const preset = presetOf(spec);
  const { programs, range, untilMs } = programsFor(spec, preset);
  const startedMs = performance.now();
  const result = play({
    programs,
    engines: spec.engines,
    preset,
    system: systemOf(spec.system, spec.changes),
    ...(untilMs === undefined ? {} : { untilMs, untilEnded: range }),
    ...(spec.wantsCallService ? { keepCalls: true } : {}),
  });
  const wallMs = Math.round(performance.now() - startedMs);
  const run = summariseRun({ programs, range, decileEdges: edgesOf(spec), result, wallMs });
  if (untilMs === undefined && run.unfinished > 0)
    throw new Error(`${run.unfinished} programs of a finite trace never ended`);
  return run;
}

/** The programs of a run in order of arrival, and which of them are measured. */
export function programsFor(spec: RunSpec, preset: EnginePreset): Played {
  const { protocol, ratePerS } = spec;
  const workload = workloadOf(spec);
  const options = {
    ratePerS,
    seed: spec.seed,
    changes: changesOf(spec),
    ...(spec.arrivals === undefined ? {} : { arrivals: spec.arrivals }),
  };
  if (protocol.kind === "finite") {
    const programs = finiteTrace(workload, { ...options, intervalMs: protocol.intervalS * 1_000 });
    return { programs, range: { from: 0, to: programs.length } };
  }
  const make = workloads[workload];
  if (protocol.kind === "count") {
    const programs = make({ ...options, programs: protocol.programs });
    return { programs, range: { from: 0, to: programs.length } };
  }
  const from = warmUpPrograms(protocol, ratePerS);
  const range = { from, to: from + protocol.measuredPrograms };
  const first = make({ ...options, programs: range.to });
  const measured = first.slice(range.from);
  const longestMs = Math.max(...measured.map((program) => aloneWithGapsMs(program, preset.cost)));
  const boundMs = Math.max(protocol.boundMsMin, protocol.boundFactor * longestMs);
  const untilMs = (measured.at(-1)?.arrivesAtMs ?? 0) + boundMs;
  // Arrivals go on to the bound: those measured meet a full system to their end.
  const more = Math.ceil((ratePerS * boundMs) / 1_000);
  const programs = make({ ...options, programs: range.to + more });
  return { programs: programs.filter(({ arrivesAtMs }) => arrivesAtMs <= untilMs), range, untilMs };
}

/** A named system with what the run changes in it. @throws for a name that does not exist. */
export function systemOf(name: string, changes: SystemChanges = {}): System {
  const system = Object.values(systems).find((known) => known.name === name);
  if (!system) throw new Error(`there is no system "${name}"`);
  const { balancer, beta, calibration, fixedLadder, ...same } = changes;
  if (balancer !== undefined && !isBalancerName(balancer)) throw new Error(`there is no balancer "${balancer}"`);
  return {
    ...system,
    ...same,
    ...(balancer === undefined ? {} : { balancer: balancers[balancer] }),
    ...(beta === undefined ? {} : { beta: beta === "never" ? Number.POSITIVE_INFINITY : beta }),
    ...(calibration === undefined ? {} : { ladder: calibration }),
    ...(fixedLadder === undefined
      ? {}
      : { ladder: doublingLadder(fixedLadder.first, fixedLadder.levels, fixedLadder.factor) }),
  };
}

function presetOf({ preset, planFactor = 1 }: RunSpec): EnginePreset {
  const known = Object.entries(presets).find(([name]) => name === preset)?.[1];
  if (!known) throw new Error(`there is no preset "${preset}"`);
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
