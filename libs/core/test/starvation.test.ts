import { describe, expect, it } from "vitest";
import { BETA, BETA_FLOOR_MS, type CoreConfig, PROMOTED_SHARE, policies, programId, Scheduler } from "../src/index.ts";
import { Bench, names, only } from "./bench.ts";
import { stateOf } from "./checkers.ts";
import { coreConfig } from "./config.ts";

/** `low` waits in Q2, of a program with 10 ms of service, behind `top`, which has the only slot. */
function waiting(over: Partial<CoreConfig> = {}): Bench {
  const bench = new Bench({ beta: 2, betaFloorMs: 1, ...over });
  bench.join("e", { batchCallsMax: 1 });
  bench.arrive("past", { program: "p" });
  bench.run();
  bench.report("e", { finished: { past: { serviceMs: 10 } } });
  bench.arrive("top");
  bench.run();
  bench.arrive("low", { program: "p" });
  return bench;
}

const levelOfLow = (bench: Bench) => bench.scheduler.threads("t/p" as never, bench.at)[0]?.level;

describe("a call that starves", () => {
  it("asks to be woken when it is due, is promoted then, and not a moment before", () => {
    const bench = waiting();
    expect(only(bench.pass(0), "wakeAt")).toContainEqual({ kind: "wakeAt", at: 20 });
    bench.pass(19.9);
    expect(levelOfLow(bench)).toBe(1);
    bench.pass(0.1);
    expect(levelOfLow(bench)).toBe(0);
    expect(bench.scheduler.totals).toMatchObject({ promotions: 1 });
  });

  it("is promoted by a plan, too", () => {
    const bench = waiting();
    bench.at = 20;
    bench.plan();
    expect(levelOfLow(bench)).toBe(0);
  });

  it("then goes before any call that enters Q1 later", () => {
    const bench = waiting();
    bench.arrive("earlier");
    bench.pass(20);
    bench.arrive("later");
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    const order: string[] = [];
    for (let i = 0; i < 3; i++) {
      bench.run();
      const [first = ""] = names(bench.plans.get("e")?.run);
      order.push(first);
      bench.report("e", { finished: { [first]: { serviceMs: 1 } } });
    }
    expect(order).toEqual(["earlier", "low", "later"]);
  });

  it("is looked at again later when it was served meanwhile", () => {
    const bench = waiting();
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.run();
    bench.at = 5;
    bench.report("e", { calls: { low: 5 } });
    bench.arrive("another");
    bench.pass(19);
    // W = 24 − 5, T = 10 + 5: due when it has waited 30, at 35.
    expect(levelOfLow(bench)).toBe(1);
    bench.pass(10.9);
    expect(levelOfLow(bench)).toBe(1);
    bench.pass(0.1);
    expect(levelOfLow(bench)).toBe(0);
  });

  it("is looked at when the pass comes, although it was due when it was demoted", () => {
    const bench = new Bench({ beta: 2, betaFloorMs: 1 });
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("past", { program: "p" });
    bench.run();
    bench.report("e", { finished: { past: { serviceMs: 5, waitingMs: 35 } } });
    bench.arrive("low", { program: "p" });
    bench.run();
    // W = 35, T = 5 + 10: due. Before the pass comes it has run on: T = 5 + 15.
    bench.report("e", { calls: { low: 10 } });
    bench.report("e", { calls: { low: 15 } });
    bench.plan();
    expect([levelOfLow(bench), bench.scheduler.totals.promotions]).toEqual([1, 0]);
  });

  it("is never promoted where β is infinite or the policy has no levels", () => {
    for (const over of [{ beta: Number.POSITIVE_INFINITY }, { policy: policies.fcfs }]) {
      const bench = waiting(over);
      bench.pass(1e6);
      expect(bench.scheduler.totals.promotions).toBe(0);
      expect(stateOf(bench.scheduler).promotions.size).toBe(0);
    }
  });

  it("counts for its own waiting and service alone under a policy by call", () => {
    const bench = new Bench({ policy: policies.mlfq, beta: 2, betaFloorMs: 1 });
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("past", { program: "p" });
    bench.run();
    bench.report("e", { finished: { past: { serviceMs: 100, waitingMs: 100 } } });
    bench.arrive("low", { program: "p" });
    bench.run();
    bench.at = 12;
    bench.report("e", { calls: { low: 12 } });
    bench.arrive("top");
    bench.pass(23);
    expect(levelOfLow(bench)).toBe(1);
    bench.pass(1);
    expect(levelOfLow(bench)).toBe(0);
  });

  it("asks for a plan when it may run now", () => {
    const bench = new Bench({ beta: 2, betaFloorMs: 1 });
    bench.join("e", { batchCallsMax: 1 });
    for (const name of ["past", "other"]) bench.arrive(name, { program: name });
    bench.run();
    bench.report("e", { finished: { past: { serviceMs: 10 } } });
    bench.run();
    bench.report("e", { finished: { other: { serviceMs: 20 } } });
    // Both in Q2: the one whose program had more service came first.
    bench.arrive("runs", { program: "other" });
    bench.arrive("low", { program: "past" });
    bench.run();
    bench.report("e", { calls: { runs: 1 } });
    bench.plan();
    expect(only(bench.pass(20), "wakeAt")).toContainEqual({ kind: "wakeAt", at: 20 });
    expect(names(bench.plan().e?.run)).toEqual(["low"]);
  });

  it("counts what it was served in earlier attempts", () => {
    const bench = waiting();
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.run();
    bench.at = 6;
    bench.report("e", { calls: { low: 6 } });
    bench.lose("e", "silence");
    bench.marker("low", 2, 7);
    // T = 10 + 6: due when it has waited 32, at 38.
    bench.pass(31);
    expect(levelOfLow(bench)).toBe(1);
    bench.pass(1);
    expect(levelOfLow(bench)).toBe(0);
  });

  it("has the documented β, floor and places when nobody says otherwise", () => {
    const { beta: _beta, promotedShare: _share, ...rest } = coreConfig(policies.plas);
    const { beta, betaFloorMs, promotedShare } = stateOf(new Scheduler(rest));
    expect([beta, betaFloorMs, promotedShare]).toEqual([BETA, BETA_FLOOR_MS, PROMOTED_SHARE]);
  });

  it("waits for its turn while its engine is lost, and is promoted when it is queued again", () => {
    const bench = waiting();
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.run();
    bench.lose("e", "silence");
    bench.pass(1_000);
    expect(levelOfLow(bench)).toBe(1);
    bench.marker("low", 2, 7);
    bench.plan();
    expect(levelOfLow(bench)).toBe(0);
  });
});

