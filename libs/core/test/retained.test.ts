import { describe, expect, it } from "vitest";
import { type EnginePlan, policies, type RetainedContext } from "../src/index.ts";
import { RETAINED_MAX } from "../src/retained.ts";
import { Bench, names } from "./bench.ts";
import { stateOf } from "./checkers.ts";
import { ends, retaining } from "./retaining.ts";

const shown = (contexts: readonly RetainedContext[] = []) =>
  contexts.map(({ call, tier }) => `${call.slice(2)} ${tier}`);
const retained = (bench: Bench) => shown(bench.plans.get("e")?.retained);

const continues = (plan: EnginePlan | undefined) => plan?.run.map(({ dispatch }) => dispatch?.continues);

describe("the context of a call that has ended", () => {
  it("is kept for its program's next call, which owns it from its first plan on", () => {
    const bench = retaining();
    ends(bench, "a", 30, { program: "p" });
    expect(retained(bench)).toEqual(["a engine"]);
    bench.arrive("b", { program: "p", promptTokens: 40 });
    expect(continues(bench.plan().e)).toEqual(["t/a"]);
    expect(retained(bench)).toEqual([]);
  });

  it("is named until a report shows that the agent holds the call", () => {
    const bench = retaining();
    ends(bench, "a", 30, { program: "p" });
    bench.arrive("b", { program: "p", promptTokens: 40 });
    bench.plan();
    bench.arrive("c", { promptTokens: 10 });
    expect(continues(bench.plan().e)).toEqual(["t/a", undefined]);
    bench.report("e", { calls: { b: 1 } });
    bench.arrive("d", { promptTokens: 10 });
    bench.report("e", { calls: { b: 1 }, finished: { c: { status: "failed" } } });
    expect(bench.plan().e?.run.map(({ dispatch }) => dispatch?.continues)).toEqual([undefined, undefined]);
  });

  it("takes the place of a less valuable one in a full host tier", () => {
    const bench = retaining({ kvBlocks: 7, hostBlocks: 3 });
    for (const name of ["a", "b", "c", "d"]) ends(bench, name, 30, { program: name });
    expect(retained(bench)).toEqual(["d engine", "c engine", "b host"]);
  });

  it("is of no use to a call with a shorter prompt, of another program or of another thread", () => {
    const bench = retaining();
    ends(bench, "a", 30, { program: "p", thread: "x" });
    bench.arrive("short", { program: "p", thread: "x", promptTokens: 15 });
    bench.arrive("other", { promptTokens: 40 });
    expect(continues(bench.plan().e)).toEqual([undefined, undefined]);
    bench.report("e", { finished: { short: { status: "failed" }, other: { status: "failed" } } });
    bench.arrive("thread", { program: "p", thread: "y", promptTokens: 40 });
    expect(continues(bench.plan().e)).toEqual([undefined]);
    expect(retained(bench)).toEqual(["a engine"]);
  });

  it("is of use to a call whose prompt is estimated as shorter, but may be as long", () => {
    const bench = retaining();
    ends(bench, "a", 30, { program: "p", thread: "x" });
    bench.arrive("b", { program: "p", thread: "x", promptTokens: 15, promptTokensMax: 19 });
    expect(continues(bench.plan().e)).toEqual([undefined]);
    bench.report("e", { finished: { b: { status: "failed" } } });
    bench.arrive("c", { program: "p", thread: "x", promptTokens: 15, promptTokensMax: 20 });
    expect(continues(bench.plan().e)).toEqual(["t/a"]);
  });

  it("of a program without threads serves a call that names one, and a fork begins with it", () => {
    const bench = retaining();
    ends(bench, "root", 30, { program: "p" });
    bench.arrive("branch", { program: "p", thread: "x", promptTokens: 40 });
    expect(continues(bench.plan().e)).toEqual(["t/root"]);
  });

  it("is not kept when the call failed, when nobody can come after it, or when the engine keeps none", () => {
    const bench = retaining();
    bench.arrive("failed", { program: "p" });
    bench.run();
    bench.report("e", { finished: { failed: { status: "failed" } } });
    ends(bench, "alone", 10, { alone: true });
    bench.arrive("last", { program: "q" });
    bench.run();
    bench.at = 1;
    bench.end("q");
    bench.report("e", { finished: { last: { serviceMs: 1, contextTokens: 10 } } });
    bench.plan();
    expect(retained(bench)).toEqual([]);
    const plain = new Bench();
    plain.join("e");
    ends(plain, "a", 10, { program: "p" });
    expect(retained(plain)).toEqual([]);
  });

  it("gives way to that of a later call of its thread", () => {
    const bench = retaining();
    ends(bench, "long", 30, { program: "p" });
    ends(bench, "other", 20, { program: "q" });
    ends(bench, "short", 10, { program: "p" });
    expect(retained(bench)).toEqual(["short engine", "other engine"]);
  });

  it("is of use to a call that is as long as it, to the block", () => {
    for (const [promptTokens, context] of [
      [20, "t/a"],
      [19, undefined],
    ] as const) {
      const bench = retaining();
      ends(bench, "a", 30, { program: "p" });
      bench.arrive("b", { program: "p", promptTokens });
      expect(continues(bench.plan().e)).toEqual([context]);
    }
  });

  it("goes when its program ends, and with its engine", () => {
    const bench = retaining();
    ends(bench, "a", 30, { program: "p" });
    ends(bench, "b", 30, { program: "q" });
    bench.end("p");
    expect(shown(bench.plan().e?.retained)).toEqual(["b engine"]);
    bench.lose("e", "silence");
    expect(stateOf(bench.scheduler).table.get("t/q" as never)?.retained).toEqual([]);
    bench.join("e", { retains: true, kvBlocks: 10 }, "i2");
    bench.arrive("c", { program: "q", promptTokens: 40 });
    expect(continues(bench.plan().e)).toEqual([undefined]);
    expect(retained(bench)).toEqual([]);
  });

  it("lies on the engine that ran the call, wherever the call was queued when that was heard", () => {
    const bench = new Bench({}, { gathering: true });
    bench.join("e1", { retains: true });
    bench.arrive("a", { program: "p", promptTokens: 30 });
    bench.lead();
    bench.join("e2", { retains: true });
    bench.report("e2", { finished: { a: { serviceMs: 1, contextTokens: 30 } } });
    bench.plan();
    expect([shown(bench.plans.get("e1")?.retained), shown(bench.plans.get("e2")?.retained)]).toEqual([
      [],
      ["a engine"],
    ]);
    expect(bench.program("p")).toMatchObject({ engines: ["e2"] });
  });
});

