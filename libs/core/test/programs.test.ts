import { describe, expect, it } from "vitest";
import { balancers, policies } from "../src/index.ts";
import { ENDED_CALLS_MAX, ENGINES_MAX } from "../src/table.ts";
import { Bench, names, only } from "./bench.ts";

function oneEngine(over: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  const bench = new Bench(over);
  bench.join("e");
  return bench;
}

describe("the process table", () => {
  it("adds up service and waiting of ended calls, and saves them", () => {
    const bench = oneEngine();
    bench.arrive("a", { program: "p" });
    bench.arrive("b", { program: "p" });
    bench.run();
    expect(bench.program("p")).toMatchObject({ waitingCalls: 0, runningCalls: 2 });
    bench.at = 9;
    const commands = bench.report("e", { calls: { b: 1 }, finished: { a: { serviceMs: 7, waitingMs: 2 } } });
    expect(only(commands, "saveEntry")).toMatchObject([
      { entry: { program: "t/p", serviceMs: 7, waitingMs: 2, attained: 7, endedCalls: 1, charged: ["t/a"] } },
    ]);
    expect(bench.program("p")).toMatchObject({ lastCompletionAt: 9, runningCalls: 1 });
  });

  it("charges a call once, however often its end is reported", () => {
    const bench = oneEngine();
    bench.arrive("a", { program: "p" });
    bench.run();
    for (let i = 0; i < 3; i++) bench.report("e", { finished: { a: { serviceMs: 7 } } });
    bench.arrive("a", { program: "p" });
    bench.run();
    bench.report("e", { finished: { a: { serviceMs: 7 } } });
    expect(bench.program("p")).toMatchObject({ serviceMs: 7, endedCalls: 1 });
  });

  it("charges nothing for a call whose outcome was there already", () => {
    const bench = oneEngine();
    bench.arrive("a", { program: "p" });
    bench.run();
    const commands = bench.report("e", { finished: { a: { found: true, serviceMs: 7 } } });
    expect(only(commands, "ack")).toHaveLength(1);
    expect(bench.program("p")).toMatchObject({ serviceMs: 0, endedCalls: 0 });
  });

  it("cancels calls that were accepted before a cancelling end and are read after it, also after a take-over", () => {
    const bench = oneEngine();
    bench.at = 10;
    const [saved] = only(bench.end("p", true), "saveEntry");
    bench.at = 11;
    const closed = { kind: "writeOutcome", status: "cancelled", code: "cancelled" };
    expect(bench.arrive("early", { program: "p", arrivedAt: 9 })).toContainEqual(expect.objectContaining(closed));
    const late = bench.arrive("late", { program: "p", arrivedAt: 11 });
    expect(only(late, "writeOutcome")).toMatchObject([{ status: "failed", code: "program_ended" }]);
    expect(names(bench.plan().e?.run)).toEqual([]);

    const next = new Bench({}, { gathering: true });
    next.at = 12;
    const restored = saved?.entry;
    if (!restored) throw new Error("nothing was saved");
    next.feed({ kind: "programStarted", at: 12, program: restored.program, restored });
    next.join("e");
    for (const name of ["waits", "runs"]) next.arrive(name, { program: "p", arrivedAt: 9 });
    next.report("e", { calls: { runs: 3 } });
    next.lead();
    expect(next.plan().e?.cancel).toMatchObject([{ call: "t/runs", cause: "program" }]);
    expect(next.marker("waits", 2, 5)).toContainEqual(expect.objectContaining({ ...closed, call: "t/waits" }));
  });

  it("lets accepted calls finish when their program was ended without a cancel", () => {
    const bench = oneEngine();
    bench.at = 10;
    bench.end("p");
    bench.at = 11;
    bench.arrive("early", { program: "p", arrivedAt: 9 });
    expect(names(bench.plan().e?.run)).toEqual(["early"]);
  });

  it("does not grow while more programs come and go than a tick looks at by itself", () => {
    const bench = oneEngine({ programIdleMaxMs: 1_000 });
    const sizes: number[] = [];
    for (let tick = 0; tick < 40; tick++) {
      for (let i = 0; i < 300; i++) bench.end(`p${tick}-${i}`);
      bench.pass(250);
      sizes.push(bench.scheduler.counts().programs);
    }
    // Four ticks' worth is idle for no longer than a program may be, and one more comes before the next look.
    expect(Math.max(...sizes)).toBeLessThanOrEqual(5 * 300);
  });

  it("keeps a program's pin while its engine is only silent", () => {
    const bench = new Bench({ balancer: balancers.sticky });
    for (const engine of ["e1", "e2"]) bench.join(engine);
    bench.arrive("a", { program: "p" });
    bench.run();
    bench.report("e1", { finished: { a: { serviceMs: 1 } } });
    bench.suspect("e1", true);
    bench.arrive("b", { program: "p" });
    expect(names(bench.run().e2?.run)).toEqual(["b"]);
    bench.report("e2", { finished: { b: { serviceMs: 1 } } });
    bench.suspect("e1", false);
    bench.arrive("c", { program: "p" });
    expect(names(bench.plan().e1?.run)).toEqual(["c"]);
    expect(bench.program("p")).toMatchObject({ pin: "e1" });
  });

  it("takes the sum under plas and the longest chain under atlas", () => {
    for (const [policy, attained] of [
      [policies.plas, 12],
      [policies.atlas, 7],
    ] as const) {
      const bench = oneEngine({ policy });
      bench.arrive("left", { program: "p" });
      bench.arrive("right", { program: "p" });
      bench.run();
      bench.report("e", { finished: { left: { serviceMs: 7 }, right: { serviceMs: 5 } } });
      expect(bench.program("p")).toMatchObject({ serviceMs: 12, attained });
    }
  });

  it("keeps the longest chains of service and of waiting beside the sums", () => {
    const bench = oneEngine({ policy: policies.plas });
    for (const name of ["left", "right"]) bench.arrive(name, { program: "p" });
    bench.run();
    const waits = { left: { serviceMs: 7, waitingMs: 1 }, right: { serviceMs: 5, waitingMs: 4 } };
    bench.report("e", { finished: waits });
    bench.arrive("join", { program: "p" });
    bench.run();
    bench.report("e", { finished: { join: { serviceMs: 2, waitingMs: 3 } } });
    const sums = { serviceMs: 14, waitingMs: 8 };
    expect(bench.program("p")).toMatchObject({ ...sums, pathServiceMs: 9, pathWaitingMs: 7 });
  });

  it("shows each thread with its own arrival, waiting and service", () => {
    const bench = oneEngine();
    bench.join("e", { batchCallsMax: 1 }, "i2");
    bench.arrive("a", { program: "p", thread: "x" });
    bench.run();
    bench.at = 4;
    bench.arrive("b", { program: "p", thread: "y" });
    bench.at = 10;
    bench.report("e", { calls: { a: 9 } });
    expect(bench.scheduler.threads("t/p" as never, 10)).toEqual([
      { call: "t/a", thread: "x", engine: "e", level: 0, arrivedAt: 0, waitingMs: 1, serviceMs: 9 },
      { call: "t/b", thread: "y", engine: "e", level: 0, arrivedAt: 4, waitingMs: 6, serviceMs: 0 },
    ]);
    expect(bench.scheduler.threads("t/nobody" as never, 10)).toEqual([]);
  });

  it("knows when its program came last, when a call of it ended last, and on which engines", () => {
    const bench = new Bench({ balancer: balancers["round-robin"] });
    for (const engine of ["e1", "e2"]) bench.join(engine);
    for (const [i, engine] of ["e1", "e2", "e1"].entries()) {
      bench.at = 10 * (i + 1);
      bench.arrive(`c${i}`, { program: "p" });
      bench.run();
      bench.at++;
      bench.report(engine, { finished: { [`c${i}`]: { serviceMs: 1 } } });
    }
    expect(bench.program("p")).toMatchObject({
      arrivedAt: 10,
      lastArrivalAt: 30,
      lastCompletionAt: 31,
      engines: ["e2", "e1"],
    });
  });

  it("loses the threads that end, first, last or in between", () => {
    const bench = oneEngine();
    const orders = [
      ["a", "b", "c"],
      ["b", "a", "c"],
      ["b", "c", "a"],
      ["c", "b", "a"],
    ];
    for (const [i, order] of orders.entries()) {
      const program = `p${i}`;
      const left = ["a", "b", "c"];
      for (const name of left) bench.arrive(`${program}${name}`, { program });
      for (const name of order) {
        bench.cancel(`${program}${name}`);
        bench.seen(`${program}${name}`, "cancelled");
        left.splice(left.indexOf(name), 1);
        const threads = bench.scheduler.threads(`t/${program}` as never, 0).map(({ call }) => call);
        expect(threads).toEqual(left.map((other) => `t/${program}${other}`));
        expect(bench.program(program)?.waitingCalls).toBe(left.length);
      }
    }
  });

  it("is restored as it was saved", () => {
    const bench = new Bench({ balancer: balancers.sticky });
    for (const engine of ["e1", "e2"]) bench.join(engine);
    bench.at = 5;
    bench.arrive("a", { program: "p" });
    bench.run();
    bench.at = 15;
    bench.report("e1", { finished: { a: { serviceMs: 7, waitingMs: 3 } } });
    const { waitingCalls: _, runningCalls: __, ...entry } = bench.program("p") ?? expect.fail("no program");
    const second = new Bench({}, { gathering: true });
    for (const engine of ["e1", "e2"]) second.join(engine);
    second.feed({ kind: "programStarted", at: 20, program: entry.program, restored: entry });
    second.lead();
    expect(second.program("p")).toEqual({ ...entry, waitingCalls: 0, runningCalls: 0 });
  });

  it("is kept, and saved, once a call has named the program of a call that named none", () => {
    const bench = oneEngine({ programIdleMaxMs: 1_000 });
    bench.arrive("first", { program: "p", alone: true });
    bench.arrive("second", { program: "p" });
    bench.run();
    const commands = bench.report("e", { finished: { first: { serviceMs: 1 }, second: { serviceMs: 1 } } });
    expect(only(commands, "saveEntry")).toHaveLength(2);
    expect(bench.program("p")).toMatchObject({ endedCalls: 2 });
    bench.pass(1_000);
    expect(bench.program("p")).toBeUndefined();
  });

  it("remembers the last ended calls and engines of a program, and no more", () => {
    const bench = new Bench();
    for (let i = 0; i < ENDED_CALLS_MAX + 3; i++) {
      bench.join(`e${i}`);
      bench.arrive(`c${i}`, { program: "p" });
      bench.run();
      bench.report(`e${i}`, { finished: { [`c${i}`]: { serviceMs: 1 } } });
      bench.lose(`e${i}`, "exit");
    }
    const { charged = [], engines = [], endedCalls } = bench.program("p") ?? {};
    expect([charged.length, charged[0], engines.length, engines.at(-1)]).toEqual([
      ENDED_CALLS_MAX,
      "t/c3",
      ENGINES_MAX,
      `e${ENDED_CALLS_MAX + 2}`,
    ]);
    expect(endedCalls).toBe(ENDED_CALLS_MAX + 3);
  });

  it("forgets the program of a call that named none, and never saves it", () => {
    const bench = oneEngine();
    bench.arrive("a", { alone: true });
    bench.run();
    const commands = bench.report("e", { finished: { a: { serviceMs: 1 } } });
    expect(only(commands, "saveEntry")).toEqual([]);
    expect(bench.program("a")).toBeUndefined();
    expect(bench.scheduler.counts().programs).toBe(0);
  });

  it("drops a program that nobody uses, and none that has calls or was used since", () => {
    const bench = oneEngine({ programIdleMaxMs: 1_000 });
    bench.arrive("old-call", { program: "old" });
    bench.arrive("busy-call", { program: "busy" });
    bench.run();
    bench.report("e", { calls: { "busy-call": 0 }, finished: { "old-call": {} } });
    bench.pass(600);
    bench.arrive("used-call", { program: "used" });
    bench.pass(400);
    expect(["old", "busy", "used"].map((name) => bench.program(name) !== undefined)).toEqual([false, true, true]);
    bench.report("e", { finished: { "busy-call": {} } });
    bench.pass(1_000);
    expect(bench.program("busy")).toBeUndefined();
  });

  it("is started once, and saved", () => {
    const bench = oneEngine();
    const start = { kind: "programStarted", at: 5, program: "t/p" as never } as const;
    expect(only(bench.feed(start), "saveEntry")).toMatchObject([{ entry: { program: "t/p", endedCalls: 0 } }]);
    expect(bench.feed(start)).toEqual([]);
  });
});

