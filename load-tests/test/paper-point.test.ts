import type { ProgramSpec } from "@autellix/simulation";
import { describe, expect, test } from "vitest";
import { decileEdges, decileOf, meanSlowdowns, mergeDeciles, workTokensOf } from "../src/paper/deciles.ts";
import { autellixOf, crossing, gridOf, paperCurve, paperRateAt } from "../src/paper/paper-figures.ts";
import { pointOf } from "../src/paper/point.ts";
import { finite, programsOf, SEEDS_MIN, seedsOf, steady, warmUpPrograms } from "../src/paper/protocols.ts";
import type { Scope } from "../src/paper/section.ts";
import { confidence95 } from "../src/stats.ts";
import { fakeRun, fakeSpec } from "./paper-fakes.ts";

const scope: Scope = {
  workloads: ["sharegpt"],
  systems: ["plas"],
  finite: true,
  steady: true,
  quick: false,
  preset: "a100-8b",
  seedsMin: SEEDS_MIN,
};

describe("a confidence interval", () => {
  test("is Student's", () => {
    // Mean 2, deviation 1, three values: 4.303 / √3.
    expect(confidence95([1, 2, 3])).toEqual({ mean: 2, halfWidth: expect.closeTo(2.484, 3) });
    expect(confidence95([5, 5]).halfWidth).toBe(0);
  });

  test("is unknown for one value", () => {
    expect(confidence95([4])).toEqual({ mean: 4, halfWidth: Number.NaN });
  });
});

describe("tenths of the programs", () => {
  const edges = decileEdges(Array.from({ length: 100 }, (_, index) => index + 1));

  test("have as many programs each", () => {
    expect(edges).toEqual([10, 20, 30, 40, 50, 60, 70, 80, 90]);
    const counts = Array.from({ length: 10 }, () => 0);
    for (let size = 1; size <= 100; size++) counts[decileOf(edges, size)] = (counts[decileOf(edges, size)] ?? 0) + 1;
    expect(counts).toEqual(Array.from({ length: 10 }, () => 10));
    expect(decileOf(edges, 1e9)).toBe(9);
  });

  test("add up over runs, and one without programs has no slowdown", () => {
    const one = { programs: [1, 0], slowdown: [4, 0], slowdownMax: [4, 0] };
    const two = { programs: [3, 0], slowdown: [8, 0], slowdownMax: [6, 0] };
    const merged = mergeDeciles([one, two]);
    expect(merged.slowdownMax[0]).toBe(6);
    expect(meanSlowdowns(merged).slice(0, 2)).toEqual([3, undefined]);
  });

  test("go by tokens that must be computed, whatever a cache finds", () => {
    const program: ProgramSpec = {
      id: "p",
      workload: "w",
      arrivesAtMs: 0,
      sharedPrompt: "s",
      sharedPromptTokens: 100,
      calls: [
        { parents: [], gapMs: 0, extends: undefined, newPromptTokens: 10, decodeTokens: 5 },
        { parents: [0], gapMs: 0, extends: 0, newPromptTokens: 20, decodeTokens: 7 },
      ],
    };
    expect(workTokensOf(program)).toBe(142);
  });
});

describe("a point", () => {
  test("is the mean over its seeds, with the tail of all their programs", () => {
    const point = pointOf(fakeSpec(), [1, 2], [fakeRun([1, 1, 1, 1]), fakeRun([3, 3, 3, 3])]);
    expect(point.mean.mean).toBe(2);
    expect(point.p95).toBe(3);
    expect(point.programs).toBe(8);
    expect(point.waitingShare).toBeCloseTo(0.3);
    expect(point.hitRate).toBeCloseTo(0.75);
    expect(point.promotionsPerCall).toBeCloseTo(0.01);
    expect(point.makespanS).toBe(60);
  });

  test("has no 99th percentile of fewer than 1,000 programs", () => {
    const values = (count: number) => Array.from({ length: count }, (_, index) => index / count);
    expect(pointOf(fakeSpec(), [1], [fakeRun(values(999))]).p99).toBeUndefined();
    expect(pointOf(fakeSpec(), [1], [fakeRun(values(1_000))]).p99).toBeCloseTo(0.99, 2);
  });

  test("is unstable when less than 99 % of the work was completed, over all seeds together", () => {
    expect(pointOf(fakeSpec(), [1], [fakeRun([1], 0.985)])).toMatchObject({ stable: false, workShare: 0.985 });
    expect(pointOf(fakeSpec(), [1, 2], [fakeRun([1], 0.985), fakeRun([1], 1)]).stable).toBe(true);
  });
});