describe("the room for retained contexts", () => {
  it("is what run, reserve and parked calls leave, the most valuable first", () => {
    const bench = retaining({ kvBlocks: 11, hostBlocks: 6 });
    ends(bench, "a", 30, { program: "p" });
    ends(bench, "b", 30, { program: "q" });
    ends(bench, "c", 40, { program: "r" });
    expect(retained(bench)).toEqual(["c engine", "b engine", "a engine"]);
    ends(bench, "d", 20, { alone: true });
    expect(retained(bench)).toEqual(["c engine", "b engine", "a host"]);
    bench.arrive("large", { promptTokens: 69 });
    bench.plan();
    expect(retained(bench)).toEqual(["c engine", "b host", "a host"]);
    bench.arrive("larger", { promptTokens: 29 });
    bench.plan();
    // The host tier has no room for c.
    expect(retained(bench)).not.toContain("c engine");
  });

  it("has no host tier on an engine that does not swap", () => {
    const bench = retaining({ hostBlocks: 10, preemption: "recompute" });
    ends(bench, "a", 50, { program: "p" });
    bench.arrive("large", { promptTokens: 60 });
    bench.plan();
    expect(retained(bench)).toEqual([]);
  });

  it("counts contexts, too", () => {
    const bench = retaining({ residentCallsMax: 2, kvBlocks: 100 });
    for (const name of ["a", "b", "c"]) ends(bench, name, 10, { program: name });
    expect(retained(bench)).toEqual(["c engine", "b engine"]);
    bench.arrive("d", { promptTokens: 10 });
    bench.plan();
    expect(retained(bench)).toEqual(["c engine"]);
  });

  it("is given first to programs whose next call will be served first, or to those used last", () => {
    for (const [policy, order] of [
      [policies.plas, ["low engine", "high engine"]],
      [policies.fcfs, ["high engine", "low engine"]],
      [policies.mlfq, ["high engine", "low engine"]],
      [policies["program-fcfs"], ["low engine", "high engine"]],
    ] as const) {
      const bench = new Bench({ policy });
      bench.join("e", { retains: true });
      ends(bench, "low", 10, { program: "p" });
      bench.at++;
      bench.arrive("high", { program: "q", promptTokens: 10 });
      bench.run();
      bench.report("e", { finished: { high: { serviceMs: 50, contextTokens: 10 } } });
      bench.plan();
      expect(retained(bench)).toEqual(order);
    }
  });

  it("is given first of all to what queued calls wait to go on from, the soonest first", () => {
    for (const policy of [policies.plas, policies.fcfs]) {
      const bench = new Bench({ policy });
      bench.join("e", { retains: true, batchCallsMax: 1, residentCallsMax: 3, kvBlocks: 100, preemption: "recompute" });
      for (const name of ["a", "b", "c"]) ends(bench, name, 10, { program: name });
      expect(retained(bench)).toEqual(["c engine", "b engine", "a engine"]);
      bench.arrive("running", { program: "r", promptTokens: 10 });
      bench.plan();
      bench.arrive("b2", { program: "b", promptTokens: 10 });
      bench.arrive("c2", { program: "c", promptTokens: 10 });
      // Nobody comes after it, and nobody knows that yet: it is last used, and takes no place of those.
      bench.report("e", { finished: { running: { serviceMs: 1, contextTokens: 10 } } });
      expect(continues(bench.plan().e)).toEqual(["t/b"]);
      expect(retained(bench)).toEqual(["c engine", "running engine"]);
    }
  });

  it("goes to another call that waits, or to the latest ones, when who waited is cancelled", () => {
    const bench = retaining({ batchCallsMax: 1, residentCallsMax: 3, preemption: "recompute" });
    for (const name of ["a", "b"]) ends(bench, name, 10, { program: name });
    bench.arrive("running", { promptTokens: 10 });
    bench.plan();
    for (const name of ["a2", "a3"]) bench.arrive(name, { program: "a", promptTokens: 10 });
    expect(
      stateOf(bench.scheduler)
        .engines.get("e" as never)
        ?.retained.list(),
    ).toMatchObject([{ call: "t/a" }, { call: "t/b" }]);
    const first = () =>
      stateOf(bench.scheduler)
        .engines.get("e" as never)
        ?.retained.list()[0]?.call;
    bench.cancel("a2");
    expect(first()).toBe("t/a");
    bench.cancel("a3");
    expect(first()).toBe("t/b");
  });

  it("is kept for a call that came before the end of the one before it was heard", () => {
    const tight = { batchCallsMax: 1, residentCallsMax: 2, preemption: "recompute" } as const;
    const bench = retaining(tight, { policy: policies.fcfs });
    bench.arrive("a", { program: "p", promptTokens: 10 });
    bench.run();
    bench.arrive("other", { program: "q", promptTokens: 10 });
    bench.arrive("a2", { program: "p", promptTokens: 10 });
    bench.report("e", { finished: { a: { serviceMs: 1, contextTokens: 10 } } });
    bench.run();
    bench.report("e", { finished: { other: { serviceMs: 1, contextTokens: 10 } } });
    expect(continues(bench.plan().e)).toEqual(["t/a"]);
  });

  it("is kept for the call that runs first, whichever came or was looked at first", () => {
    const tight = { batchCallsMax: 1, residentCallsMax: 3, preemption: "recompute" } as const;
    const bench = retaining(tight);
    bench.arrive("a", { program: "p", promptTokens: 10 });
    bench.run();
    for (const name of ["a2", "a3"]) bench.arrive(name, { program: "p", promptTokens: 10 });
    bench.report("e", { finished: { a: { serviceMs: 1, contextTokens: 10 } } });
    const plan = bench.plan().e;
    expect([names(plan?.run), continues(plan)]).toEqual([["a2"], ["t/a"]]);
  });

  it("waits for accepted calls after the end of its program, and goes with the last of them", () => {
    const bench = retaining({ batchCallsMax: 1 });
    bench.arrive("a", { program: "p", promptTokens: 10 });
    bench.run();
    for (const name of ["a2", "a3"]) bench.arrive(name, { program: "p", promptTokens: 10 });
    bench.at = 1;
    bench.end("p");
    bench.report("e", { finished: { a: { serviceMs: 1, contextTokens: 10 } } });
    expect(continues(bench.run().e)).toEqual(["t/a"]);
    bench.report("e", { finished: { a2: { serviceMs: 1, contextTokens: 10 } } });
    expect(continues(bench.run().e)).toEqual(["t/a2"]);
    bench.report("e", { finished: { a3: { serviceMs: 1, contextTokens: 10 } } });
    bench.plan();
    expect(retained(bench)).toEqual([]);
  });

  it("goes when nobody is left who waits for it after the end of its program", () => {
    const bench = retaining({ batchCallsMax: 1 });
    ends(bench, "a", 10, { program: "p" });
    bench.arrive("other", { promptTokens: 10 });
    bench.plan();
    bench.arrive("a2", { program: "p", promptTokens: 10 });
    bench.at = 1;
    bench.end("p");
    bench.plan();
    expect(retained(bench)).toEqual(["a engine"]);
    bench.cancel("a2");
    bench.seen("a2", "cancelled");
    bench.plan();
    expect(retained(bench)).toEqual([]);
  });

  it("goes when its program is forgotten", () => {
    const bench = retaining({}, { programIdleMaxMs: 1_000 });
    ends(bench, "a", 10, { program: "p" });
    bench.at = 2_000;
    bench.pass(0);
    expect(shown(bench.plan().e?.retained)).toEqual([]);
  });

  it("has a limit in number", () => {
    const bench = retaining({ kvBlocks: 1e6, residentCallsMax: 1e6 });
    for (let i = 0; i <= RETAINED_MAX; i++) {
      bench.arrive(`c${i}`, { program: `p${i}`, promptTokens: 1 });
      bench.run();
      bench.report("e", { finished: { [`c${i}`]: { serviceMs: 1, contextTokens: 1 } } });
    }
    bench.plan();
    const left = retained(bench);
    expect(left).toHaveLength(RETAINED_MAX);
    expect(left).not.toContain("c0 engine");
  });
});

describe("the tier of a parked call", () => {
  it("is none at once where the engine recomputes and has no room, and changes make a plan", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1, kvBlocks: 6, preemption: "recompute" });
    bench.arrive("low", { promptTokens: 25 });
    bench.run();
    bench.report("e", { calls: { low: 10 }, contextTokens: 25 });
    bench.arrive("small", { promptTokens: 9 });
    expect(bench.plan().e?.keep).toMatchObject([{ call: "t/low", tier: "engine" }]);
    bench.report("e", { calls: { low: 10 }, finished: { small: {} } });
    bench.run();
    bench.report("e", { calls: { low: 11 }, contextTokens: 25 });
    bench.arrive("large", { promptTokens: 45 });
    expect(bench.plan().e?.keep).toMatchObject([{ call: "t/low", tier: "none" }]);
    expect(names(bench.plans.get("e")?.run)).toEqual(["large"]);
  });
});
