import { describe, expect, it } from "vitest";
import { decodeStepsCost, isPresetName, presets, stepCost, swapTime } from "../src/simulated/cost.ts";

describe("the cost model", () => {
  const cost = { stepMs: 10, prefillTokenMs: 2, contextTokenMs: 0.5, decodeTokenMs: 3 };

  it("adds weights, prompt tokens, contexts and generated tokens", () => {
    expect(stepCost(cost, { prefillTokens: 4, decodeTokens: 2, contextTokens: 100 })).toBe(10 + 8 + 50 + 6);
  });

  it("has a sum for steps in which each context grows by a token", () => {
    let sum = 0;
    for (let step = 0; step < 7; step++)
      sum += stepCost(cost, { prefillTokens: 0, decodeTokens: 3, contextTokens: 200 + 3 * step });
    expect(decodeStepsCost(cost, { decodeTokens: 3, contextTokens: 200 }, 7)).toBeCloseTo(sum, 9);
    expect(decodeStepsCost(cost, { decodeTokens: 3, contextTokens: 200 }, 0)).toBe(0);
  });

  it("knows its presets by name", () => {
    expect(isPresetName("a100-8b")).toBe(true);
    expect(isPresetName("toString")).toBe(false);
  });
});

describe("swapping on an A100", () => {
  const { swap, kvTokenBytes } = presets["a100-8b"];
  const moved = (tokens: number) => ({ bytes: tokens * kvTokenBytes, blocks: Math.ceil(tokens / 16) });

  it("is 3 to 7 times as fast in one transfer as block by block (paper Fig. 19)", () => {
    for (const tokens of [256, 1_024, 8_192]) {
      const ratio = swapTime(swap, "out", "block", moved(tokens)) / swapTime(swap, "out", "call", moved(tokens));
      expect(ratio).toBeGreaterThan(3);
      expect(ratio).toBeLessThan(7);
    }
  });

  it("moves 25 GB/s", () => {
    expect(swapTime(swap, "in", "call", { bytes: 25e9, blocks: 0 })).toBeCloseTo(1_000, 0);
  });
});

describe("presets", () => {
  it("of the A100s hold what is left of 90 % of their memory beside the weights", () => {
    const { kvTokens, kvTokenBytes } = presets["a100-8b"];
    expect(kvTokens * kvTokenBytes + 16e9).toBeCloseTo(72e9, -8);
    const large = presets["a100x4-70b"];
    expect(large.kvTokenBytes).toBe(320 * 1024);
    expect(large.kvTokens * large.kvTokenBytes + 140e9).toBeCloseTo(288e9, -8);
    expect(large.cost.stepMs).toBeGreaterThan(140 / 6.24);
  });

  it("of SmolLM2 on a CPU give what was measured", () => {
    const { cost, swap, kvTokenBytes } = presets["smollm2-cpu"];
    const tokensPerS = (batch: number) =>
      (batch * 1_000) / stepCost(cost, { prefillTokens: 0, decodeTokens: batch, contextTokens: batch * 500 });
    for (const batch of [1, 4, 8]) expect(tokensPerS(batch)).toBeCloseTo(90, 6);
    expect(stepCost(cost, { prefillTokens: 2_000, decodeTokens: 0, contextTokens: 0 })).toBeCloseTo(12_500, 6);
    const context = { bytes: 2_000 * kvTokenBytes, blocks: 125 };
    expect(context.bytes / 1e6).toBeCloseTo(46, 0);
    expect(swapTime(swap, "out", "call", context)).toBeCloseTo(23, 6);
    expect(swapTime(swap, "in", "call", context)).toBeCloseTo(12, 6);
  });
});
