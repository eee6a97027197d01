import { describe, expect, it } from "vitest";
import { programId } from "../src/ids.ts";
import { Bench, names, only } from "./bench.ts";

function oneEngine(): Bench {
  const bench = new Bench();
  bench.join("e");
  return bench;
}

describe("a call that comes twice from the queue", () => {
  it("is one call, and is acked under its last sequence", () => {
    const bench = oneEngine();
    bench.arrive("a");
    bench.run();
    expect(bench.arrive("a")).toEqual([]);
    expect(bench.scheduler.counts()).toEqual({ queued: 1, running: 1, programs: 1 });
    expect(only(bench.report("e", { finished: { a: {} } }), "ack")).toEqual([{ kind: "ack", call: "t/a", seq: 2 }]);
  });
});

describe("a report", () => {
  it("may name calls in any order, and some of them only", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 40, residentCallsMax: 40, heldCallsMax: 40, kvBlocks: 1_000 });
    const calls = Array.from({ length: 40 }, (_, i) => `c${i}`);
    for (const call of calls) bench.arrive(call);
    bench.run();
    const served = (names: readonly string[], ms: number) => Object.fromEntries(names.map((name) => [name, ms]));
    bench.report("e", { calls: served([...calls].reverse(), 7) });
    const some = [...calls.slice(30), ...calls.slice(0, 5)];
    bench.report("e", { calls: { ...served(some, 9), unknown: 9 } });
    const threads = calls.flatMap((call) => bench.scheduler.threads(programId(`t/${call}`), bench.at));
    expect(threads.map(({ serviceMs }) => serviceMs)).toEqual(calls.map((call) => (some.includes(call) ? 9 : 7)));
  });
});

describe("a plan", () => {
  it("tells an agent how to get a call until a report shows that it holds it", () => {
    const bench = oneEngine();
    bench.arrive("a");
    expect(bench.plan().e?.run[0]?.dispatch).toMatchObject({ seq: 1, fence: 0 });
    bench.arrive("b");
    expect(bench.plan().e?.run[0]?.dispatch).toBeDefined();
    bench.report("e", { calls: { a: 0 } });
    expect(bench.plan().e?.run.map(({ dispatch }) => dispatch !== undefined)).toEqual([false, true]);
  });

  it("tells it again when the agent has applied it and does not hold the call", () => {
    const bench = oneEngine();
    bench.arrive("a");
    bench.run();
    bench.report("e", {});
    expect(bench.plan().e?.run[0]?.dispatch).toMatchObject({ seq: 1 });
  });

  it("tells it again when the agent had no room for the call when the plan came", () => {
    const bench = oneEngine();
    bench.arrive("a");
    bench.plan();
    bench.report("e", {});
    expect(bench.plan().e?.run[0]?.dispatch).toMatchObject({ seq: 1 });
  });

  it("is sent once: the same lists are no reason for another", () => {
    const bench = oneEngine();
    bench.arrive("a");
    bench.run();
    bench.report("e", { calls: { a: 1 } });
    bench.plan();
    const number = bench.plans.get("e")?.number;
    bench.report("e", { calls: { a: 2 } });
    expect(bench.plan()).toEqual({});
    expect(bench.plans.get("e")?.number).toBe(number);
  });

  it("is sent again when its agent has not applied it for a while", () => {
    const bench = oneEngine();
    bench.arrive("a");
    const lost = bench.plan().e?.number ?? 0;
    bench.at = 499;
    bench.report("e", { planNumber: 0 });
    expect(bench.plan()).toEqual({});
    bench.at = 500;
    bench.report("e", { planNumber: 0 });
    const again = bench.plan().e;
    expect(again?.number).toBeGreaterThan(lost);
    expect(again?.run[0]?.dispatch).toMatchObject({ seq: 1 });
  });

  it("is not sent again while its agent may still apply it, nor when it has", () => {
    const bench = oneEngine();
    bench.at = 1_000;
    bench.arrive("a");
    bench.plan();
    bench.at = 1_499;
    bench.report("e", { planNumber: 0 });
    expect(bench.plan()).toEqual({});
    bench.at = 9_000;
    bench.report("e", { calls: { a: 1 } });
    expect(bench.plan()).toEqual({});
  });

  it("comes first when an engine has joined, although there is nothing to do", () => {
    expect(oneEngine().plan().e).toMatchObject({ number: 1, run: [], reserve: [], keep: [], retained: [] });
  });

  it("that takes a call out of the batch is a preemption, also of one that began from the reserve", () => {
    const bench = new Bench({ reserveCallsMax: 1 });
    bench.join("e", { batchCallsMax: 1 });
    for (const name of ["a", "b"]) bench.arrive(name);
    bench.run();
    for (const name of ["c", "d"]) bench.arrive(name);
    bench.report("e", { finished: { a: {} }, calls: { b: 12 } });
    expect(names(bench.plan().e?.run)).toEqual(["c"]);
    expect(bench.scheduler.totals.preemptions).toBe(1);
    // d has not run.
    bench.report("e", { calls: { b: 12, c: 12, d: 0 } });
    for (const name of ["e", "f"]) bench.arrive(name);
    expect(names(bench.plan().e?.run)).toEqual(["d"]);
    expect(bench.scheduler.totals.preemptions).toBe(2);
  });

  it("answers each report of a finished call, so that the agent need not repeat it", () => {
    const bench = oneEngine();
    bench.arrive("a");
    bench.run();
    bench.report("e", { finished: { a: {} }, number: 10 });
    expect(bench.plan().e).toMatchObject({ reportSeen: 10, run: [] });
    bench.report("e", { finished: { a: {} }, number: 11 });
    expect(bench.plan().e).toMatchObject({ reportSeen: 11, run: [] });
  });

  it("is asked for once for many changes of one moment", () => {
    const bench = oneEngine();
    bench.plan();
    expect(only(bench.arrive("a"), "wakeAt")).toContainEqual({ kind: "wakeAt", at: 0 });
    expect(only(bench.arrive("b"), "wakeAt").filter(({ at }) => at === 0)).toEqual([]);
    expect(names(bench.plan().e?.run)).toEqual(["a", "b"]);
  });

  it.each([
    ["has no reserve", 0, {}],
    ["is never preempted, and so has none", 2, { preemption: "none" as const }],
    ["has memory for itself alone", 2, { residentCallsMax: 2 }],
  ])("is not asked for by a call that would not be in it, where the batch %s", (_, reserveCallsMax, capacity) => {
    const bench = new Bench({ reserveCallsMax });
    bench.join("e", { batchCallsMax: 2, ...capacity });
    for (const name of ["a", "b"]) bench.arrive(name);
    bench.run();
    bench.plan();
    expect(only(bench.arrive("c"), "wakeAt").filter(({ at }) => at === 0)).toEqual([]);
  });
});

