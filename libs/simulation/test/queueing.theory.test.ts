/** The simulator, with the scheduler that ships in it, against queueing theory: a million calls at load 0.7. */
import { policies } from "@autellix/core";
import { beforeAll, describe, expect, it } from "vitest";
import { type Random, type SimulationResult, type System, simulate } from "../src/index.ts";
import { simple, withPolicy } from "./lab.ts";
import { idleMsOf, LOAD, leastAttainedServiceMs, poisson, server, sizesOf, tinyLevels } from "./queueing.ts";

const CALLS = 1_000_000;
const PLAY_TIMEOUT_MS = 300_000;

interface Queue {
  result: SimulationResult;
  sizes: Float64Array;
  /** Means over calls. */
  sizeMs: number;
  waitingMs: number;
  responseMs: number;
  idleMs: number;
}

function playQueue(draw: (random: Random) => number, system: System): Queue {
  const sizes = sizesOf(CALLS, draw);
  const programs = poisson(sizes);
  const result = simulate({ programs, engines: 1, preset: server, system, plansOn: "arrival" });
  const mean = (of: (program: SimulationResult["programs"][number]) => number) =>
    result.programs.reduce((sum, program) => sum + of(program), 0) / CALLS;
  const [sizeMs, waitingMs] = [mean(({ serviceMs }) => serviceMs), mean((program) => program.waitingMs)];
  return { result, sizes, sizeMs, waitingMs, responseMs: sizeMs + waitingMs, idleMs: idleMsOf(programs) };
}

/** What holds for every order in which a server that is never idle without need serves its calls. */
function expectLaws({ result, sizes, sizeMs, responseMs, idleMs }: Queue): void {
  const [engine] = result.engine;
  expect(result.completedTokens).toBe(sizes.reduce((sum, size) => sum + size, 0));
  expect(sizeMs).toBeCloseTo(result.completedTokens / CALLS, 6);
  // Work conservation: idle just when nothing is there. A sum of a million floating-point times is good to a millisecond.
  expect(Math.abs((engine?.idleMs ?? 0) - idleMs)).toBeLessThan(1);
  expectWithin((engine?.busyMs ?? 0) / result.endedAtMs, LOAD, 0.01);
  // Little's law, for the calls in the system and for those in service.
  const ratePerMs = LOAD / sizeMs;
  expectWithin(result.callsInEngineMean + result.waitingCallsMean, ratePerMs * responseMs, 0.02);
  expectWithin(result.callsInEngineMean, LOAD, 0.02);
}

function expectWithin(actual: number, expected: number, share: number): void {
  expect(Math.abs(actual / expected - 1), `${actual} is within ${share * 100} % of ${expected}`).toBeLessThan(share);
}

describe("M/M/1, first come, first served", () => {
  // Sizes of 1,000 ms on average: rounding them to whole steps changes nothing that is seen here.
  let queue: Queue;
  beforeAll(() => {
    queue = playQueue((random) => random.exponential(1_000), { ...simple, windowSteps: Number.MAX_SAFE_INTEGER });
  }, PLAY_TIMEOUT_MS);

  it("waits ρ / (1 − ρ) · E[S]", () => {
    expectWithin(queue.waitingMs, (LOAD / (1 - LOAD)) * queue.sizeMs, 0.03);
  });

  it("obeys Little's law, conserves work, and is used as much as it is loaded", () => expectLaws(queue));
});

/**
 * Least attained service as the limit of Algorithm 1 with tiny levels: each call begins in Q1, is demoted after each
 * quantum, and is preempted at the next step when another arrives. A quantum is 0.4 of the mean size; with a quarter of
 * it the mean response differs by less than half a per cent.
 */
const QUANTUM = 40;
const attained = withPolicy(policies.mlfq, {
  ladder: tinyLevels(QUANTUM, 400),
  windowSteps: QUANTUM,
  beta: Number.POSITIVE_INFINITY,
});

describe.each([
  // With exponential sizes the mean is that of first come, first served.
  { name: "exponential sizes", draw: (random: Random) => random.exponential(100), shareOfFirstCome: 1.05 },
  { name: "hyperexponential sizes", draw: (random: Random) => random.hyperexponential(100, 2), shareOfFirstCome: 0.6 },
])("M/G/1, least attained service, $name", ({ draw, shareOfFirstCome }) => {
  let queue: Queue;
  beforeAll(() => {
    queue = playQueue(draw, attained);
  }, PLAY_TIMEOUT_MS);

  it("responds as the foreground-background formula says", () => {
    expectWithin(queue.responseMs, leastAttainedServiceMs(queue.sizes), 0.05);
  });

  it("obeys Little's law, conserves work, and is used as much as it is loaded", () => expectLaws(queue));

  it("preempts, which pays where sizes vary", () => {
    expect(queue.result.preemptions).toBeGreaterThan(CALLS / 2);
    const squares = queue.sizes.reduce((sum, size) => sum + size * size, 0) / CALLS;
    // Pollaczek–Khinchine.
    const firstComeMs = (LOAD / queue.sizeMs) * (squares / (2 * (1 - LOAD))) + queue.sizeMs;
    expect(queue.responseMs).toBeLessThan(shareOfFirstCome * firstComeMs);
  });
});
