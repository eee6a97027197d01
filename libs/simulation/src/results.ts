/** What a simulation found, by program, by engine and, when asked for, by call. */
import { attendedBy, decodeStepsCost, type EngineCost } from "@autellix/engines/cost";
import type { VirtualAgent } from "./agent.ts";
import type { SimCall, SimProgram } from "./calls.ts";
import type { CallSpec } from "./program.ts";
import type { System } from "./systems.ts";

export interface ProgramResult {
  index: number;
  workload: string;
  /** Of its specification; `decodeTokens` too. */
  calls: number;
  arrivedAtMs: number;
  /** Undefined: it had not ended when the run was stopped, and what follows counts its calls so far. */
  endedAtMs: number | undefined;
  decodeTokens: number;
  /** Of its calls that have begun; so are `cachedTokens`. */
  promptTokens: number;
  /** Prompt tokens that were found in the cache or its host tier. */
  cachedTokens: number;
  /** Sum over calls: time in a batch. */
  serviceMs: number;
  /** Sum over calls: from arrival to end without service. */
  waitingMs: number;
  /**
   * From arrival to end without the interrupts on the path that led to the end. The paper's program-level token latency
   * is this over `decodeTokens`.
   */
  responseMs: number;
  /** Sums along that path; together they are the response. */
  pathServiceMs: number;
  pathWaitingMs: number;
  /** The response with an engine of its own and a cache that holds all its prefixes; the slowdown is set against it. */
  aloneMs: number;
}

export interface EngineResult {
  steps: number;
  windows: number;
  /** Steps, with the swaps that held them up. */
  busyMs: number;
  /** Neither steps nor planning. */
  idleMs: number;
  /** Over steps: calls in the batch. */
  batchMean: number;
  batchMax: number;
  prefilledTokens: number;
  decodedTokens: number;
  /** Prompt tokens that calls found on the engine when their first prefill began, and those loaded from the host tier. */
  cachedTokens: number;
  hostHitTokens: number;
  swapOuts: number;
  swapIns: number;
  /** Of swaps and of loads from the host tier, as the next two. */
  swapTransfers: number;
  swapBytes: number;
  swapMs: number;
  /** Modelled time of planning. */
  planMs: number;
  /** Blocks of resident contexts at once, each counted whole, as the core plans with them. */
  kvBlocksMax: number;
  /** Contexts that left the engine because others had outgrown a plan that did not know of it. */
  outgrown: number;
}

export interface CallResult {
  program: number;
  call: number;
  engine: number;
  arrivedAtMs: number;
  /** When its engine applied the first plan that named it. */
  dispatchedAtMs: number;
  firstTokenAtMs: number;
  endedAtMs: number;
  serviceMs: number;
  promptTokens: number;
  cachedTokens: number;
  decodeTokens: number;
}

export interface SimulationResult {
  /** Those that have arrived, by index. */
  programs: ProgramResult[];
  /** When the last program ended, or the run was stopped. */
  endedAtMs: number;
  /** Tokens to generate of the programs that have arrived, and of the calls that have ended. */
  offeredTokens: number;
  completedTokens: number;
  engine: EngineResult[];
  promotions: number;
  demotions: number;
  preemptions: number;
  /** Means over time: calls in a batch, and calls that have arrived and are in none. */
  callsInEngineMean: number;
  waitingCallsMean: number;
  calls?: CallResult[];
}

export function programResult(program: SimProgram, at: number, cost: EngineCost, system: System): ProgramResult {
  const { spec } = program;
  let [promptTokens, cachedTokens, serviceMs, waitingMs, decodeTokens] = [0, 0, 0, 0, 0];
  for (const call of spec.calls) decodeTokens += call.decodeTokens;
  for (const call of program.calls) {
    if (!call) continue;
    if (call.wasBegun) promptTokens += call.promptTokens;
    cachedTokens += call.cachedTokens;
    serviceMs += call.serviceMs;
    waitingMs += waitedMs(call, at);
  }
  const path = pathOf(program, at);
  return {
    index: program.index,
    workload: spec.workload,
    calls: spec.calls.length,
    arrivedAtMs: program.arrivedAt,
    endedAtMs: program.endedAt,
    decodeTokens,
    promptTokens,
    cachedTokens,
    serviceMs,
    waitingMs,
    ...path,
    aloneMs: aloneMs(program, cost, system),
  };
}

function waitedMs(call: SimCall, at: number): number {
  return Math.max(0, (call.endedAt ?? at) - call.arrivedAt - call.serviceMs);
}

/**
 * Back from the call that ended last, by the parent that ended last. While a program runs: from its last arrival. In
 * the open loop a call can arrive before its parent has ended: then the parent counts up to that arrival.
 */
