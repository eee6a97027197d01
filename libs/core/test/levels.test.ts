import { describe, expect, it } from "vitest";
import { doublingLadder, levelOf, policies } from "../src/index.ts";
import { Bench, names } from "./bench.ts";
import { ladder } from "./config.ts";

/** A program whose past is `serviceMs`, and a call of it. */
function callWithPast(bench: Bench, name: string, serviceMs: number): void {
  bench.arrive(`${name}-past`, { program: name });
  bench.run();
  bench.report("e", { finished: { [`${name}-past`]: { serviceMs } } });
  bench.arrive(name, { program: name });
}

describe("the level that a call enters", () => {
  it("is half-open: a service of exactly the upper end enters the next level", () => {
    expect([0, 9.999, 10, 29.999, 30, 1e12].map((serviceMs) => levelOf(ladder, serviceMs))).toEqual([0, 0, 1, 1, 2, 2]);
  });

  it("has no gap and no overlap in a doubling ladder", () => {
    const levels = doublingLadder(100, 4);
    expect(levels.map(({ lo, hi }) => [lo, hi])).toEqual([
      [0, 100],
      [100, 300],
      [300, 700],
      [700, Number.POSITIVE_INFINITY],
    ]);
    expect(levels.map(({ quantum }) => quantum)).toEqual([100, 200, 400, 800]);
    expect(() => doublingLadder(0)).toThrow(/positive/);
    expect(() => doublingLadder(Number.NaN)).toThrow(/positive/);
    expect(() => doublingLadder(1, 0)).toThrow(/positive/);
  });

  it("comes from the program's attained service, so that a long program waits behind a new one", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    callWithPast(bench, "long", 30);
    callWithPast(bench, "middle", 10);
    callWithPast(bench, "short", 9);
    const ranks: string[] = [];
    for (let i = 0; i < 3; i++) {
      bench.run();
      const [first = ""] = names(bench.plans.get("e")?.run);
      ranks.push(first);
      bench.report("e", { finished: { [first]: {} } });
    }
    expect(ranks).toEqual(["short", "middle", "long"]);
  });

  it("is Q1 for every call under fcfs, whatever its program had", () => {
    const bench = new Bench({ policy: policies.fcfs });
    bench.join("e", { batchCallsMax: 1 });
    callWithPast(bench, "long", 1e6);
    bench.arrive("new");
    expect(names(bench.plan().e?.run)).toEqual(["long"]);
  });
});

describe("a used-up quantum", () => {
  it("moves the call to the tail of the next level, behind those that wait there", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("demoted");
    bench.run();
    callWithPastQuiet(bench, "second", 10);
    bench.report("e", { calls: { demoted: 10 } });
    expect(names(bench.plan().e?.run)).toEqual(["second"]);
    expect(names(bench.plans.get("e")?.keep)).toEqual(["demoted"]);
  });

  it("is not used up a moment before", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("a");
    bench.run();
    bench.arrive("b");
    bench.report("e", { calls: { a: 9.99 } });
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a"]);
  });

  it("is fresh in the next level", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("a");
    bench.run();
    bench.report("e", { calls: { a: 15 } });
    callWithPastQuiet(bench, "b", 10);
    bench.run();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a"]);
    bench.report("e", { calls: { a: 34, b: 0 } });
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a"]);
    bench.report("e", { calls: { a: 35, b: 0 } });
    expect(names(bench.plan().e?.run)).toEqual(["b"]);
  });

  it("is counted in tokens where the policy measures them: the whole context first, then what it grew", () => {
    const bench = new Bench({ policy: policies["las-decay"] });
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("a", { promptTokens: 500 });
    bench.run();
    const level = (contextTokens: number, serviceMs: number) => {
      bench.report("e", { calls: { a: serviceMs }, contextTokens });
      return bench.scheduler.threads("t/a" as never, bench.at)[0]?.level;
    };
    // The prompt was counted as 8; Q1 has 10, and Q2 20 more from where it begins.
    expect([level(8, 1), level(9, 2), level(10, 3)]).toEqual([0, 0, 1]);
    expect([level(29, 4), level(30, 5)]).toEqual([1, 2]);
  });

  it("leaves a call of the last level where it is", () => {
    const bench = new Bench({ ladder: [{ lo: 0, hi: Number.POSITIVE_INFINITY, quantum: 5 }] });
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("a");
    bench.run();
    bench.arrive("b");
    bench.report("e", { calls: { a: 50 } });
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a"]);
  });

  it("keeps the order of calls that are demoted together, however the report names them", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 3 });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.run();
    bench.report("e", { calls: { c: 20, a: 20, b: 20 } });
    bench.arrive("new");
    expect(names(bench.plan().e?.run)).toEqual(["new", "a", "b"]);
  });

  it("counts service once when a report comes twice or late", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("a");
    bench.run();
    bench.report("e", { calls: { a: 9 }, number: 5 });
    bench.report("e", { calls: { a: 9 }, number: 5 });
    bench.report("e", { calls: { a: 2 }, number: 4 });
    bench.arrive("b");
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a"]);
  });
});

/** As above, while another call holds the only slot. */
function callWithPastQuiet(bench: Bench, name: string, serviceMs: number): void {
  bench.feed({
    kind: "programStarted",
    at: bench.at,
    program: `t/${name}` as never,
    restored: {
      program: `t/${name}` as never,
      serviceMs,
      waitingMs: 0,
      attained: serviceMs,
      pathServiceMs: serviceMs,
      pathWaitingMs: 0,
      endedCalls: 1,
      endedAt: undefined,
      pin: undefined,
      engines: [],
      arrivedAt: bench.at,
      lastArrivalAt: bench.at,
      lastCompletionAt: undefined,
      charged: [],
    },
  });
  bench.arrive(name, { program: name });
}