/**
 * Programs `a` … with 10 ms of service, whose next calls wait in Q2 since 0, 1 … ms behind `top`: due 20 ms later, and
 * the engine has one place for promoted calls.
 */
function crowd(count: number, over: Partial<CoreConfig> = {}): { bench: Bench; names: string[] } {
  const bench = new Bench({ beta: 2, betaFloorMs: 1, promotedShare: 0.05, ...over });
  bench.join("e", { batchCallsMax: 1 });
  const programs = Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
  for (const program of programs) {
    bench.arrive(`${program}0`, { program });
    bench.run();
    bench.report("e", { finished: { [`${program}0`]: { serviceMs: 10 } } });
  }
  bench.arrive("top");
  bench.run();
  for (const program of programs) {
    bench.arrive(`${program}1`, { program });
    bench.at++;
  }
  return { bench, names: programs.map((program) => `${program}1`) };
}

/** Calls of Q1 on the engine, or that no engine has. */
function promotedOf(bench: Bench, engine?: string): string[] {
  const state = stateOf(bench.scheduler);
  const queues = engine === undefined ? state.unbound : state.engines.get(engine as never)?.queues;
  return [...(queues?.promoted ?? [])].map(({ id }) => id.slice("t/".length));
}

const queuedInQ1 = (bench: Bench): string[] =>
  [
    ...(stateOf(bench.scheduler)
      .engines.get("e" as never)
      ?.queues.at(0) ?? []),
  ].map(({ id }) => id.slice("t/".length));

