import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Bench, Interrupted, progressLine } from "../src/paper/bench.ts";
import { rateOf } from "../src/paper/knee.ts";
import type { Executor } from "../src/paper/pool.ts";
import { RunStore } from "../src/paper/store.ts";
import { fakeExecutor, fakeRun, fakeSpec } from "./paper-fakes.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "paper-bench-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function benchOf(executor: Executor, more: { fresh?: boolean; code?: string } = {}) {
  const store = new RunStore(join(folder, "runs.jsonl"));
  return new Bench({ store, executor, frozen: "f", code: "c", seedsMin: 3, programsMin: 1, ...more });
}

const { seed: _, ...spec } = fakeSpec();

describe("the bench", () => {
  test("plays a run once, whoever asks for it, and never more at once than the executor can", async () => {
    const executor = fakeExecutor(({ seed }) => fakeRun([seed]));
    const bench = benchOf(executor);
    const [a, b] = await Promise.all([bench.point(spec), bench.point(spec)]);
    expect(a).toEqual(b);
    expect(executor.played.map(({ seed }) => seed).sort()).toEqual([1, 2, 3]);
    expect(executor.runningMax).toBe(2);
    expect(a.mean.mean).toBeCloseTo(2);
  });

  test("goes on where an interrupted one was", async () => {
    const first = benchOf(fakeExecutor(() => fakeRun([1])));
    await first.run({ ...spec, seed: 1 });
    const executor = fakeExecutor(() => fakeRun([1]));
    const second = benchOf(executor, { code: "newer" });
    await second.point(spec);
    expect(executor.played.map(({ seed }) => seed)).toEqual([2, 3]);
    expect(Object.fromEntries(second.runsByCode)).toEqual({ c: 1, newer: 2 });
    const fresh = fakeExecutor(() => fakeRun([1]));
    await benchOf(fresh, { fresh: true }).point(spec);
    expect(fresh.played).toHaveLength(3);
  });

  test("what waits when it is stopped fails as interrupted, and is not stored", async () => {
    const executor = fakeExecutor(() => fakeRun([1]), 1);
    const bench = benchOf(executor);
    const running = bench.run({ ...spec, seed: 1 });
    const waiting = bench.run({ ...spec, seed: 2 });
    bench.stop();
    await expect(waiting).rejects.toThrow(Interrupted);
    await expect(bench.run({ ...spec, seed: 3 })).rejects.toThrow(Interrupted);
    await running;
    expect(executor.played).toHaveLength(1);
    expect(new RunStore(join(folder, "runs.jsonl")).size).toBe(1);
  });

  test("a run that throws fails its point, and the others go on", async () => {
    const executor = fakeExecutor(({ seed }) => {
      if (seed === 1) throw new Error("no such system");
      return fakeRun([1]);
    });
    const bench = benchOf(executor);
    await expect(bench.run({ ...spec, seed: 1 })).rejects.toThrow("no such system");
    expect((await bench.run({ ...spec, seed: 2 })).programs).toBe(1);
  });

  test("a curve ends where the latency is far above every limit, or a point is unstable", async () => {
    const byRate = fakeExecutor(({ ratePerS }) => fakeRun([ratePerS]));
    const curve = await benchOf(byRate).curve(spec, [1, 2, 5, 9], 1);
    expect(curve.map((point) => point.spec.ratePerS)).toEqual([1, 2, 5]);
    const unstable = fakeExecutor(({ ratePerS }) => fakeRun([0.1], ratePerS > 1.5 ? 0.98 : 1));
    const short = await benchOf(unstable, { fresh: true }).curve(spec, [1, 2, 3], 1);
    expect(short.map((point) => point.stable)).toEqual([true, false]);
  });

  test("an overloaded steady state is seen by one seed; the others are not played", async () => {
    const executor = fakeExecutor(({ seed }) => fakeRun([1], seed === 1 ? 0.9 : 1));
    const protocol = { kind: "steady", measuredPrograms: 1, warmUpMs: 0, boundMsMin: 0, boundFactors: [1] } as const;
    const point = await benchOf(executor).point({ ...spec, protocol });
    expect(point).toMatchObject({ seeds: [1], stable: false });
    expect(executor.played).toHaveLength(1);
    const near = fakeExecutor(({ seed }) => fakeRun([1], seed === 1 ? 0.98 : 1));
    expect(await benchOf(near, { fresh: true }).point({ ...spec, protocol })).toMatchObject({ stable: true });
    const grown = fakeExecutor(() => ({ ...fakeRun([1]), grew: true }));
    expect(await benchOf(grown, { fresh: true }).point({ ...spec, protocol })).toMatchObject({ stable: false });
  });

  test("a knee is searched with the same seeds at every rate, and unstable points are above it", async () => {
    const executor = fakeExecutor(({ ratePerS }) => fakeRun([0.1], ratePerS > 1.5 ? 0.5 : 1));
    const { knee, points } = await benchOf(executor).knee(spec, { grid: [1, 2], limit: 0.5 });
    expect(rateOf(knee)).toBeCloseTo(1.5, 1);
    const byRate = Map.groupBy(executor.played, ({ ratePerS }) => ratePerS);
    for (const runs of byRate.values()) expect(runs.map(({ seed }) => seed).sort()).toEqual([1, 2, 3]);
    expect(points.map((point) => point.spec.ratePerS)).toEqual([...byRate.keys()]);
  });
});

test("progress names what is left, from what the played ones took", () => {
  const progress = { asked: 100, done: 40, found: 20, playedWallMs: 20 * 6_000 };
  expect(progressLine(progress, 2)).toBe("40 of 100 runs (20 found), about 3 min left of what is asked for so far");
  expect(progressLine({ ...progress, done: 20 }, 2)).toBe("20 of 100 runs (20 found)");
});
