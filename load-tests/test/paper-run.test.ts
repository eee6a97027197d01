import { systems } from "@autellix/simulation";
import { describe, expect, test } from "vitest";
import { aloneWithGapsMs } from "../src/paper/alone.ts";
import { codeHash, frozenHash } from "../src/paper/identity.ts";
import { PAPER_SYSTEMS } from "../src/paper/options.ts";
import { isHopeless, meanLatencyOf } from "../src/paper/point.ts";
import { WorkerPool } from "../src/paper/pool.ts";
import { growthOf, playRun, systemOf } from "../src/paper/run-point.ts";
import type { RunSpec } from "../src/paper/spec.ts";
import { fakeRun, fakeSpec } from "./paper-fakes.ts";

const small = fakeSpec({ workload: "equal", protocol: { kind: "count", programs: 20 }, ratePerS: 0.5 });
const steady = {
  kind: "steady",
  measuredPrograms: 20,
  warmUpMs: 60_000,
  boundMsMin: 60_000,
  boundFactors: [1, 3, 10],
} as const;

/** Without what the machine decides. */
function played(spec: RunSpec) {
  const { wallMs, ...result } = playRun(spec);
  expect(wallMs).toBeGreaterThanOrEqual(0);
  return result;
}

describe("a run", () => {
  test("of a finite trace ends all of its programs, and is the same when it is played again", () => {
    const run = played(small);
    expect(run).toMatchObject({ programs: 20, unfinished: 0, calls: 160 });
    expect(run.completedWork).toBe(run.offeredWork);
    expect(run.tokenLatencyS).toHaveLength(20);
    expect(run.deciles.programs.reduce((a, b) => a + b)).toBe(20);
    expect(run.callClasses[0]?.programs).toBe(20);
    expect(run.engine.cachedTokens).toBeGreaterThan(0);
    expect(played(small)).toEqual(run);
    expect(played({ ...small, seed: 2 }).tokenLatencyS).not.toEqual(run.tokenLatencyS);
  });

  test("takes at least as long per token as a step, and longer where programs meet", () => {
    expect(Math.min(...played(small).tokenLatencyS)).toBeGreaterThan(0.0079);
    expect(meanLatencyOf(playRun({ ...small, ratePerS: 5 }))).toBeGreaterThan(meanLatencyOf(playRun(small)));
  });

  test("of a steady state measures those after the warm-up, while others go on to arrive", () => {
    const run = played({ ...small, protocol: steady });
    expect(run).toMatchObject({ programs: 20, unfinished: 0 });
    // 30 of the warm-up, 20 measured: more calls than theirs have ended or begun.
    expect(run.calls).toBeGreaterThan(50 * 8);
    expect(run.grew).toBeUndefined();
  });

  test("in overload is stopped because the queue grows, long before its bound", () => {
    const run = played({ ...small, protocol: steady, ratePerS: 100 });
    expect(run.grew).toBe(true);
    expect(run.unfinished).toBeGreaterThan(0);
    expect(run.completedWork).toBeLessThan(run.offeredWork);
  });

  test("tells the percentile of calls' service when the specification wants it", () => {
    expect(playRun(small).callServiceP25Ms).toBeUndefined();
    expect(playRun({ ...small, wantsCallService: true }).callServiceP25Ms).toBeGreaterThan(128 * 7.9);
  });

  test("with another time of plans, cache or configuration is another run", () => {
    const mean = (spec: Partial<RunSpec>) => meanLatencyOf(playRun({ ...small, ...spec }));
    expect(mean({ planFactor: 0 })).toBeLessThan(mean({}));
    expect(mean({ changes: { cache: "none" } })).toBeGreaterThan(mean({}));
    const chat = fakeSpec({ protocol: { kind: "count", programs: 20 } });
    expect(playRun({ ...chat, sensitivity: "token variation ×2" }).offeredWork).not.toBe(playRun(chat).offeredWork);
  });

  test("names what does not exist", () => {
    expect(() => playRun({ ...small, workload: "chat" })).toThrow('no workload "chat"');
    expect(() => playRun({ ...small, system: "best" })).toThrow('no system "best"');
    expect(() => playRun({ ...small, preset: "tpu" })).toThrow('not "tpu"');
    expect(() => playRun({ ...small, sensitivity: "mood" })).toThrow('no sensitivity "mood"');
    expect(() => playRun({ ...small, changes: { balancer: "dice" } })).toThrow('no balancer "dice"');
  });

  test("is played by a worker thread as in this one, whose errors come back", async () => {
    const pool = new WorkerPool(1);
    try {
      const { wallMs, ...result } = await pool.execute(small);
      expect(result).toEqual(played(small));
      await expect(pool.execute({ ...small, system: "best" })).rejects.toThrow('no system "best"');
      expect((await pool.execute(small)).programs).toBe(20);
    } finally {
      await pool.close();
    }
  });
});

