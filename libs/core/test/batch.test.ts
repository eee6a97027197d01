import { describe, expect, it } from "vitest";
import { SKIPPED_CALLS_MAX } from "../src/batch.ts";
import { Bench, names, only } from "./bench.ts";

/** Calls of `tokens` prompt tokens each need `tokens / 10` blocks: blocks of 10 tokens, the window's step fits in. */
const sized = (blocks: number) => ({ promptTokens: blocks * 10 - 1 });

describe("the batch", () => {
  it("is first come, first served inside a level", () => {
    const bench = new Bench({ reserveCallsMax: 1 });
    bench.join("e");
    for (const name of ["a", "b", "c", "d"]) bench.arrive(name);
    const { e: plan } = bench.plan();
    expect([names(plan?.run), names(plan?.reserve), names(plan?.keep)]).toEqual([["a", "b"], ["c"], []]);
  });

  it("stops at the first call that does not fit, even if a later one would", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 3, kvBlocks: 10 });
    bench.arrive("half", sized(5));
    bench.arrive("too-large", sized(6));
    bench.arrive("small", sized(1));
    expect(names(bench.plan().e?.run)).toEqual(["half"]);
  });

  it("counts the tokens of the coming window, and what the agent has counted instead of the estimate", () => {
    const bench = new Bench({ windowSteps: 10 });
    bench.join("e", { kvBlocks: 4 });
    bench.arrive("a", { promptTokens: 10 });
    bench.arrive("b", { promptTokens: 10 });
    expect(names(bench.run().e?.run)).toEqual(["a", "b"]);
    bench.report("e", { calls: { a: 1, b: 1 }, contextTokens: 11 });
    expect(names(bench.plan().e?.run)).toEqual(["a"]);
    expect(names(bench.plans.get("e")?.keep)).toEqual(["b"]);
  });

  it("counts the estimate while the agent has not counted", () => {
    const bench = new Bench();
    bench.join("e", { kvBlocks: 6 });
    bench.arrive("a", sized(4));
    bench.run();
    bench.report("e", { calls: { a: 1 }, contextTokens: 0 });
    bench.arrive("b", sized(3));
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a"]);
  });

  it("is never blocked by an estimate above the engine's capacity", () => {
    const bench = new Bench();
    bench.join("e", { kvBlocks: 10 });
    bench.arrive("huge", { promptTokens: 1e9 });
    expect(names(bench.plan().e?.run)).toEqual(["huge"]);
  });

  it("keeps parked calls in the order in which they will run", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 3 });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.run();
    bench.report("e", { calls: { a: 10, b: 0, c: 10 } });
    for (const name of ["x", "y", "z"]) bench.arrive(name);
    const { e: plan } = bench.plan();
    expect(names(plan?.run)).toEqual(["b", "x", "y"]);
    expect(names(plan?.keep)).toEqual(["a", "c"]);
  });

  it("keeps a call that its agent cannot stop, whoever outranks it, until it ends", () => {
    const bench = new Bench({ reserveCallsMax: 0 });
    bench.join("e", { batchCallsMax: 2 });
    for (const name of ["a", "b"]) bench.arrive(name);
    bench.run();
    bench.report("e", { calls: { a: 10, b: 10 }, unstoppable: ["b"] });
    for (const name of ["x", "y"]) bench.arrive(name);
    const { e: plan } = bench.plan();
    expect(names(plan?.run)).toEqual(["b", "x"]);
    expect(names(plan?.keep)).toEqual(["a"]);
    bench.report("e", { calls: { a: 10, x: 0 }, finished: { b: { serviceMs: 11 } } });
    expect(names(bench.plan().e?.run)).toEqual(["x", "y"]);
  });

  it("keeps such a call behind a take-over, too; on another engine it is like any other", () => {
    const bench = new Bench({ reserveCallsMax: 0 }, { gathering: true });
    bench.join("e", { batchCallsMax: 1 });
    for (const name of ["a", "b"]) bench.arrive(name);
    bench.report("e", { calls: { a: 10, b: 10 }, unstoppable: ["b"], planNumber: 0 });
    bench.lead();
    expect(names(bench.plan().e?.run)).toEqual(["b"]);
    bench.lose("e", "exit");
    bench.marker("a", 2, 50);
    bench.marker("b", 2, 51);
    bench.join("f", { batchCallsMax: 1 });
    expect(names(bench.plan().f?.run)).toEqual(["a"]);
  });

  it("holds at most as many contexts as the engine can have at once", () => {
    const bench = new Bench({ reserveCallsMax: 2 });
    bench.join("e", { batchCallsMax: 2, residentCallsMax: 3 });
    for (const name of ["a", "b", "c", "d"]) bench.arrive(name);
    const { e: plan } = bench.plan();
    expect([...names(plan?.run), ...names(plan?.reserve)]).toEqual(["a", "b", "c"]);
  });

  it("starts no more calls than the agent can hold; those that started go on", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 2, heldCallsMax: 2 });
    bench.arrive("a");
    bench.arrive("b");
    bench.run();
    bench.report("e", { calls: { a: 10, b: 10 } });
    bench.arrive("outranks-both");
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a", "b"]);
    bench.report("e", { calls: { b: 10 }, finished: { a: {} } });
    expect(names(bench.plan().e?.run)).toEqual(["outranks-both", "b"]);
  });
});

