import { describe, expect, it } from "vitest";
import { MOVE_AGAIN_AFTER, SwapCosts } from "../src/swap-costs.ts";

/** 100 bytes a token, so many ms for 1,000 tokens out and back each; recomputing 1,000 takes 100 ms. */
function measured(oneWayMs: number): SwapCosts {
  const costs = new SwapCosts();
  costs.transferred("out", { tokens: 1_000, bytes: 100_000, durationMs: oneWayMs });
  costs.transferred("in", { tokens: 1_000, bytes: 100_000, durationMs: oneWayMs });
  costs.stepped({ durationMs: 50, prefilledTokens: 500, decodedCalls: 0 });
  return costs;
}

/** Which of the next contexts that have to leave are moved. */
const asked = (costs: SwapCosts, times: number) => Array.from({ length: times }, () => costs.isWorthMoving(1_000));

describe("swap or recompute", () => {
  it("moves what was never measured: that measures it", () => {
    const costs = new SwapCosts();
    expect(costs.isWorthMoving(100)).toBe(true);
    costs.stepped({ durationMs: 1, prefilledTokens: 1_000, decodedCalls: 0 });
    expect(costs.isWorthMoving(100)).toBe(true);
    costs.transferred("out", { tokens: 100, bytes: 1_000, durationMs: 1_000 });
    expect(costs.isWorthMoving(100)).toBe(false);
  });

  it("takes the cheaper way by bytes, bandwidth both ways and prefill speed", () => {
    const costs = measured(10);
    expect([costs.moveMs(2_000), costs.recomputeMs(2_000)]).toEqual([40, 200]);
    expect(costs.isWorthMoving(2_000)).toBe(true);
    expect(measured(100).isWorthMoving(2_000)).toBe(false);
  });

  it("expects the way back to take as long as the way out before one was measured", () => {
    const costs = new SwapCosts();
    costs.transferred("out", { tokens: 10, bytes: 1_000, durationMs: 5 });
    expect(costs.moveMs(10)).toBe(10);
    costs.transferred("in", { tokens: 10, bytes: 1_000, durationMs: 1 });
    expect(costs.moveMs(10)).toBe(6);
  });

  it("does not count what a mixed step takes to decode", () => {
    const costs = new SwapCosts();
    costs.stepped({ durationMs: 20, prefilledTokens: 0, decodedCalls: 4 });
    costs.stepped({ durationMs: 30, prefilledTokens: 10, decodedCalls: 4 });
    expect(costs.recomputeMs(1)).toBeCloseTo(1, 9);
  });

  it("follows the engine: a long transfer says more than a short one, a new one more than an old one", () => {
    const costs = measured(10);
    const slow = { tokens: 1_000, bytes: 100_000, durationMs: 100 };
    costs.transferred("out", { tokens: 1, bytes: 100, durationMs: 5 });
    expect(costs.moveMs(1_000)).toBeLessThan(26);
    for (let i = 0; i < 100; i++) costs.transferred("out", slow);
    expect(costs.moveMs(1_000)).toBeCloseTo(110, 0);
  });

  it("changes its mind only for a clear difference", () => {
    const costs = measured(60);
    expect(asked(costs, 2)).toEqual([true, true]);
    expect(asked(measured(63), 1)).toEqual([false]);
    const back = measured(63);
    expect(asked(back, 1)).toEqual([false]);
    for (let i = 0; i < 200; i++) {
      for (const way of ["out", "in"] as const)
        back.transferred(way, { tokens: 1_000, bytes: 100_000, durationMs: 45 });
    }
    expect(asked(back, 1)).toEqual([false]);
  });

  it("moves one again from time to time: what was measured may be of bad times", () => {
    const choices = asked(measured(1_000), 2 * MOVE_AGAIN_AFTER + 2);
    expect(choices.filter((moved) => moved)).toHaveLength(2);
    expect(choices[MOVE_AGAIN_AFTER]).toBe(true);
  });

  it("takes no notice of transfers of nothing", () => {
    const costs = new SwapCosts();
    costs.transferred("out", { tokens: 0, bytes: 0, durationMs: 5 });
    expect(costs.moveMs(1)).toBeUndefined();
  });
});
