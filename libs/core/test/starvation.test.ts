import { describe, expect, it } from "vitest";
import { BETA, BETA_FLOOR_MS, type CoreConfig, policies, Scheduler } from "../src/index.ts";
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

  it("has the documented β and floor when nobody says otherwise", () => {
    const { beta: _, ...rest } = coreConfig(policies.plas);
    const { beta, betaFloorMs } = stateOf(new Scheduler(rest));
    expect([beta, betaFloorMs]).toEqual([BETA, BETA_FLOOR_MS]);
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