describe("an engine that cannot preempt", () => {
  it("keeps its batch when a call outranks it, and gets no reserve", () => {
    const bench = new Bench({ reserveCallsMax: 2 });
    bench.join("e", { preemption: "none" });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    expect(bench.run().e).toMatchObject({ reserve: [] });
    bench.report("e", { calls: { a: 10, b: 10 } });
    bench.arrive("new");
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a", "b"]);
    bench.report("e", { calls: { b: 10 }, finished: { a: {} } });
    expect(names(bench.plan().e?.run)).toEqual(["b", "c"]);
  });
});

describe("an engine that cannot preempt", () => {
  it("fills what its batch leaves, behind members that come first in the queue, too", () => {
    const bench = new Bench();
    bench.join("e", { preemption: "none", batchCallsMax: 3 });
    bench.arrive("a");
    bench.run();
    for (const name of ["b", "c", "d"]) bench.arrive(name);
    expect(names(bench.plan().e?.run)).toEqual(["a", "b", "c"]);
  });
});

describe("parked calls", () => {
  it("stay on the engine when they fit exactly, and not with one block less", () => {
    for (const [kvBlocks, tier] of [
      [8, "engine"],
      [7, "host"],
    ] as const) {
      const bench = new Bench();
      bench.join("e", { batchCallsMax: 1, kvBlocks, hostBlocks: 10 });
      bench.arrive("parked", { promptTokens: 25 });
      bench.run();
      bench.report("e", { calls: { parked: 10 }, contextTokens: 30 });
      bench.arrive("above", { promptTokens: 45 });
      expect(bench.plan().e?.keep).toMatchObject([{ call: "t/parked", tier }]);
    }
  });
});

describe("while results could not be stored", () => {
  it("runs a suspect beside a call that is none", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("suspect");
    bench.run();
    bench.join("e", {}, "i2");
    bench.marker("suspect", 2, 7);
    bench.arrive("innocent");
    bench.run();
    bench.report("e", { calls: { suspect: 1, innocent: 10 }, attempts: { suspect: 2 } });
    bench.pass(1, false);
    bench.arrive("new");
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["suspect", "innocent"]);
  });

  it("starts nothing new, runs what has started, and starts again when there is room", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 2 });
    bench.arrive("started");
    bench.run();
    bench.report("e", { calls: { started: 10 } });
    bench.pass(1, false);
    bench.arrive("new");
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["started"]);
    bench.pass(1, true);
    expect(names(bench.plan().e?.run)).toEqual(["new", "started"]);
  });

  it("is heard before this leader leads, too", () => {
    const bench = new Bench({}, { gathering: true });
    bench.join("e");
    bench.pass(1, false);
    bench.lead();
    bench.arrive("new");
    expect(bench.plan().e?.run).toEqual([]);
  });
});

describe("a silent engine", () => {
  it("gets no new call, bound to it before or not, until it is heard again", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("a");
    bench.run();
    bench.arrive("waits-there");
    bench.suspect("e", true);
    bench.cancel("a");
    expect(names(bench.plan().e?.run)).toEqual([]);
    bench.suspect("e", false);
    expect(names(bench.plan().e?.run)).toEqual(["waits-there"]);
  });

  it("is passed over when calls are bound, unless all are silent", () => {
    const bench = new Bench();
    bench.join("silent");
    bench.join("up");
    bench.suspect("silent", true);
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.plan();
    expect(names(bench.plans.get("up")?.run)).toEqual(["a", "b"]);
    bench.suspect("up", true);
    expect(only(bench.arrive("d"), "writeOutcome")).toEqual([]);
    bench.suspect("silent", false);
    bench.suspect("up", false);
    bench.plan();
    bench.report("up", { finished: { a: {}, b: {} } });
    bench.plan();
    expect([...names(bench.plans.get("up")?.run), ...names(bench.plans.get("silent")?.run)].sort()).toEqual(["c", "d"]);
  });
});

