import { describe, expect, test } from "vitest";
import { type Curve, findKnee, formatKnee, rateOf, roundRate } from "../src/paper/knee.ts";

/** Remembers the rates that it was asked for. */
function curveOf(latency: (rate: number) => number | undefined): { curve: Curve; asked: number[] } {
  const asked: number[] = [];
  return {
    asked,
    curve: async (rate) => {
      asked.push(rate);
      return latency(rate);
    },
  };
}

/** As a queue: 0.1 s/token at no load, without end towards 2 programs/s, unstable from there on. */
const queue = (rate: number) => (rate >= 2 ? undefined : 0.1 / (1 - rate / 2));

describe("the knee of a curve", () => {
  test("is found to two per cent, between two rates of the grid", async () => {
    const { curve, asked } = curveOf(queue);
    const knee = await findKnee(curve, { grid: [0.5, 1, 2, 4], limit: 0.5, tolerance: 0.02 });
    // 0.1 / (1 − r/2) = 0.5 at r = 1.6.
    expect(knee.kind).toBe("at");
    expect(rateOf(knee)).toBeLessThanOrEqual(1.6);
    expect(rateOf(knee)).toBeGreaterThan(1.6 * 0.98 - 1e-9);
    if (knee.kind === "at") expect(knee.aboveRatePerS).toBeGreaterThan(1.6);
    expect(asked).not.toContain(4);
    expect(asked.length).toBeLessThan(12);
  });

  test("is looked for below the grid, and is none when even there the latency is too high", async () => {
    const low = await findKnee(curveOf(queue).curve, { grid: [1.9, 4], limit: 0.2, tolerance: 0.02 });
    expect(rateOf(low)).toBeCloseTo(1, 1);
    const none = await findKnee(curveOf(() => 7).curve, { grid: [1, 2], limit: 0.5, tolerance: 0.02 });
    expect(none).toEqual({ kind: "none", lowestRatePerS: 0.125 });
    expect(formatKnee(none)).toBe("no stable point at this latency");
    expect(rateOf(none)).toBeUndefined();
  });

  test("an unstable point is above every limit", async () => {
    const knee = await findKnee(curveOf((rate) => (rate > 1 ? undefined : 0.01)).curve, {
      grid: [0.5, 2],
      limit: 1e9,
      tolerance: 0.02,
    });
    expect(rateOf(knee)).toBeLessThanOrEqual(1);
    expect(rateOf(knee)).toBeGreaterThan(0.98);
    const never = await findKnee(curveOf(() => undefined).curve, { grid: [1], limit: 1e9, tolerance: 0.02 });
    expect(never.kind).toBe("none");
  });

  test("beyond what was tried is said to be so, and gives no rate for a ratio", async () => {
    const knee = await findKnee(curveOf(() => 0.1).curve, { grid: [1, 2], limit: 0.5, tolerance: 0.02 });
    expect(knee).toEqual({ kind: "beyond", ratePerS: 8 });
    expect(formatKnee(knee)).toBe("> 8");
    expect(rateOf(knee)).toBeUndefined();
  });

  test("is the first crossing: a system that is fast again at a higher rate is not trusted with it", async () => {
    const bumpy = (rate: number) => (rate > 0.9 && rate < 1.1 ? 3 : 0.1);
    const knee = await findKnee(curveOf(bumpy).curve, { grid: [0.5, 1, 2], limit: 0.5, tolerance: 0.02 });
    expect(rateOf(knee)).toBeLessThan(1);
  });

  test("asks at rates of four digits, so that two searches share their points", () => {
    expect(roundRate(1.234_56)).toBe(1.235);
    expect(roundRate(0.000_123_456)).toBe(0.000_123_5);
  });
});