function pathOf(program: SimProgram, at: number) {
  const sums = { responseMs: 0, pathServiceMs: 0, pathWaitingMs: 0 };
  let until = at;
  for (let call = lastCall(program); call; call = lastOf(program, program.spec.calls[call.index]?.parents)) {
    const wholeMs = (call.endedAt ?? at) - call.arrivedAt;
    const countedMs = Math.min(call.endedAt ?? at, until) - call.arrivedAt;
    const share = countedMs < wholeMs ? countedMs / wholeMs : 1;
    sums.responseMs += countedMs;
    sums.pathServiceMs += call.serviceMs * share;
    sums.pathWaitingMs += waitedMs(call, at) * share;
    until = call.arrivedAt;
  }
  return sums;
}

function lastCall(program: SimProgram): SimCall | undefined {
  let last: SimCall | undefined;
  for (const call of program.calls) {
    if (!call) continue;
    const active = call.endedAt === undefined;
    if (!last || (active ? last.endedAt !== undefined || call.arrivedAt < last.arrivedAt : endsAfter(call, last)))
      last = call;
  }
  return last;
}

/** @returns whether both have ended, and this one later. */
function endsAfter(call: SimCall, last: SimCall): boolean {
  return call.endedAt !== undefined && last.endedAt !== undefined && call.endedAt > last.endedAt;
}

function lastOf(program: SimProgram, indices: readonly number[] = []): SimCall | undefined {
  let last: SimCall | undefined;
  for (const index of indices) {
    const call = program.calls[index];
    if (call && (!last || endsAfter(call, last))) last = call;
  }
  return last;
}

/** Each call alone in its batch, every prefix cached. Exact for a chain; siblings do not slow each other, so else a lower bound. */
function aloneMs({ spec, promptTokens }: SimProgram, cost: EngineCost, system: System): number {
  const ends: number[] = [];
  /** Interrupts on the path to each call's end. */
  const gaps: number[] = [];
  let last = 0;
  for (const [index, call] of spec.calls.entries()) {
    let [startsAt, gapMs] = [0, 0];
    for (const parent of call.parents) {
      const end = ends[parent] ?? 0;
      if (end <= startsAt) continue;
      startsAt = end;
      gapMs = gaps[parent] ?? 0;
    }
    ends.push(startsAt + call.gapMs + aloneCallMs(call, promptTokens[index] ?? 0, cost, system));
    gaps.push(gapMs + call.gapMs);
    if ((ends[index] ?? 0) > (ends[last] ?? 0)) last = index;
  }
  return (ends[last] ?? 0) - (gaps[last] ?? 0);
}

function aloneCallMs(call: CallSpec, promptTokens: number, cost: EngineCost, system: System): number {
  const { chunkTokens, windowSteps } = system;
  const newTokens = Math.max(1, call.samePromptAs === undefined ? call.newPromptTokens : 0);
  const prefillSteps = chunkTokens === Number.POSITIVE_INFINITY ? 1 : Math.ceil(newTokens / chunkTokens);
  const decodeSteps = Math.max(0, call.decodeTokens - 1);
  return (
    prefillSteps * (cost.stepMs + (cost.prefillMs ?? 0)) +
    newTokens * cost.prefillTokenMs +
    attendedBy(newTokens, promptTokens - newTokens) * (cost.attendedTokenMs ?? 0) +
    decodeStepsCost(cost, { decodeTokens: 1, contextTokens: promptTokens }, decodeSteps) +
    Math.ceil((prefillSteps + decodeSteps) / windowSteps) * cost.planMs
  );
}

export function engineResult({ model, windows }: VirtualAgent, endedAtMs: number): EngineResult {
  const { counts, kv } = model;
  const { steps, busyMs, planMs, stepCalls, batchMax, prefilledTokens, decodedTokens, outgrown } = counts;
  return {
    steps,
    windows,
    busyMs,
    idleMs: Math.max(0, endedAtMs - busyMs - planMs),
    batchMean: steps === 0 ? 0 : stepCalls / steps,
    batchMax,
    prefilledTokens,
    decodedTokens,
    cachedTokens: kv.cachedTokens,
    hostHitTokens: kv.hostHitTokens,
    ...kv.swaps.counts,
    planMs,
    kvBlocksMax: kv.residentBlocksMax,
    outgrown,
  };
}

export function callResult(call: SimCall, engine: number): CallResult {
  return {
    program: call.program.index,
    call: call.index,
    engine,
    arrivedAtMs: call.arrivedAt,
    dispatchedAtMs: call.dispatchedAt,
    firstTokenAtMs: call.firstTokenAt,
    endedAtMs: call.endedAt ?? Number.NaN,
    serviceMs: call.serviceMs,
    promptTokens: call.promptTokens,
    cachedTokens: call.cachedTokens,
    decodeTokens: call.decodeTokens,
  };
}
