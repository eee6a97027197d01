import { describe, expect, it } from "vitest";
import { Histogram, Pmf, Random, threefry } from "../src/random.ts";

const DRAWS = 200_000;

function moments(draw: () => number): { mean: number; deviation: number } {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < DRAWS; i++) {
    const value = draw();
    sum += value;
    squares += value * value;
  }
  const mean = sum / DRAWS;
  return { mean, deviation: Math.sqrt(squares / DRAWS - mean * mean) };
}

describe("threefry", () => {
  it("gives the words that its authors publish", () => {
    expect(threefry([0, 0], [0, 0])).toEqual([0x6b200159, 0x99ba4efe]);
    expect(threefry([0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff])).toEqual([0x1cb996fc, 0xbb002be7]);
    expect(threefry([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3])).toEqual([0xc4923a9c, 0x483df7a0]);
  });
});

describe("a stream", () => {
  it("is the same for the same seed and labels, and another one for others", () => {
    const take = (random: Random) => Array.from({ length: 8 }, () => random.next());
    expect(take(Random.from(7).split("a", 3))).toEqual(take(Random.from(7).split("a").split(3)));
    const streams = [
      Random.from(7),
      Random.from(8),
      Random.from(7 + 2 ** 32),
      Random.from(7).split("a"),
      Random.from(7).split("b"),
      Random.from(7).split("ab"),
      Random.from(7).split("ba"),
      Random.from(7).split("a", "b"),
      Random.from(7).split(3),
      Random.from(7).split("3"),
      Random.from(7).split(3 + 2 ** 32),
    ].map((random) => take(random).join());
    expect(new Set(streams).size).toBe(streams.length);
  });

  it("is not shifted by what was drawn before it was split off", () => {
    const drawn = Random.from(1);
    for (let i = 0; i < 100; i++) drawn.next();
    expect(drawn.split("x").next()).toBe(Random.from(1).split("x").next());
  });

  it("refuses seeds and labels that are no whole numbers", () => {
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 60]) {
      expect(() => Random.from(bad)).toThrow(RangeError);
      expect(() => Random.from(1).split(bad)).toThrow(RangeError);
    }
  });

  it("is uniform: chi-square over 100 cells, also across neighbouring streams", () => {
    const cells = (draw: (i: number) => number) => {
      const counts = new Array<number>(100).fill(0);
      for (let i = 0; i < DRAWS; i++) {
        const cell = Math.floor(draw(i) * 100);
        counts[cell] = (counts[cell] ?? 0) + 1;
      }
      return counts.reduce((sum, count) => sum + (count - DRAWS / 100) ** 2 / (DRAWS / 100), 0);
    };
    const one = Random.from(3);
    const root = Random.from(3);
    // 99 degrees of freedom: 149 is passed once in a thousand; the seed is fixed.
    expect(cells(() => one.next())).toBeLessThan(149);
    expect(cells((i) => root.split(i).next())).toBeLessThan(149);
  });
});

describe("distributions", () => {
  const close = (value: number, expected: number) => expect(Math.abs(value / expected - 1)).toBeLessThan(0.02);

  it("have the mean and spread that they are asked for", () => {
    const random = Random.from(11);
    const exponential = moments(() => random.exponential(5));
    close(exponential.mean, 5);
    close(exponential.deviation, 5);
    const logNormal = moments(() => random.logNormal(277, 1.2));
    close(logNormal.mean, 277);
    expect(Math.abs(logNormal.deviation / logNormal.mean / 1.2 - 1)).toBeLessThan(0.05);
    const normal = moments(() => 10 + random.normal());
    close(normal.mean, 10);
    close(normal.deviation, 1);
    const bursty = moments(() => random.hyperexponential(2, 3));
    close(bursty.mean, 2);
    close(bursty.deviation, 6);
    expect(random.logNormal(4, 0)).toBe(4);
  });

  it("truncate a normal at 0 by drawing again", () => {
    const random = Random.from(5);
    const far = moments(() => random.normalAbove0(10.9, 2.1));
    close(far.mean, 10.9);
    close(far.deviation, 2.1);
    // Half normal: mean = deviation · √(2/π).
    close(moments(() => random.normalAbove0(0, 3)).mean, 3 * Math.sqrt(2 / Math.PI));
    expect(() => random.normalAbove0(-100, 1)).toThrow(RangeError);
  });

  it("of whole numbers follow their probabilities, normalised", () => {
    const random = Random.from(2);
    const pmf = new Pmf({ 1: 2, 5: 1, 9: 1, 11: 0 });
    const counts = new Map<number, number>();
    for (let i = 0; i < DRAWS; i++) {
      const value = pmf.draw(random);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual([1, 5, 9]);
    close((counts.get(1) ?? 0) / DRAWS, 0.5);
    close((counts.get(9) ?? 0) / DRAWS, 0.25);
    expect([pmf.quantile(0), pmf.quantile(0.4999), pmf.quantile(0.5), pmf.quantile(0.999)]).toEqual([1, 1, 5, 9]);
  });

  it("by histogram are uniform inside a row", () => {
    const histogram = new Histogram([
      [0, 10, 0.05],
      [20, 30, 0.05],
    ]);
    expect([
      histogram.quantile(0),
      histogram.quantile(0.25),
      histogram.quantile(0.5),
      histogram.quantile(0.75),
    ]).toEqual([0, 5, 20, 25]);
    const random = Random.from(9);
    close(moments(() => histogram.draw(random)).mean, 15);
  });

  it("refuse what is no distribution", () => {
    expect(() => new Pmf({})).toThrow(RangeError);
    expect(() => new Pmf({ 1: -1 })).toThrow(RangeError);
    expect(() => new Histogram([[5, 5, 1]])).toThrow(RangeError);
    expect(() => Random.from(1).hyperexponential(1, 0.5)).toThrow(RangeError);
    expect(() => Random.from(1).pick([])).toThrow(RangeError);
  });
});