describe("a system", () => {
  test("of each name in the report exists", () => {
    for (const name of PAPER_SYSTEMS) expect(systemOf(name).name).toBe(name);
  });

  test("is changed in what a variant says, and in nothing else", () => {
    const changed = systemOf("plas", { beta: "never", balancer: "sticky", misfit: "skip" });
    expect(changed).toEqual({
      ...systems.plas,
      beta: Number.POSITIVE_INFINITY,
      balancer: expect.objectContaining({ name: "sticky" }),
      misfit: "skip",
    });
    const shape = { first: 10, levels: 2, factor: 2 };
    expect(systemOf("plas", { calibration: shape }).ladder).toEqual(shape);
    expect(systemOf("plas", { fixedLadder: shape }).ladder).toEqual([
      { lo: 0, hi: 10, quantum: 10 },
      { lo: 10, hi: Number.POSITIVE_INFINITY, quantum: 20 },
    ]);
  });
});

test("growth compares the programs in the system in the last quarter with those in the second", () => {
  const base = playRunResult([]);
  const forever = (arrivedAtMs: number) => ({ arrivedAtMs, endedAtMs: undefined });
  // One from the start, and one more from 75 on.
  expect(growthOf({ ...base, ...playRunResult([forever(0), forever(75)]), endedAtMs: 100 })).toBeCloseTo(2);
  expect(growthOf({ ...base, ...playRunResult([forever(0)]), endedAtMs: 100 })).toBeCloseTo(1);
  expect(
    growthOf({ ...base, ...playRunResult([{ arrivedAtMs: 0, endedAtMs: 50 }, forever(50)]), endedAtMs: 100 }),
  ).toBeCloseTo(1);
});

/** As much of a result as growth looks at. */
function playRunResult(programs: readonly { arrivedAtMs: number; endedAtMs: number | undefined }[]) {
  const zeros = {
    calls: 1,
    decodeTokens: 1,
    promptTokens: 1,
    cachedTokens: 0,
    serviceMs: 1,
    waitingMs: 0,
    responseMs: 1,
  };
  const rest = { pathServiceMs: 1, pathWaitingMs: 0, aloneMs: 1, workload: "w" };
  return {
    programs: programs.map((program, index) => ({ index, ...zeros, ...rest, ...program })),
    endedAtMs: 0,
    offeredTokens: 1,
    completedTokens: 1,
    engine: [],
    promotions: 0,
    demotions: 0,
    preemptions: 0,
    callsInEngineMean: 0,
    waitingCallsMean: 0,
  };
}

test("a run is hopeless when others of its size cannot make up for it", () => {
  expect(isHopeless(fakeRun([1], 0.96), 3)).toBe(true);
  expect(isHopeless(fakeRun([1], 0.98), 3)).toBe(false);
  expect(isHopeless({ ...fakeRun([1]), grew: true }, 3)).toBe(true);
});

test("the time alone is that of the longest path, with its gaps", () => {
  const cost = { stepMs: 10, prefillTokenMs: 1, contextTokenMs: 0 };
  const call = (parents: number[], gapMs: number, decodeTokens: number) => ({
    parents,
    gapMs,
    decodeTokens,
    extends: undefined,
    newPromptTokens: 5,
  });
  const calls = [call([], 0, 1), call([0], 100, 2), call([0], 0, 20), call([1, 2], 7, 1)];
  const program = { id: "p", workload: "w", arrivesAtMs: 0, sharedPrompt: "", sharedPromptTokens: 0, calls };
  // 15, then 205 beside 125, then 7 + 15.
  expect(aloneWithGapsMs(program, cost)).toBe(15 + 205 + 22);
});

test("results are known by the configuration and the code of today", () => {
  expect(frozenHash()).toMatch(/^[0-9a-f]{12}$/);
  expect(codeHash()).toMatch(/^[0-9a-f]{12}$/);
  expect(codeHash()).toBe(codeHash());
});