describe("a program that ended", () => {
  it("refuses calls that come later, and lets accepted ones finish", () => {
    const bench = oneEngine();
    bench.arrive("running", { program: "p" });
    bench.run();
    bench.at = 10;
    expect(only(bench.end("p"), "saveEntry")).toMatchObject([{ entry: { endedAt: 10 } }]);
    bench.at = 11;
    expect(only(bench.arrive("late", { program: "p" }), "writeOutcome")).toMatchObject([
      { call: "t/late", status: "failed", code: "program_ended" },
    ]);
    expect(names(bench.plans.get("e")?.run)).toEqual(["running"]);
    expect(only(bench.report("e", { finished: { running: {} } }), "ack")).toHaveLength(1);
  });

  it("takes a call that was accepted before the end and is read after it", () => {
    const bench = oneEngine();
    bench.at = 10;
    bench.end("p");
    bench.at = 11;
    bench.arrive("in-time", { program: "p", arrivedAt: 10 });
    expect(names(bench.plan().e?.run)).toEqual(["in-time"]);
  });

  it("keeps the time of its first end", () => {
    const bench = oneEngine();
    bench.at = 10;
    bench.end("p");
    bench.at = 20;
    bench.end("p");
    expect(bench.program("p")?.endedAt).toBe(10);
  });

  it("with cancel ends its waiting calls here and its running ones on their engine", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("running", { program: "p" });
    bench.arrive("waiting", { program: "p" });
    bench.arrive("other");
    bench.run();
    expect(only(bench.end("p", true), "writeOutcome")).toMatchObject([{ call: "t/waiting", status: "cancelled" }]);
    expect(bench.plan().e).toMatchObject({
      cancel: [{ call: "t/running", cause: "program" }],
      run: [{ call: "t/other" }],
    });
  });
});
