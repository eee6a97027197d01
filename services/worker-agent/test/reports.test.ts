import { beforeEach, describe, expect, it } from "vitest";
import { defaultLimits } from "../src/limits.ts";
import { AgentMachine } from "../src/machine.ts";
import { ENGINE, entry, INCARNATION, info, POOL, Rig } from "./support/rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe("a report", () => {
  it("is sent at the start and every 500 ms, with the engine's description, until a plan has come", () => {
    const fresh = new AgentMachine({
      pool: POOL,
      engine: ENGINE,
      incarnation: INCARNATION,
      info,
      limits: defaultLimits,
    });
    const first = fresh.react({ kind: "started", atMs: 1_000 });
    expect(rig.reports(first)[0]).toMatchObject({ number: 1, info, planEpoch: 0, planNumber: 0 });
    expect(first).toContainEqual({ kind: "wake", atMs: 1_500 });
    expect(rig.reports(fresh.react({ kind: "timePassed", atMs: 1_500 }))[0]).toMatchObject({ number: 2, info });
    rig.plan();
    expect(rig.report()).not.toHaveProperty("info");
  });

  it("is still sent when the timer for it fired a little early", () => {
    rig.report();
    rig.pass(499);
    expect(rig.one("wake").atMs).toBe(rig.atMs + 1);
    rig.pass(1);
    expect(rig.reports()).toHaveLength(1);
  });

  it("names the plan in force", () => {
    rig.plan({ epoch: 3, number: 8 });
    expect(rig.report()).toMatchObject({ planEpoch: 3, planNumber: 8 });
  });

  it("is sent every window of steps", () => {
    rig.plan({ run: [entry("t/a")], windowSteps: 3 });
    rig.ready("t/a");
    const sent = [1, 2, 3, 4, 5, 6].map(() => rig.reports(rig.stepped({ "t/a": {} })).length);
    expect(sent).toEqual([0, 0, 1, 0, 0, 1]);
  });

  it("is sent every 500 ms when the steps are slow", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.stepped({ "t/a": {} }, 480);
    rig.pass(10);
    expect(rig.reports()).toHaveLength(1);
  });

  it("has the states and the cumulative counters of all held calls", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")], keep: [entry("t/k"), entry("t/l"), entry("t/m")] });
    rig.ready("t/a", "t/k", "t/l");
    rig.stepped({ "t/a": { contextTokens: 11 } }, 10);
    rig.plan({
      run: [{ call: "t/k", attempt: 1 }],
      keep: ["t/a", "t/b", "t/l", "t/m"].map((call) => ({ call, attempt: 1 })),
    });
    rig.stepped({ "t/a": { contextTokens: 12, completionTokens: 2 } }, 15);
    const { calls } = rig.report();
    expect(calls.map((c) => [c.call, c.state])).toEqual([
      ["t/a", "parked"],
      ["t/b", "fetching"],
      ["t/k", "running"],
      ["t/l", "evicted"],
      ["t/m", "fetching"],
    ]);
    expect(calls[0]).toMatchObject({ serviceMs: 25, contextTokens: 12, promptTokens: 10, completionTokens: 2 });
  });

  it("has the KV blocks in use by what they are for, and who cannot be stopped", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")], keep: [entry("t/k")] });
    rig.ready("t/a", "t/b", "t/k");
    rig.stepped({ "t/a": { contextTokens: 16 } });
    rig.stepped({ "t/a": { contextTokens: 17 }, "t/b": { contextTokens: 40, preemptible: false } });
    rig.plan({ run: ["t/b", "t/k"].map((call) => ({ call, attempt: 1 })), keep: [{ call: "t/a", attempt: 1 }] });
    rig.stepped({ "t/a": { contextTokens: 18 }, "t/b": { contextTokens: 41, preemptible: false } });
    const { kv, calls } = rig.report();
    expect(kv).toEqual({ running: 3, parked: 2, retained: 0, host: 0 });
    expect(calls.map(({ preemptible }) => preemptible)).toEqual([undefined, false, undefined]);
  });

  it("has the time for which the engine stood idle because of a plan on its way", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.pass(3);
    rig.stored("t/a");
    rig.pass(4);
    const seen = rig.report().number;
    const idleMs = 3 + 4 + 500;
    expect(rig.report().counters.planIdleMs).toBe(0);
    rig.plan({ reportSeen: seen, run: [entry("t/b")] });
    rig.pass(50);
    rig.ready("t/b");
    expect(rig.report().counters.planIdleMs).toBe(idleMs + 500);
  });

  it("counts no such time while there is nothing to run", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
    rig.plan({ reportSeen: rig.report().number });
    rig.pass(5_000);
    rig.plan({ reportSeen: rig.report().number, run: [entry("t/b")] });
    rig.ready("t/b");
    expect(rig.report().counters.planIdleMs).toBe(0);
  });

  it("repeats an end until a plan says that it was read", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
    const first = rig.reports()[0];
    expect(first?.finished[0]).toMatchObject({ call: "t/a", report: first?.number });
    expect(rig.report().finished).toEqual(first?.finished);
    rig.plan({ reportSeen: (first?.number ?? 0) - 1 });
    expect(rig.report().finished).toHaveLength(1);
    rig.plan({ reportSeen: first?.number ?? 0 });
    expect(rig.report().finished).toEqual([]);
  });

  it("is not sent more often than every 2 ms: what happens meanwhile is in the next one", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b"), entry("t/c")] });
    rig.ready("t/a", "t/b", "t/c");
    rig.stepped({ "t/a": { finish: "stop" } });
    rig.stepped({ "t/a": {}, "t/b": { finish: "stop" }, "t/c": { finish: "stop" } });
    rig.stored("t/a");
    expect(rig.reports()).toHaveLength(1);
    rig.stored("t/b");
    rig.stored("t/c");
    expect(rig.reports()).toEqual([]);
    expect(rig.all.filter((effect) => effect.kind === "wake").at(-1)).toEqual({ kind: "wake", atMs: rig.atMs + 2 });
    rig.pass(2);
    expect(rig.reports()[0]?.finished).toHaveLength(3);
  });
});