describe("a result that a newer marker keeps from being written", () => {
  /** Attempt 1 of `a` has run on e1, which was lost and is back; the marker of attempt 2 is on its way. */
  function fenced(): Bench {
    const bench = new Bench();
    bench.join("e1");
    bench.arrive("a");
    bench.run();
    bench.lose("e1", "silence");
    bench.join("e1");
    bench.plan();
    return bench;
  }

  it("is neither dropped nor written while nobody knows the fence", () => {
    const bench = fenced();
    bench.report("e1", { fenced: ["a"] });
    expect(bench.plan().e1?.fences).toEqual([]);
  });

  it("is written behind the marker while nobody was given the later attempt", () => {
    const bench = fenced();
    bench.marker("a", 2, 9);
    bench.report("e1", { fenced: ["a"] });
    expect(bench.plan().e1).toMatchObject({ fences: [{ call: "t/a", attempt: 1, fence: 9 }], run: [] });
    bench.report("e1", { fenced: ["a"] });
    expect(bench.plan().e1?.fences).toEqual([{ call: "t/a", attempt: 1, fence: 9 }]);
    bench.report("e1", { finished: { a: { serviceMs: 4 } } });
    expect(bench.knows("a")).toBe(false);
    expect(bench.program("a")).toMatchObject({ serviceMs: 4 });
  });

  it("is dropped when the later attempt has been given to an agent", () => {
    const bench = fenced();
    bench.marker("a", 2, 9);
    bench.plan();
    bench.report("e1", { fenced: ["a"] });
    expect(bench.plan().e1?.fences).toEqual([{ call: "t/a", attempt: 1, fence: null }]);
  });

  it("is dropped when the call has ended", () => {
    const bench = fenced();
    bench.seen("a", "cancelled");
    bench.report("e1", { fenced: ["a"] });
    expect(bench.plan().e1?.fences).toEqual([{ call: "t/a", attempt: 1, fence: null }]);
  });

  it("runs again elsewhere when its agent is lost before it has written", () => {
    const bench = fenced();
    bench.marker("a", 2, 9);
    bench.report("e1", { fenced: ["a"] });
    bench.plan();
    expect(only(bench.lose("e1", "crash"), "writeMarker")).toMatchObject([{ attempt: 3, expect: 9, crashes: 0 }]);
    bench.marker("a", 3, 11);
    bench.join("e2");
    expect(bench.plan().e2?.run).toMatchObject([{ call: "t/a", attempt: 3 }]);
  });

  it("runs again when its agent had been told to drop it meanwhile", () => {
    const bench = fenced();
    bench.marker("a", 2, 9);
    bench.report("e1", { fenced: ["a"] });
    bench.plan();
    bench.report("e1", { fenced: ["a"] });
    expect(only(bench.report("e1", {}), "writeMarker")).toMatchObject([{ call: "t/a", attempt: 3, expect: 9 }]);
    bench.marker("a", 3, 12);
    expect(bench.plan().e1?.run).toMatchObject([{ call: "t/a", attempt: 3, dispatch: { fence: 12 } }]);
  });

  it("is waited for while its agent is writing it", () => {
    const bench = fenced();
    bench.marker("a", 2, 9);
    bench.report("e1", { fenced: ["a"] });
    bench.plan();
    expect(only(bench.report("e1", { calls: { a: 3 } }), "writeMarker")).toEqual([]);
    expect(only(bench.report("e1", { finished: { a: {} } }), "ack")).toHaveLength(1);
  });

  it("is kept when the marker is an earlier leader's that this one has not read", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("a");
    bench.run();
    const [marker] = only(bench.report("e", { fenced: ["a"] }), "writeMarker");
    expect(marker).toMatchObject({ call: "t/a", attempt: 2, cause: "take_over" });
    bench.marker("a", 2, 12);
    bench.report("e", { fenced: ["a"] });
    expect(bench.plan().e).toMatchObject({ run: [], fences: [{ call: "t/a", attempt: 1, fence: 12 }] });
  });
});