describe("places for promoted calls", () => {
  it("are given to those that are due longest, and to the next one when one has ended", () => {
    const { bench } = crowd(3);
    bench.pass(50);
    expect(queuedInQ1(bench)).toEqual(["top", "a1"]);
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.run();
    expect(queuedInQ1(bench)).toEqual(["a1"]);
    bench.report("e", { finished: { a1: { serviceMs: 5 } } });
    bench.run();
    expect(names(bench.plans.get("e")?.run)).toEqual(["b1"]);
    expect([bench.scheduler.totals.promotions, promotedOf(bench, "e")]).toEqual([2, ["b1"]]);
  });

  it("are as many as the share of its batch, one at least, and without a limit as many as are due", () => {
    for (const [promotedShare, promoted] of [
      [0.05, 1],
      [2, 2],
      [3.9, 3],
      [Number.POSITIVE_INFINITY, 5],
    ] as const) {
      const { bench } = crowd(5, { promotedShare });
      bench.pass(50);
      expect(promotedOf(bench, "e")).toHaveLength(promoted);
    }
  });

  it("are left by a call that is demoted and does not starve any more", () => {
    const { bench } = crowd(2);
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.pass(30);
    expect(promotedOf(bench, "e")).toEqual(["a1"]);
    bench.run();
    // Its quantum in Q1 is used up: T_p + T_c = 10 + 10, and it waits from zero again.
    bench.report("e", { calls: { a1: 10 } });
    expect(promotedOf(bench, "e")).toEqual([]);
    bench.run();
    expect([queuedInQ1(bench), promotedOf(bench, "e")]).toEqual([["b1"], ["b1"]]);
  });

  it("are kept by a call that is demoted and starves all the same: it goes on before others begin", () => {
    const bench = new Bench({ beta: 2, betaFloorMs: 1, promotedShare: 0.05 });
    bench.join("e", { batchCallsMax: 1 });
    for (const program of ["a", "b"]) {
      bench.arrive(`${program}0`, { program });
      bench.run();
      // The program has waited 1 s for its 10 ms: whatever it sends starves.
      bench.report("e", { finished: { [`${program}0`]: { serviceMs: 10, waitingMs: 1_000 } } });
    }
    for (const program of ["a", "b"]) bench.arrive(`${program}1`, { program });
    bench.run();
    for (const serviceMs of [10, 20, 30]) {
      bench.report("e", { calls: { a1: serviceMs } });
      expect(names(bench.plan().e?.run ?? bench.plans.get("e")?.run)).toEqual(["a1"]);
      expect([queuedInQ1(bench), promotedOf(bench, "e")]).toEqual([["a1"], ["a1"]]);
    }
  });

  it("are left by a call that is cancelled, and by one that waits for its marker", () => {
    const { bench } = crowd(3);
    bench.pass(50);
    bench.cancel("a1");
    bench.run();
    expect(promotedOf(bench, "e")).toEqual(["b1"]);
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.run();
    bench.run();
    // The plan that named it came, and the agent does not hold it; then it has none at all.
    bench.report("e", { calls: {} });
    bench.report("e", { calls: { b1: 0 }, attempts: { b1: 1 } });
    bench.lose("e", "silence");
    expect(promotedOf(bench)).toEqual(["b1"]);
    bench.join("f", { batchCallsMax: 1 });
    bench.marker("b1", 2, 7);
    expect([promotedOf(bench), promotedOf(bench, "f")]).toEqual([[], ["b1"]]);
  });

  it("are an engine's own: who is bound to another one is promoted there", () => {
    const { bench } = crowd(4);
    bench.pass(50);
    expect(promotedOf(bench, "e")).toEqual(["a1"]);
    bench.join("f", { batchCallsMax: 1 });
    bench.plan();
    const [onE, onF] = [promotedOf(bench, "e"), promotedOf(bench, "f")];
    expect([onE.length, onF.length]).toEqual([1, 1]);
    expect(onE).not.toEqual(onF);
  });

  it("are none while there is no engine, and those of the first that joins", () => {
    const { bench } = crowd(4);
    bench.report("e", { finished: { top: { serviceMs: 5 } } });
    bench.lose("e", "silence");
    bench.pass(50);
    expect([bench.scheduler.totals.promotions, promotedOf(bench)]).toEqual([0, []]);
    bench.join("f", { batchCallsMax: 1 });
    bench.plan();
    expect(promotedOf(bench, "f")).toEqual(["a1"]);
  });

  it("are those that engines have left where calls are bound late", () => {
    const { bench } = crowd(4, { binding: "late" });
    bench.join("f", { batchCallsMax: 1 });
    bench.arrive("other");
    bench.run();
    bench.pass(50);
    bench.plan();
    expect([...promotedOf(bench, "e"), ...promotedOf(bench, "f"), ...promotedOf(bench)]).toHaveLength(2);
    expect(bench.scheduler.totals.promotions).toBe(2);
  });
});

/** A program of so much service, none of it waited for. */
function past(bench: Bench, program: string, serviceMs: number): void {
  const times = { serviceMs, pathServiceMs: serviceMs, attained: serviceMs, waitingMs: 0, pathWaitingMs: 0 };
  const never = { endedAt: undefined, pin: undefined, arrivedAt: 0, lastArrivalAt: 0, lastCompletionAt: 0 };
  const id = programId(`t/${program}`);
  const restored = { program: id, ...times, ...never, endedCalls: 1, engines: [], charged: [] };
  bench.feed({ kind: "programStarted", at: bench.at, program: id, restored });
}