describe("a frontend", () => {
  const pings = (ms: number) => {
    rig.pass(ms);
    return rig.of("ping");
  };

  beforeEach(() => {
    rig.plan({ run: [entry("t/a")] });
  });

  it("is asked once a second while a held call names it", () => {
    expect(pings(999)).toEqual([]);
    expect(pings(1)).toEqual([{ kind: "ping", frontend: "f1" }]);
    expect(pings(1_000)).toHaveLength(1);
    rig.plan();
    expect(pings(1_000)).toEqual([]);
  });

  function silent(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      rig.pass(1_000);
      rig.happen({ kind: "pingAnswered", frontend: "f1", answered: false });
    }
  }

  it("is reported dead after 10 s of silence, at once, until it answers again", () => {
    silent(9);
    expect(rig.report().frontendsDead).toEqual([]);
    rig.pass(500);
    rig.happen({ kind: "pingAnswered", frontend: "f1", answered: false }, 10);
    expect(rig.reports()[0]?.frontendsDead).toEqual(["f1"]);
    rig.happen({ kind: "pingAnswered", frontend: "f1", answered: true }, 10);
    expect(rig.reports()[0]?.frontendsDead).toEqual([]);
  });

  it("is not blamed for our own loss of the connection", () => {
    silent(9);
    rig.happen({ kind: "connectionChanged", connected: false });
    silent(20);
    rig.happen({ kind: "connectionChanged", connected: true });
    silent(9);
    expect(rig.report().frontendsDead).toEqual([]);
  });

  it("that no call names any more is forgotten", () => {
    silent(10);
    expect(rig.report().frontendsDead).toEqual(["f1"]);
    rig.plan();
    rig.pass(1_000);
    expect(rig.report().frontendsDead).toEqual([]);
  });
});
