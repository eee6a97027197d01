/** Open queues for the simulator, and what queueing theory says of them. */
import type { Ladder, Level } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import { type ProgramSpec, Random } from "../src/index.ts";
import { call, plain, program } from "./lab.ts";

/** One server: a step is a token is a millisecond. Plans cost nothing, contexts take no room. */
export const server: EnginePreset = {
  ...plain,
  cost: { stepMs: 1, prefillTokenMs: 0, contextTokenMs: 0, decodeTokenMs: 0, planMs: 0 },
  batchCallsMax: 1,
  residentCallsMax: 1e9,
  kvTokens: 1e12,
  hostKvTokens: 1e12,
};

/** The load of every test. */
export const LOAD = 0.7;
/** Calls that one program carries: programs do not matter here, and few of them are quicker. */
const PROGRAM_CALLS = 1_000;

/** Sizes in tokens, each with its mean; rounded, so the mean must be large enough for that to change nothing. */
export function sizesOf(count: number, draw: (random: Random) => number): Float64Array {
  const random = Random.from(7).split("size");
  return Float64Array.from({ length: count }, () => Math.max(1, Math.round(draw(random))));
}

/** Poisson arrivals at the load. Every call is a root of its program; a gap is the time since its program came. */
export function poisson(sizes: Float64Array): ProgramSpec[] {
  const random = Random.from(7).split("gap");
  const meanGapMs = sizes.reduce((sum, size) => sum + size, 0) / sizes.length / LOAD;
  const programs: ProgramSpec[] = [];
  let at = 0;
  for (let from = 0; from < sizes.length; from += PROGRAM_CALLS) {
    at += random.exponential(meanGapMs);
    const arrivesAtMs = at;
    const calls = Array.from(sizes.subarray(from, from + PROGRAM_CALLS), (size, index) => {
      if (index > 0) at += random.exponential(meanGapMs);
      return call(0, size, { gapMs: at - arrivesAtMs });
    });
    programs.push(program(arrivesAtMs, calls));
  }
  return programs;
}

/**
 * Mean response of M/G/1 with least attained service, preemptive (foreground-background): over sizes x,
 * `T(x) = λ E[min(S,x)²] / (2 (1 − ρ_x)²) + x / (1 − ρ_x)` with `ρ_x = λ E[min(S,x)]`
 * (Kleinrock, Queueing Systems II, 4.6). The expectation is taken over the very sizes that were played.
 */
export function leastAttainedServiceMs(sizes: Float64Array): number {
  const sorted = sizes.toSorted();
  const count = sorted.length;
  const rate = LOAD / (sorted.reduce((sum, size) => sum + size, 0) / count);
  let [below, belowSquared, response] = [0, 0, 0];
  for (const [index, x] of sorted.entries()) {
    const above = count - index;
    const first = (below + above * x) / count;
    const second = (belowSquared + above * x * x) / count;
    const free = 1 - rate * first;
    response += (rate * second) / (2 * free * free) + x / free;
    below += x;
    belowSquared += x * x;
  }
  return response / count;
}

/** Time that a server is idle when it never is while a call waits, whatever its order (Lindley's recursion). */
export function idleMsOf(programs: readonly ProgramSpec[]): number {
  let [idle, freeAt] = [0, 0];
  for (const { arrivesAtMs, calls } of programs) {
    for (const { gapMs, decodeTokens } of calls) {
      const at = arrivesAtMs + gapMs;
      if (at > freeAt) {
        idle += at - freeAt;
        freeAt = at;
      }
      freeAt += decodeTokens;
    }
  }
  return idle;
}

/** Levels of one width; those that only the longest calls reach grow wider, or there would be thousands. */
export function tinyLevels(quantum: number, levels: number): Ladder {
  const ladder: Level[] = [];
  let [lo, width] = [0, quantum];
  for (let i = 0; i < levels; i++) {
    const hi = i === levels - 1 ? Number.POSITIVE_INFINITY : lo + width;
    ladder.push({ lo, hi, quantum: width });
    lo = hi;
    if (i >= levels / 4) width = Math.ceil((width * WIDER) / quantum) * quantum;
  }
  return ladder;
}

const WIDER = 1.05;
