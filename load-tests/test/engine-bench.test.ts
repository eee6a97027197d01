import { openSimulatedEngine } from "@autellix/engines";
import { presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { measureContexts } from "../src/engine-bench/contexts.ts";
import { promptOf } from "../src/engine-bench/load.ts";
import { parseEngineBenchOptions } from "../src/engine-bench/options.ts";
import { measurePairs, summarisePairs } from "../src/engine-bench/pairs.ts";
import { contextsReached, contextsText, throughputText } from "../src/engine-bench/report.ts";
import { DecodeWindow } from "../src/engine-bench/window.ts";
import { UsageError } from "../src/options.ts";

describe("the decode window", () => {
  it("counts while all calls generate, and not before or after", () => {
    const window = new DecodeWindow(2);
    // A token each 10 ms; the second call begins later, the first one ends earlier.
    for (let i = 1; i <= 20; i++) window.add("a", i, 10 * i);
    for (let i = 1; i <= 30; i++) window.add("b", i, 80 + 10 * i);
    // From b's 4th token (120 ms) to a's last (200 ms): 8 of each.
    expect(window.throughput()).toEqual({ tokensPerS: 200, tokens: 16, windowMs: 80, tokensAll: 50 });
  });

  it("takes tokens that come several at once", () => {
    const window = new DecodeWindow(1);
    for (const [tokens, atMs] of [
      [3, 10],
      [6, 20],
      [12, 40],
    ] as const)
      window.add(1, tokens, atMs);
    expect(window.throughput()).toEqual({ tokensPerS: 300, tokens: 6, windowMs: 20, tokensAll: 12 });
  });

  it("says when the calls never generated together", () => {
    const window = new DecodeWindow(2);
    for (let i = 1; i <= 9; i++) window.add("a", i, i);
    expect(() => window.throughput()).toThrow("1 of 2 calls");
    for (let i = 1; i <= 9; i++) window.add("b", i, 100 + i);
    expect(() => window.throughput()).toThrow("never all together");
  });
});

describe("pairs", () => {
  it("take turns", async () => {
    const order: string[] = [];
    const arm = (name: string, value: number) => async (round: number) => {
      order.push(`${name}${round}`);
      return { tokensPerS: value + round, cpuMsPerToken: 1_000 / value };
    };
    const pairs = await measurePairs(3, { direct: arm("d", 100), agent: arm("a", 90) });
    expect(order).toEqual(["d0", "a0", "a1", "d1", "d2", "a2"]);
    const summary = summarisePairs([pairs]);
    expect([summary.direct, summary.agent]).toEqual([101, 91]);
    expect(summary.share).toBeCloseTo(91 / 101, 9);
    expect([summary.directCpuMs, summary.agentCpuMs]).toEqual([10, 1_000 / 90]);
    const text = throughputText("direct", [{ batch: 4, ...summary }], 0.95);
    expect(text).toContain("90.1 %");
    expect(text).toContain("NO");
    expect(throughputText("direct", [{ batch: 4, ...summary }], 0.9)).toContain("yes");
  });

  it("are of loads with prompts of their own", () => {
    const load = { batch: 2, promptTokens: 40, tokens: 8, seed: 3 };
    const prompts = [promptOf(load, 0), promptOf(load, 1), promptOf({ ...load, seed: 4 }, 0)];
    expect(new Set(prompts).size).toBe(3);
    expect(promptOf(load, 0)).toBe(prompts[0]);
  });
});

describe("what a kept context is worth", () => {
  it("is measured through the port, and judged", async () => {
    const cost = { ...presets.zero.cost, prefillTokenMs: 0.5 };
    const swap = { outBytesPerMs: 1e6, inBytesPerMs: 1e6, transferMs: 1, copiesPerBlock: 0, copyMs: 0 };
    const engine = openSimulatedEngine({
      models: ["sim"],
      preset: { ...presets.zero, cost, swap, kvTokenBytes: 1_000, sliceTokens: 64 },
    });
    const result = await measureContexts(engine, { contextTokens: 600, repeats: 2, seed: 1 });
    expect(engine.counters()).toMatchObject({ residentCalls: 0, hostBytes: 0 });
    await engine.shutdown();
    expect(result.contextTokens).toBeGreaterThan(550);
    expect(result.contextTokens).toBeLessThan(650);
    expect(result.cachedTokens).toBeGreaterThanOrEqual(result.contextTokens - 1);
    for (const times of [result.recomputeMs, result.warmMs, result.hostMs, result.coldMs])
      expect(times).toHaveLength(2);
    for (const ms of result.swapOutMs) expect(ms).toBeCloseTo(1 + result.swapBytes / 1e6, 6);
    expect(Math.min(...result.coldMs)).toBeGreaterThan(250);
  });

  const good = {
    contextTokens: 2_000,
    swapBytes: 46e6,
    swapOutMs: [23],
    swapInMs: [12],
    recomputeMs: [12_500],
    cachedTokens: 1_990,
    coldMs: [12_600],
    warmMs: [300],
    hostMs: [310],
  };

  it.each([
    ["all of it", good, true],
    ["slow transfers", { ...good, swapOutMs: [250] }, false],
    ["a slow first token", { ...good, warmMs: [1_300] }, false],
    ["a slow first token from the host tier", { ...good, hostMs: [1_300] }, false],
  ])("reaches what was asked for: %s", (_, result, reached) => {
    expect(contextsReached(result)).toBe(reached);
    expect(contextsText(result).includes("NO")).toBe(!reached);
  });
});

describe("the command line of bench:engine", () => {
  it("has defaults", () => {
    expect(parseEngineBenchOptions(["--batches", "1,8"])).toMatchObject({
      batches: [1, 8],
      gpu: false,
      url: undefined,
    });
    expect(parseEngineBenchOptions(["--url", "http://127.0.0.1:8000/", "--slots", "8"])).toMatchObject({
      url: "http://127.0.0.1:8000",
      serverArgs: ["--slots", "8"],
    });
    expect(parseEngineBenchOptions(["-h"])).toBeUndefined();
  });

  it.each<[string[], string]>([
    [["--batches", "0"], "--batches"],
    [["--gpu", "1"], "--gpu must be auto or false"],
    [["--slots", "4"], "--slots is for --url"],
    [["--pairs", "none"], "--pairs"],
  ])("refuses %j", (args, message) => {
    expect(() => parseEngineBenchOptions(args)).toThrow(UsageError);
    expect(() => parseEngineBenchOptions(args)).toThrow(message);
  });
});