describe("the option of skipping", () => {
  it("looks behind calls that do not fit, and not further than 64 of them", () => {
    const bench = new Bench({ misfit: "skip" });
    bench.join("e", { batchCallsMax: 3, kvBlocks: 10 });
    bench.arrive("first", sized(5));
    for (let i = 0; i < SKIPPED_CALLS_MAX; i++) bench.arrive(`large${i}`, sized(6));
    bench.arrive("small", sized(1));
    bench.arrive("too-far", sized(6));
    bench.arrive("behind", sized(1));
    expect(names(bench.plan().e?.run)).toEqual(["first", "small"]);
  });
});

describe("late binding", () => {
  const late = () => new Bench({ binding: "late" });

  it("gives a call to the engine that has room, and keeps it there from then on", () => {
    const bench = late();
    for (const engine of ["e1", "e2"]) bench.join(engine, { batchCallsMax: 1 });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.run();
    expect([names(bench.plans.get("e1")?.run), names(bench.plans.get("e2")?.run)]).toEqual([["a"], ["b"]]);
    bench.report("e2", { finished: { b: {} } });
    expect(names(bench.plan().e2?.run)).toEqual(["c"]);
  });

  it("leaves to the other engines what they have a claim to", () => {
    const bench = late();
    for (const engine of ["e1", "e2"]) bench.join(engine, { batchCallsMax: 4 });
    for (const name of ["a", "b", "c", "d"]) bench.arrive(name);
    bench.plan();
    expect([names(bench.plans.get("e1")?.run), names(bench.plans.get("e2")?.run)]).toEqual([
      ["a", "b"],
      ["c", "d"],
    ]);
  });

  it("gives a larger engine what the others have no places for", () => {
    const bench = late();
    bench.join("small", { batchCallsMax: 1 });
    bench.join("large", { batchCallsMax: 8, residentCallsMax: 8 });
    for (const name of ["a", "b", "c", "d", "e", "f"]) bench.arrive(name);
    bench.plan();
    expect([names(bench.plans.get("small")?.run), names(bench.plans.get("large")?.run)]).toEqual([
      ["a"],
      ["b", "c", "d", "e", "f"],
    ]);
  });

  it("gives an engine what fits nowhere else, by memory and by calls that an agent holds", () => {
    for (const full of [{ kvBlocks: 2 }, { heldCallsMax: 2 }]) {
      const bench = late();
      bench.join("full", { batchCallsMax: 6, residentCallsMax: 6, blockTokens: 10, ...full });
      bench.join("other", { batchCallsMax: 6, residentCallsMax: 6 });
      for (const name of ["a", "b", "c", "d"]) bench.arrive(name, { promptTokens: 10 });
      bench.run();
      for (const name of ["e", "f", "g", "h"]) bench.arrive(name, { promptTokens: 10 });
      bench.run();
      expect(names(bench.plans.get("other")?.run)).toHaveLength(6);
    }
  });

  it("merges an engine's own calls with those that nobody has, by rank", () => {
    const bench = late();
    bench.join("e", { batchCallsMax: 2 });
    for (const name of ["a", "b"]) bench.arrive(name);
    bench.run();
    bench.report("e", { calls: { a: 10, b: 1 } });
    bench.arrive("c");
    // `a` is in Q2 now.
    expect(names(bench.plan().e?.run)).toEqual(["b", "c"]);
    expect(names(bench.plans.get("e")?.keep)).toEqual(["a"]);
  });

  it("takes back what a lost engine had not started, each call at its place", () => {
    const bench = late();
    bench.join("e1", { batchCallsMax: 1 });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.run();
    bench.lose("e1", "silence");
    bench.marker("a", 2, 7);
    bench.join("e2", { batchCallsMax: 3 });
    expect(names(bench.plan().e2?.run)).toEqual(["a", "b", "c"]);
  });
});