describe("the protocols", () => {
  const spec = { ...fakeSpec(), protocol: finite(scope, "sharegpt") };

  test("a finite trace has rate × interval programs, and more seeds where those are few", () => {
    const { protocol } = spec;
    if (protocol.kind !== "finite") throw new Error("no finite trace");
    expect(programsOf({ ...spec, ratePerS: 2 })).toBe(2 * protocol.intervalS);
    expect(seedsOf({ ...spec, ratePerS: 4 })).toHaveLength(SEEDS_MIN);
    const rare = { ...spec, ratePerS: 0.1 };
    expect(seedsOf(rare).length * programsOf(rare)).toBeGreaterThanOrEqual(1_000);
  });

  test("a steady state measures 1,000 programs in all, 300 of those with hundreds of calls", () => {
    const measured = (workload: string) => {
      const protocol = steady(scope, workload);
      return programsOf({ ...spec, protocol }) * seedsOf({ ...spec, workload, protocol }).length;
    };
    expect(measured("sharegpt")).toBeGreaterThanOrEqual(1_000);
    expect(measured("lats")).toBeGreaterThanOrEqual(300);
    expect(measured("lats")).toBeLessThan(400);
  });

  test("its warm-up is half an hour of arrivals, and never less than a fifth of the programs", () => {
    const protocol = steady(scope, "sharegpt");
    if (protocol.kind !== "steady") throw new Error("no steady state");
    expect(warmUpPrograms(protocol, 2)).toBe(3_600);
    const few = warmUpPrograms(protocol, 0.001);
    expect(few / (few + protocol.measuredPrograms)).toBeCloseTo(0.2, 2);
  });
});

describe("the paper's curves", () => {
  test("are there for every workload and system that it has, and for no other", () => {
    for (const workload of ["sharegpt", "bfcl", "lats", "mixed"])
      for (const kind of ["mean", "p95", "p99"] as const)
        for (const system of ["vllm", "vllm-opt", "mlfq", autellixOf(workload)])
          expect(paperCurve(workload, system, kind)?.length, `${workload} ${system} ${kind}`).toBeGreaterThan(2);
    expect(paperCurve("sharegpt", "atlas", "mean")).toBeUndefined();
    expect(paperCurve("swe", "plas", "mean")).toBeUndefined();
    expect(paperCurve("sharegpt", "srpt", "mean")).toBeUndefined();
  });

  test("cross the limits where the digest of the paper says", () => {
    expect(paperRateAt("sharegpt", "vllm-opt", 0.5)).toBeCloseTo(1.72, 1);
    expect(paperRateAt("sharegpt", "plas", 1)).toBeCloseTo(4.14, 1);
    expect(paperRateAt("lats", "atlas", 0.5)).toBeCloseTo(0.245, 2);
    expect(paperRateAt("mixed", "mlfq", 1)).toBeCloseTo(0.217, 2);
  });

  test("a limit that a curve never reaches has no rate", () => {
    expect(
      crossing(
        [
          [1, 0.1],
          [2, 0.2],
        ],
        0.5,
      ),
    ).toBeUndefined();
    expect(
      crossing(
        [
          [1, 0.1],
          [2, 0.3],
          [3, 0.1],
        ],
        0.2,
      ),
    ).toBeCloseTo(1.5);
  });

  test("the grid of each workload rises", () => {
    for (const workload of ["sharegpt", "bfcl", "lats", "mixed", "swe"]) {
      const grid = gridOf(workload);
      expect([...grid].sort((a, b) => a - b)).toEqual(grid);
    }
  });
});
