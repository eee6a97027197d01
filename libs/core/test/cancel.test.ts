import { describe, expect, it } from "vitest";
import { Bench, names, only } from "./bench.ts";

/** One slot: `a` runs and is reported, `b` waits. */
function bench(over: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  const made = new Bench(over);
  made.join("e", { batchCallsMax: 1 });
  made.arrive("a");
  made.arrive("b");
  made.run();
  return made;
}

describe("a cancel", () => {
  it("ends a waiting call here, since no agent has it", () => {
    const b = bench();
    b.at = 40;
    expect(only(b.cancel("b"), "writeOutcome")).toEqual([
      {
        kind: "writeOutcome",
        call: "t/b",
        status: "cancelled",
        code: "cancelled",
        attempt: 1,
        fence: 0,
        waitingMs: 40,
        serviceMs: 0,
      },
    ]);
    expect(only(b.seen("b", "cancelled"), "ack")).toEqual([{ kind: "ack", call: "t/b", seq: 2 }]);
  });

  it("of a dispatched call stands in every plan until the agent has reported the end", () => {
    const b = bench();
    expect(only(b.cancel("a", "orphan"), "writeOutcome")).toEqual([]);
    const plan = b.plan().e;
    expect(plan).toMatchObject({ cancel: [{ call: "t/a", attempt: 1, cause: "orphan" }], run: [{ call: "t/b" }] });
    b.arrive("c");
    b.report("e", { calls: { a: 1, b: 0 }, finished: {} });
    b.report("e", { calls: { a: 1 }, finished: { b: {} } });
    expect(b.plan().e?.cancel).toHaveLength(1);
    expect(only(b.report("e", { finished: { a: { status: "cancelled" } } }), "ack")).toMatchObject([{ call: "t/a" }]);
    expect(b.plan().e?.cancel).toEqual([]);
  });

  it("repeated changes nothing", () => {
    const b = bench();
    b.cancel("a");
    b.plan();
    expect(b.cancel("a")).toEqual([]);
    expect(b.plan()).toEqual({});
    b.cancel("b");
    expect(b.cancel("b")).toEqual([]);
  });

  it("ends a call that its agent never got, once it has applied the plan", () => {
    const b = bench();
    b.report("e", { finished: { a: {} } });
    b.plan();
    b.cancel("b");
    b.plan();
    const [marker] = only(b.report("e", {}), "writeMarker");
    expect(marker).toMatchObject({ call: "t/b", attempt: 2 });
    expect(only(b.marker("b", 2, 9), "writeOutcome")).toMatchObject([{ status: "cancelled", attempt: 2, fence: 9 }]);
    b.seen("b", "cancelled");
    expect(b.knows("b")).toBe(false);
  });

  it("waits for the marker of a call between two attempts, and ends it behind that", () => {
    const b = bench();
    b.lose("e", "silence");
    expect(only(b.cancel("a"), "writeOutcome")).toEqual([]);
    expect(only(b.marker("a", 2, 9), "writeOutcome")).toMatchObject([{ call: "t/a", attempt: 2, fence: 9 }]);
  });

  it("of a dispatched call survives the loss of its engine", () => {
    const b = bench();
    b.cancel("a");
    b.plan();
    expect(only(b.lose("e", "crash"), "writeMarker").map(({ call }) => call)).toContain("t/a");
    expect(only(b.marker("a", 2, 9), "writeOutcome")).toMatchObject([{ call: "t/a", status: "cancelled" }]);
  });

  it("while its result is being settled lets the result win", () => {
    const b = new Bench();
    b.join("e");
    b.arrive("a");
    b.run();
    b.lose("e", "silence");
    b.join("e");
    b.plan();
    b.lose("e", "silence");
    b.marker("a", 2, 9);
    b.join("e");
    b.suspect("e", true);
    b.report("e", { fenced: ["a"], number: 90 });
    b.cancel("a");
    expect(only(b.report("e", { finished: { a: {} }, number: 91 }), "ack")).toHaveLength(1);
  });

  it("while its end is being written writes no second one", () => {
    const b = bench();
    b.cancel("b");
    expect(b.cancel("b", "deadline")).toEqual([]);
  });

  it("that overtakes its call is remembered for 60 s", () => {
    const b = bench();
    b.cancel("early");
    b.at = 60_000;
    expect(only(b.arrive("early"), "writeOutcome")).toMatchObject([{ call: "t/early", status: "cancelled" }]);
    b.cancel("too-early");
    b.at = 120_001;
    expect(only(b.arrive("too-early"), "writeOutcome")).toEqual([]);
  });

  it("of unknown ids fills no memory: the oldest is forgotten first", () => {
    const b = bench({ cancelMemoryMax: 3 });
    for (const name of ["c1", "c2", "c3", "c4"]) b.cancel(name);
    expect(only(b.arrive("c1"), "writeOutcome")).toEqual([]);
    expect(only(b.arrive("c2"), "writeOutcome")).toHaveLength(1);
  });
});

describe("a deadline", () => {
  it("expires a waiting call, and not a moment before", () => {
    const b = bench();
    b.arrive("short", { deadlineAt: 100 });
    expect(only(b.pass(99), "writeOutcome")).toEqual([]);
    expect(only(b.pass(1), "writeOutcome")).toMatchObject([{ call: "t/short", status: "expired", code: "expired" }]);
  });

  it("asks to be woken at the next one", () => {
    const b = bench();
    expect(only(b.arrive("later", { deadlineAt: 500 }), "wakeAt")).toEqual([{ kind: "wakeAt", at: 500 }]);
    expect(only(b.arrive("sooner", { deadlineAt: 100 }), "wakeAt")).toEqual([{ kind: "wakeAt", at: 100 }]);
    expect(only(b.arrive("latest", { deadlineAt: 900 }), "wakeAt")).toEqual([]);
    expect(only(b.pass(100), "wakeAt")).toEqual([{ kind: "wakeAt", at: 500 }]);
  });

  it("cancels a running call on its engine", () => {
    const b = new Bench();
    b.join("e");
    b.arrive("a", { deadlineAt: 10 });
    b.run();
    b.pass(10);
    expect(b.plan().e?.cancel).toEqual([{ call: "t/a", attempt: 1, cause: "deadline" }]);
  });

  it("ends a call between two attempts as expired", () => {
    const b = new Bench();
    b.join("e");
    b.arrive("a", { deadlineAt: 10 });
    b.run();
    b.lose("e", "silence");
    b.pass(10);
    expect(only(b.marker("a", 2, 4), "writeOutcome")).toMatchObject([{ status: "expired", fence: 4 }]);
  });

  it("of an ended call is forgotten: 100,000 of them leave a small heap", () => {
    const b = new Bench();
    const { state } = b.scheduler as unknown as { state: { deadlines: { size: number } } };
    for (let i = 0; i < 100_000; i++) {
      b.arrive(`c${i}`, { alone: true });
      b.cancel(`c${i}`);
      b.seen(`c${i}`, "cancelled");
    }
    expect(state.deadlines.size).toBeLessThan(2_000);
    expect(b.scheduler.counts()).toEqual({ queued: 0, running: 0, programs: 0 });
  });
});

describe("a waiting call's place", () => {
  it("is free for the next one when it is cancelled", () => {
    const b = bench();
    b.arrive("c");
    b.cancel("b");
    b.report("e", { finished: { a: {} } });
    expect(names(b.plan().e?.run)).toEqual(["c"]);
  });
});