/** Who waits for a place on the engine, in the order in which they are to get one. */
function rowOf(bench: Bench): string[] {
  const row = stateOf(bench.scheduler).engines.get("e" as never)?.queues.starving;
  // Puts it in order.
  row?.first();
  return [...(row ?? [])].map(({ id }) => id.slice("t/".length));
}

describe("the row of calls that wait for a place", () => {
  it("is in the order of the times at which they were due, after a restart of their engine, too", () => {
    const bench = new Bench({ beta: 2, betaFloorMs: 1, promotedShare: 0.05 });
    bench.join("e", { batchCallsMax: 1 });
    for (const [program, serviceMs] of [
      ["first", 10],
      ["old", 30],
      ["young", 10],
    ] as const)
      past(bench, program, serviceMs);
    bench.arrive("top");
    bench.run();
    bench.arrive("first1", { program: "first" });
    bench.pass(25);
    // Due at 85, and at 80 the one that came later.
    bench.arrive("old1", { program: "old" });
    bench.pass(35);
    bench.arrive("young1", { program: "young" });
    bench.pass(100);
    expect([promotedOf(bench, "e"), rowOf(bench)]).toEqual([["first1"], ["young1", "old1"]]);
    past(bench, "new", 10);
    bench.arrive("new1", { program: "new" });
    bench.pass(30);
    expect(rowOf(bench)).toEqual(["young1", "old1", "new1"]);
    bench.join("e", { batchCallsMax: 1 }, "i2");
    bench.plan();
    expect([...promotedOf(bench, "e"), ...rowOf(bench)]).toEqual(["first1", "young1", "old1", "new1"]);
  });

  it("is not passed by calls that enter Q1 after they were due", () => {
    const { bench } = crowd(3);
    bench.pass(50);
    for (const name of ["later", "latest"]) bench.arrive(name);
    const order: string[] = [];
    for (let i = 0; i < 6; i++) {
      bench.run();
      const [first = ""] = names(bench.plans.get("e")?.run);
      order.push(first);
      bench.report("e", { finished: { [first]: { serviceMs: 1 } } });
    }
    expect(order).toEqual(["top", "a1", "b1", "c1", "later", "latest"]);
  });

  it("is the longer one's turn where an engine has calls of its own that starve, and others are bound late", () => {
    const bench = new Bench({ beta: 2, betaFloorMs: 1, promotedShare: 0.05, binding: "late" });
    bench.join("e", { batchCallsMax: 1 });
    for (const program of ["unbound", "own"]) past(bench, program, 10);
    bench.arrive("own1", { program: "own" });
    bench.run();
    bench.report("e", { calls: { own1: 1 } });
    // It is out of the batch for `top` now, and is the engine's.
    bench.arrive("top");
    bench.run();
    bench.arrive("unbound1", { program: "unbound" });
    bench.at = 20;
    bench.pass(0);
    expect([promotedOf(bench), promotedOf(bench, "e")]).toEqual([["unbound1"], []]);
    bench.pass(100);
    expect([promotedOf(bench), promotedOf(bench, "e"), rowOf(bench)]).toEqual([["unbound1"], [], ["own1"]]);
  });

  it("does not move on while a promoted call waits for its marker", () => {
    const bench = new Bench({ beta: 2, betaFloorMs: 1, promotedShare: 0.05 }, { gathering: true });
    bench.join("e", { batchCallsMax: 1 });
    bench.at = 1_000;
    const calls = ["a", "b", "c", "d"];
    for (const program of calls) {
      past(bench, program, 10);
      bench.arrive(`${program}1`, { program, arrivedAt: 0 });
    }
    bench.lead();
    const markers = [0, 1, 2].flatMap(() => only(bench.feed({ kind: "planDue", at: bench.at }), "writeMarker"));
    expect(markers.map(({ call }) => call)).toEqual(["t/a1"]);
    bench.marker("a1", 2, 7);
    expect([promotedOf(bench, "e"), rowOf(bench)]).toEqual([["a1"], ["b1", "c1", "d1"]]);
  });
});

describe("the heap of due promotions", () => {
  it("is not filled by calls that have ended", () => {
    const bench = new Bench({ beta: 1e6 });
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("past", { program: "p" });
    bench.run();
    bench.report("e", { finished: { past: { serviceMs: 10 } } });
    for (let i = 0; i < 5_000; i++) {
      bench.arrive(`c${i}`, { program: "p" });
      bench.run();
      bench.report("e", { finished: { [`c${i}`]: {} } });
    }
    expect(stateOf(bench.scheduler).promotions.size).toBeLessThan(2_000);
  });
});
