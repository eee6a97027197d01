/**
 * What an input costs, counted in looks and not in time: never more with more calls queued (design §5). A look is a
 * read of a field that only the code under test reads.
 */
import { describe, expect, it } from "vitest";
import type { Call } from "../src/call.ts";
import { policies } from "../src/index.ts";
import { Bench } from "./bench.ts";
import { stateOf } from "./checkers.ts";

/** Counts reads of a field of every call that the core knows. */
function countReads(bench: Bench, field: keyof Call): () => number {
  let reads = 0;
  for (const call of stateOf(bench.scheduler).calls.values()) {
    let value: unknown = call[field];
    Object.defineProperty(call, field, {
      get: () => {
        reads++;
        return value;
      },
      set: (next) => {
        value = next;
      },
    });
  }
  return () => reads;
}

/** So many calls of one program in Q2, a batch of two, nothing started. */
function queued(calls: number): Bench {
  const bench = new Bench({ beta: 2, betaFloorMs: 1 });
  bench.join("e");
  bench.arrive("past", { program: "p" });
  bench.run();
  bench.report("e", { finished: { past: { serviceMs: 10 } } });
  for (let i = 0; i < calls; i++) bench.arrive(`c${i}`, { program: "p" });
  return bench;
}

describe.each([
  ["Q1", policies.fcfs],
  ["a lower level", policies.plas],
] as const)("with calls queued in %s", (_where, policy) => {
  it("a plan looks at its batch and the first call behind it", () => {
    const looks = [100, 3_000].map((calls) => {
      const bench = new Bench({ policy });
      bench.join("e");
      for (let i = 0; i < calls; i++) bench.arrive(`c${i}`);
      const reads = countReads(bench, "placedIn");
      bench.plan();
      bench.report("e", { finished: { c0: { serviceMs: 1 } } });
      bench.plan();
      return reads();
    });
    expect(looks[0]).toBeGreaterThan(0);
    expect(looks[1]).toBe(looks[0]);
  });
});

describe("promotion", () => {
  it("looks at nobody while nobody is due, and then at those who are", () => {
    for (const calls of [100, 3_000]) {
      const bench = queued(calls);
      bench.at = 1;
      bench.arrive("later", { program: "p" });
      const reads = countReads(bench, "pathWaitingMs");
      bench.pass(18.9);
      expect(reads()).toBe(0);
      bench.pass(0.1);
      expect(bench.scheduler.totals.promotions).toBe(calls);
      expect(reads()).toBe(calls);
    }
  });

  it("of one call looks at one", () => {
    const bench = queued(1);
    bench.at = 1;
    for (let i = 0; i < 3_000; i++) bench.arrive(`later${i}`, { program: "p" });
    const reads = countReads(bench, "pathWaitingMs");
    bench.pass(19);
    expect([bench.scheduler.totals.promotions, reads()]).toEqual([1, 1]);
  });
});
