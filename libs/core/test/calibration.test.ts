import { describe, expect, it } from "vitest";
import { LadderCalibrator } from "../src/calibration.ts";
import { doublingLadder, policies } from "../src/index.ts";
import { Bench } from "./bench.ts";

const calibration = { first: 100, levels: 7, factor: 2 };

function learned(calls: readonly number[], calibrator = new LadderCalibrator(calibration)): LadderCalibrator {
  for (const service of calls) calibrator.learn(service);
  return calibrator;
}

const times = (count: number, service: number) => Array.from({ length: count }, () => service);

describe("a ladder that follows the load", () => {
  it("is the configured one until 32 calls have completed", () => {
    const calibrator = learned(times(31, 7));
    expect(calibrator.ladder).toEqual(doublingLadder(100, 7, 2));
    calibrator.learn(7);
    expect(calibrator.ladder).toEqual(doublingLadder(7, 7, 2));
  });

  it("ends Q1 at the 25th percentile of service", () => {
    const spread = Array.from({ length: 32 }, (_, i) => (i * 13) % 32 || 0.5);
    expect(learned(spread).ladder[0]).toEqual({ lo: 0, hi: 8, quantum: 8 });
  });

  it("stays when a quarter of the calls differ by less than a fifth, up or down", () => {
    for (const near of [0.84, 1.19]) {
      const calibrator = learned([...times(32, 100), ...times(2_000, 100 * near)]);
      expect([calibrator.changes, calibrator.ladder[0]?.hi]).toEqual([0, 100]);
    }
    for (const far of [0.83, 1.2]) {
      const calibrator = learned([...times(32, 100), ...times(2_000, 100 * far)]);
      expect([calibrator.changes, calibrator.ladder[0]?.hi]).toEqual([1, 100 * far]);
    }
  });

  it("is looked at again after twice as many calls, and every 512 from 1,024 on", () => {
    const calibrator = learned(times(32, 100));
    // Each time a quarter of all calls have another value long before the look.
    const values = [1, 50, 0.02, 9, 0.001, 1e-5];
    for (const [i, count] of [32, 64, 128, 256, 512, 512].entries()) {
      learned(times(count - 1, values[i] ?? 0), calibrator);
      expect(calibrator.changes).toBe(i);
      learned([values[i] ?? 0], calibrator);
      expect(calibrator.changes).toBe(i + 1);
    }
  });

  it("forgets: only the last 1024 calls count", () => {
    const calibrator = learned(times(5_000, 1_000));
    learned(times(1_024 + 512, 10), calibrator);
    expect(calibrator.ladder[0]?.hi).toBe(10);
  });

  it("learns nothing from a call that took nothing", () => {
    expect(learned(times(100, 0)).ladder).toEqual(doublingLadder(100, 7, 2));
  });

  it("keeps its number of levels and its factor", () => {
    const calibrator = new LadderCalibrator({ first: 1, levels: 3, factor: 4 });
    expect(learned(times(32, 10), calibrator).ladder).toEqual(doublingLadder(10, 3, 4));
  });
});

/** Calls that end after so much service each; a report names all of them. */
function endCalls(bench: Bench, count: number, over: { status?: "completed" | "cancelled"; serviceMs: number }): void {
  for (let i = 0; i < count; i++) {
    const name = `c${bench.at}-${i}`;
    bench.arrive(name);
    bench.run();
    bench.report("e", { finished: { [name]: over } });
  }
  bench.at++;
}

describe("the scheduler's ladder", () => {
  it("is calibrated by completed calls only, and picks the level of the next call", () => {
    const bench = new Bench({ ladder: calibration });
    bench.join("e");
    endCalls(bench, 40, { serviceMs: 4, status: "cancelled" });
    expect(bench.scheduler.ladder[0]?.hi).toBe(100);
    endCalls(bench, 32, { serviceMs: 4 });
    expect(bench.scheduler.ladder[0]?.hi).toBe(4);
    bench.arrive("first", { program: "p" });
    bench.run();
    bench.report("e", { finished: { first: { serviceMs: 4 } } });
    bench.arrive("second", { program: "p" });
    expect(bench.scheduler.threads("t/p" as never, bench.at)).toMatchObject([{ call: "t/second", level: 1 }]);
  });

  it("does not move when it is fixed, or the policy's own", () => {
    for (const policy of [policies.plas, policies.fcfs]) {
      const bench = new Bench({ policy });
      bench.join("e");
      const before = bench.scheduler.ladder;
      endCalls(bench, 64, { serviceMs: 4 });
      expect(bench.scheduler.ladder).toBe(before);
    }
  });
});
