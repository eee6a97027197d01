import { describe, expect, it } from "vitest";
import { type Policy, policies, type SavedEntry } from "../src/index.ts";
import { Bench, names, only } from "./bench.ts";

/** A new leader that has not begun to act, with one engine. */
function gathering(batchCallsMax = 2): Bench {
  const bench = new Bench({}, { gathering: true });
  bench.join("e", { batchCallsMax });
  return bench;
}

describe("a new leader", () => {
  it("does nothing before it leads, whatever it hears", () => {
    const bench = gathering();
    bench.arrive("a");
    bench.arrive("ended", { record: { kind: "terminal" } });
    bench.report("e", { calls: { a: 1 } });
    bench.pass(1e10);
    expect(bench.plan()).toEqual({});
    expect(bench.knows("ended")).toBe(true);
  });

  it("asks for a plan as soon as it leads", () => {
    const bench = gathering();
    expect(only(bench.lead(), "wakeAt")).toEqual([{ kind: "wakeAt", at: 0 }]);
    expect(() => bench.lead()).toThrow(/already/);
  });

  it("acks a call whose record is terminal", () => {
    const bench = gathering();
    bench.arrive("ended", { record: { kind: "terminal" } });
    expect(only(bench.lead(), "ack")).toEqual([{ kind: "ack", call: "t/ended", seq: 1 }]);
    expect(bench.knows("ended")).toBe(false);
  });

  it("charges a call that ended before it came with what the record says, and not with its age", () => {
    const bench = gathering();
    bench.arrive("a", { program: "p" });
    bench.pass(50_000);
    bench.lead();
    const saved = only(
      bench.seen("a", "completed", { serviceMs: 700, waitingMs: 300, contextTokens: 40 }),
      "saveEntry",
    );
    expect(saved).toMatchObject([{ entry: { program: "t/p", serviceMs: 700, waitingMs: 300, attained: 700 } }]);
  });

  it("charges one whose record says nothing with what it knows of it", () => {
    const bench = gathering();
    bench.arrive("a", { program: "p" });
    bench.pass(50_000);
    bench.lead();
    const saved = only(bench.seen("a", "completed"), "saveEntry");
    expect(saved).toMatchObject([{ entry: { program: "t/p", serviceMs: 0, waitingMs: 50_000 } }]);
  });

  it("does not take a reported call out of the batch where the engine cannot stop it", () => {
    const bench = new Bench({}, { gathering: true });
    bench.join("e", { batchCallsMax: 1, preemption: "none" });
    bench.arrive("ran", { program: "p" });
    bench.report("e", { calls: { ran: 35 } });
    bench.lead();
    bench.report("e", { calls: { ran: 36 } });
    bench.arrive("new");
    expect(names(bench.plan().e?.run)).toEqual(["ran"]);
  });

  it("charges the calls of a batch with a crash that comes before its first plan", () => {
    const bench = gathering(1);
    for (const name of ["first", "second"]) bench.arrive(name);
    bench.report("e", { calls: { first: 1, second: 1 } });
    bench.lead();
    expect(only(bench.lose("e", "crash"), "writeMarker")).toMatchObject([
      { call: "t/first", crashes: 1 },
      { call: "t/second", crashes: 0 },
    ]);
  });

  it("plans the place again that it kept for a call which was cancelled while its marker was being written", () => {
    const bench = gathering(1);
    bench.arrive("first");
    bench.lead();
    bench.arrive("second");
    expect(names(bench.plan().e?.run)).toEqual([]);
    bench.cancel("first");
    bench.plan();
    expect(only(bench.marker("first", 2, 7), "wakeAt")).toEqual([{ kind: "wakeAt", at: 0 }]);
    expect(names(bench.plan().e?.run)).toEqual(["second"]);
  });

  it("leaves a reported call where it runs, without a marker and with its service", () => {
    const bench = gathering();
    bench.arrive("a");
    bench.report("e", { calls: { a: 9 } });
    expect(only(bench.lead(), "writeMarker")).toEqual([]);
    expect(bench.plan().e?.run).toEqual([{ call: "t/a", attempt: 1 }]);
    bench.arrive("b");
    bench.report("e", { calls: { a: 9.5 } });
    bench.plan();
    bench.lose("e", "silence");
    bench.marker("a", 2, 7);
    bench.join("f");
    expect(bench.plan().f?.run[0]?.dispatch).toMatchObject({ fence: 7, servedMs: 9.5 });
  });

  it("knows a call that was reported before it was read", () => {
    const bench = gathering();
    bench.report("e", { calls: { a: 3 } });
    bench.arrive("a");
    expect(only(bench.lead(), "writeMarker")).toEqual([]);
    expect(bench.plan().e?.run).toEqual([{ call: "t/a", attempt: 1 }]);
  });

  it("acks and charges a call that was reported finished before it was read", () => {
    const bench = gathering();
    bench.report("e", { finished: { a: { serviceMs: 12 } } });
    bench.arrive("a", { program: "p" });
    expect(only(bench.lead(), "ack")).toHaveLength(1);
    expect(bench.program("p")).toMatchObject({ serviceMs: 12, endedCalls: 1 });
  });

  it("believes only the last report of an engine, but never forgets an end", () => {
    const bench = gathering();
    bench.arrive("dropped");
    bench.arrive("ended");
    bench.report("e", { calls: { dropped: 3 }, finished: { ended: {} } });
    bench.report("e", {});
    expect(only(bench.lead(), "ack")).toMatchObject([{ call: "t/ended" }]);
    bench.plan();
    expect(bench.plans.get("e")?.run).toEqual([]);
  });

  it("continues the attempt that a marker names", () => {
    const bench = gathering();
    bench.arrive("a", { record: { kind: "marker", seq: 40, attempt: 3, crashes: 0 } });
    bench.report("e", { calls: { a: 1 }, attempts: { a: 3 } });
    bench.lead();
    expect(bench.plan().e?.run).toEqual([{ call: "t/a", attempt: 3 }]);
    expect(only(bench.lose("e", "silence"), "writeMarker")).toMatchObject([{ attempt: 4, expect: 40 }]);
  });

  it("does not believe an agent that holds an older attempt than the marker's", () => {
    const bench = gathering();
    bench.arrive("a", { record: { kind: "marker", seq: 40, attempt: 3, crashes: 2 } });
    bench.report("e", { calls: { a: 1 }, attempts: { a: 2 } });
    bench.lead();
    const commands = bench.feed({ kind: "planDue", at: 0 });
    expect(only(commands, "writeMarker")).toMatchObject([{ attempt: 4, expect: 40, cause: "take_over", crashes: 2 }]);
    expect(bench.plans.get("e")?.run).toEqual([]);
  });

  it("believes the later attempt of two engines that report the same call", () => {
    for (const order of [
      ["e", "f"],
      ["f", "e"],
    ]) {
      const bench = gathering();
      bench.join("f");
      bench.arrive("a", { record: { kind: "marker", seq: 40, attempt: 2, crashes: 0 } });
      for (const engine of order) bench.report(engine, { calls: { a: 1 }, attempts: { a: engine === "e" ? 1 : 2 } });
      bench.lead();
      bench.plan();
      expect([bench.plans.get("e")?.run, bench.plans.get("f")?.run]).toEqual([[], [{ call: "t/a", attempt: 2 }]]);
    }
  });

  it("writes markers lazily for calls that nobody reported, only as many as the next batch holds", () => {
    const bench = gathering(2);
    for (let i = 0; i < 10; i++) bench.arrive(`c${i}`);
    expect(only(bench.lead(), "writeMarker")).toEqual([]);
    const commands = bench.feed({ kind: "planDue", at: 0 });
    expect(only(commands, "writeMarker").map(({ call }) => call)).toEqual(["t/c0", "t/c1"]);
    bench.marker("c1", 2, 8);
    bench.marker("c0", 2, 9);
    expect(names(bench.plan().e?.run)).toEqual(["c0", "c1"]);
  });

  it("does not wait for its turn to write the marker of a call whose result an agent holds unwritten", () => {
    const bench = gathering(1);
    bench.arrive("first", { record: { kind: "marker", seq: 4, attempt: 2, crashes: 0 } });
    bench.arrive("fenced", { record: { kind: "marker", seq: 5, attempt: 2, crashes: 0 } });
    bench.lead();
    bench.plan();
    expect(only(bench.report("e", { fenced: ["fenced"] }), "writeMarker")).toMatchObject([
      { call: "t/fenced", attempt: 3, expect: 5 },
    ]);
    bench.marker("fenced", 3, 9);
    bench.report("e", { fenced: ["fenced"] });
    expect(bench.plan().e?.fences).toEqual([{ call: "t/fenced", attempt: 1, fence: 9 }]);
  });

  it("runs a call that it read first itself without a marker", () => {
    const bench = gathering();
    bench.lead();
    bench.arrive("new");
    expect(bench.plan().e?.run).toMatchObject([{ call: "t/new", attempt: 1, dispatch: { fence: 0 } }]);
  });

  it("does not give a call to an engine that left while it gathered", () => {
    const bench = gathering();
    bench.arrive("a");
    bench.report("e", { calls: { a: 3 } });
    bench.lose("e", "exit");
    bench.join("f");
    bench.lead();
    expect(only(bench.feed({ kind: "planDue", at: 0 }), "writeMarker")).toMatchObject([{ call: "t/a", attempt: 2 }]);
    bench.marker("a", 2, 5);
    expect(bench.plan().f?.run).toMatchObject([{ call: "t/a", attempt: 2, dispatch: { fence: 5 } }]);
  });

  it("refuses a call that came after its program's end, and remembers the end of an earlier leader", () => {
    const bench = gathering();
    bench.at = 10;
    bench.end("p");
    bench.at = 11;
    bench.arrive("late", { program: "p" });
    bench.arrive("early", { program: "p", arrivedAt: 9 });
    expect(only(bench.lead(), "writeOutcome")).toMatchObject([{ call: "t/late", code: "program_ended" }]);
  });

  it.each(["running", "unreported"])("cancels a %s call for a cancel that came while it gathered", (how) => {
    const bench = gathering();
    bench.arrive("a");
    if (how === "running") bench.report("e", { calls: { a: 1 } });
    bench.cancel("a");
    const lead = bench.lead();
    const plan = bench.plan().e;
    expect(plan?.run).toEqual([]);
    if (how === "running") {
      expect(plan?.cancel).toEqual([{ call: "t/a", attempt: 1, cause: "client" }]);
      return;
    }
    expect(only(lead, "writeMarker")).toMatchObject([{ call: "t/a", attempt: 2 }]);
    expect(only(bench.marker("a", 2, 6), "writeOutcome")).toMatchObject([{ status: "cancelled", fence: 6 }]);
  });

  it("cancels a call whose cancel came before it, while it gathered", () => {
    const bench = gathering();
    bench.cancel("a");
    bench.arrive("a");
    expect(only(bench.lead(), "writeMarker")).toMatchObject([{ call: "t/a", attempt: 2 }]);
  });

  it("takes a program's past from its saved entry, and charges nothing in it twice", () => {
    const first = new Bench();
    first.join("e");
    first.arrive("a", { program: "p" });
    first.run();
    const [saved] = only(first.report("e", { finished: { a: { serviceMs: 12, waitingMs: 3 } } }), "saveEntry");
    const second = gathering();
    if (!saved) throw new Error("nothing was saved");
    second.feed({ kind: "programStarted", at: 0, program: saved.entry.program, restored: saved.entry });
    second.arrive("a", { program: "p" });
    second.report("e", { finished: { a: { serviceMs: 12, waitingMs: 3 } } });
    second.lead();
    expect(second.program("p")).toMatchObject({ serviceMs: 12, waitingMs: 3, attained: 12, endedCalls: 1 });
  });

  it("takes service for what was attained in another unit, and no tokens for what was attained in time", () => {
    const past = (policy: Policy) => {
      const bench = new Bench({ policy });
      bench.join("e");
      bench.arrive("a", { program: "p" });
      bench.run();
      const report = { a: { serviceMs: 12, waitingMs: 3, contextTokens: 500 } };
      const [saved] = only(bench.report("e", { finished: report }), "saveEntry");
      if (!saved) throw new Error("nothing was saved");
      return saved.entry;
    };
    const attainedUnder = (policy: Policy, entry: SavedEntry) => {
      const bench = new Bench({ policy }, { gathering: true });
      bench.feed({ kind: "programStarted", at: 0, program: entry.program, restored: entry });
      return bench.program("p")?.attained;
    };
    const [inTime, inTokens] = [past(policies.plas), past(policies["las-decay"])];
    expect(attainedUnder(policies["las-decay"], inTokens)).toBe(500);
    expect(attainedUnder(policies.atlas, inTime)).toBe(12);
    expect(attainedUnder(policies.plas, inTokens)).toBe(12);
    expect(attainedUnder(policies["las-decay"], inTime)).toBe(0);
  });
});
