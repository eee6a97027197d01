/**
 * What is kept of a run: enough to add seeds up to a point, and no more.
 */
import type { ProgramResult, ProgramSpec, SimulationResult } from "@autellix/simulation";
import { quantile } from "../stats.ts";
import { addToDecile, type DecileSums, decileOf, emptyDeciles, workTokensOf } from "./deciles.ts";

/** Programs by their number of calls (paper fig. 6): upper ends, the last one is open. */
export const CALL_CLASSES = [22, 91, 141, 300, Number.POSITIVE_INFINITY] as const;

export interface CallClass {
  programs: number;
  waitingMs: number;
  serviceMs: number;
}

/** Sums over the engines of a run. Times are ms. */
export interface EngineSums {
  steps: number;
  windows: number;
  busyMs: number;
  idleMs: number;
  /** Calls in a step. */
  batchMean: number;
  prefilledTokens: number;
  cachedTokens: number;
  hostHitTokens: number;
  swapOuts: number;
  swapIns: number;
  swapTransfers: number;
  swapMs: number;
  planMs: number;
}

export interface RunResult {
  /** Measured programs, ended or not. */
  programs: number;
  unfinished: number;
  /** Stopped because the queue grew: see the steady protocol. */
  grew?: boolean;
  /** s/token of each measured program; of an unfinished one what it had spent, over all its tokens: a lower bound. */
  tokenLatencyS: number[];
  /** Tokens of the measured programs (see `workTokensOf`), and those of the ended ones. */
  offeredWork: number;
  completedWork: number;
  /** Over all calls of the measured programs, engine time. */
  waitingMs: number;
  serviceMs: number;
  deciles: DecileSums;
  callClasses: CallClass[];
  /** When the last program ended, or the run was stopped. */
  endedAtMs: number;
  engine: EngineSums;
  promotions: number;
  demotions: number;
  preemptions: number;
  /** Calls of the programs that arrived in the run, measured or not, played to their end or not: for rates per call. */
  calls: number;
  callsInEngineMean: number;
  waitingCallsMean: number;
  /** 25th percentile of calls' service, when the specification wants it. */
  callServiceP25Ms?: number;
  /** What the simulation took, on this machine. */
  wallMs: number;
}

export interface SummaryInput {
  programs: readonly ProgramSpec[];
  range: { from: number; to: number };
  decileEdges: readonly number[];
  result: SimulationResult;
  wallMs: number;
}

export function summariseRun({ programs, range, decileEdges, result, wallMs }: SummaryInput): RunResult {
  const deciles = emptyDeciles();
  const callClasses = CALL_CLASSES.map(() => ({ programs: 0, waitingMs: 0, serviceMs: 0 }));
  const tokenLatencyS: number[] = [];
  let [unfinished, offeredWork, completedWork, waitingMs, serviceMs] = [0, 0, 0, 0, 0];
  const played = new Map(result.programs.map((program) => [program.index, program]));
  for (let index = range.from; index < range.to; index++) {
    const spec = programs[index];
    if (!spec) throw new Error(`program ${index} of ${range.to} was not made`);
    const work = workTokensOf(spec);
    offeredWork += work;
    const program = played.get(index);
    // A run that is stopped before a program arrives has measured nothing.
    if (!program) throw new Error(`program ${index} did not arrive before the run was stopped`);
    if (program.endedAtMs === undefined) unfinished++;
    else completedWork += work;
    tokenLatencyS.push(rounded(tokenLatencyOf(program, spec)));
    addToDecile(deciles, decileOf(decileEdges, work), program.responseMs / Math.max(program.aloneMs, 1e-9));
    addToClass(callClasses, spec.calls.length, program);
    waitingMs += program.waitingMs;
    serviceMs += program.serviceMs;
  }
  const callServices = result.calls?.map((call) => call.serviceMs).sort((a, b) => a - b);
  return {
    programs: range.to - range.from,
    unfinished,
    tokenLatencyS,
    offeredWork,
    completedWork,
    waitingMs,
    serviceMs,
    deciles,
    callClasses,
    endedAtMs: result.endedAtMs,
    engine: engineSums(result.engine),
    promotions: result.promotions,
    demotions: result.demotions,
    preemptions: result.preemptions,
    calls: result.programs.reduce((sum, program) => sum + program.calls, 0),
    callsInEngineMean: result.callsInEngineMean,
    waitingCallsMean: result.waitingCallsMean,
    ...(callServices ? { callServiceP25Ms: quantile(callServices, 0.25) } : {}),
    wallMs,
  };
}

/** Program-level token latency (paper §6): response time over the tokens generated. s */
function tokenLatencyOf(program: ProgramResult, spec: ProgramSpec): number {
  const tokens = spec.calls.reduce((sum, call) => sum + call.decodeTokens, 0);
  return program.responseMs / 1_000 / Math.max(1, tokens);
}

function addToClass(classes: CallClass[], calls: number, program: ProgramResult): void {
  const at = classes[CALL_CLASSES.findIndex((upTo) => calls <= upTo)];
  if (!at) throw new Error(`no class for a program of ${calls} calls`);
  at.programs++;
  at.waitingMs += program.waitingMs;
  at.serviceMs += program.serviceMs;
}

function engineSums(engines: SimulationResult["engine"]): EngineSums {
  const sum = (read: (engine: SimulationResult["engine"][number]) => number) =>
    engines.reduce((total, engine) => total + read(engine), 0);
  const steps = sum((e) => e.steps);
  return {
    steps,
    windows: sum((e) => e.windows),
    busyMs: sum((e) => e.busyMs),
    idleMs: sum((e) => e.idleMs),
    batchMean: steps === 0 ? 0 : sum((e) => e.batchMean * e.steps) / steps,
    prefilledTokens: sum((e) => e.prefilledTokens),
    cachedTokens: sum((e) => e.cachedTokens),
    hostHitTokens: sum((e) => e.hostHitTokens),
    swapOuts: sum((e) => e.swapOuts),
    swapIns: sum((e) => e.swapIns),
    swapTransfers: sum((e) => e.swapTransfers),
    swapMs: sum((e) => e.swapMs),
    planMs: sum((e) => e.planMs),
  };
}

/** Five digits: what a stored file needs, and no reader sees more. */
function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
