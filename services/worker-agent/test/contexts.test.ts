import { decode, type OutcomeBody, type Plan } from "@autellix/protocol";
import { beforeEach, describe, expect, it } from "vitest";
import { defaultLimits } from "../src/limits.ts";
import { entry, info, Rig } from "./support/rig.ts";

/** Room for two contexts on the engine; blocks enough. */
const swapping = { ...info, preemption: "swap" as const, residentCallsMax: 2, hostBlocks: 100, retains: true };

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ info: swapping });
});

const held = (call: string) => ({ call, attempt: 1 });
const moves = () =>
  rig.last.filter(({ kind }) => ["park", "swapOut", "swapIn", "evict", "close", "retain", "step"].includes(kind));
const shown = () => moves().map((effect) => `${effect.kind} ${"id" in effect ? rig.nameOf(effect.id as number) : ""}`);

const parked = (call: string, contextTokens: number, preemptible = true) =>
  rig.happen({ kind: "parked", id: rig.idOf(call), preemptible, context: { contextTokens, hostTokens: 0 } });

/** `a` runs and has a context; the plan in force has `rest` beside it. */
function running(rest: Partial<Plan>, ...others: string[]): void {
  rig.plan({ run: [entry("t/a")], ...rest });
  rig.ready("t/a", ...others);
  rig.stepped({ "t/a": {} });
}

/** Two contexts on the engine, `a` and `b`, which is parked; `c` is about to run. */
function full(tier?: "engine" | "host" | "none"): void {
  running({ keep: [entry("t/b"), entry("t/c")] }, "t/b", "t/c");
  rig.plan({ run: [held("t/b")], keep: [held("t/a"), held("t/c")] });
  rig.stepped({ "t/a": {} });
  rig.plan({ run: [held("t/c")], keep: [held("t/a"), { ...held("t/b"), ...(tier ? { tier } : {}) }] });
}

describe("a call that leaves the batch", () => {
  it("is parked before the step that goes on without it", () => {
    running({ keep: [entry("t/b")] }, "t/b");
    rig.plan({ run: [held("t/b")], keep: [held("t/a")] });
    rig.stepped({ "t/a": {} });
    expect(shown()).toEqual(["park t/a", "step "]);
  });

  it("is parked when no step follows, and only once", () => {
    running({});
    rig.plan({ keep: [held("t/a")] });
    rig.stepped({ "t/a": {} });
    expect(shown()).toEqual(["park t/a"]);
    rig.plan({ keep: [held("t/a")] });
    expect(shown()).toEqual([]);
  });

  it("is not parked when it has ended or is dropped", () => {
    running({ keep: [entry("t/b")] }, "t/b");
    rig.plan({ run: [held("t/b")] });
    rig.stepped({ "t/a": {} });
    expect(shown()).toEqual(["step "]);
    expect(rig.callsOf("park")).toEqual([]);
  });

  it("may lose its context where a server keeps none", () => {
    running({ keep: [entry("t/b")] }, "t/b");
    rig.plan({ run: [held("t/b")], keep: [held("t/a")] });
    rig.stepped({ "t/a": {} });
    parked("t/a", 0);
    expect(rig.report().calls[0]).toMatchObject({ call: "t/a", state: "evicted" });
  });

  it("comes back at the next step when the engine could not stop it", () => {
    running({ keep: [entry("t/b")] }, "t/b");
    rig.plan({ run: [held("t/b")], keep: [held("t/a")] });
    rig.stepped({ "t/a": {} });
    parked("t/a", 11, false);
    expect(rig.report().calls[0]).toMatchObject({ call: "t/a", preemptible: false });
    rig.stepped({ "t/b": {} });
    expect(rig.steppedCalls()).toEqual(["t/a"]);
  });

  it("does not get a context back that was dropped in the same breath", () => {
    full("none");
    rig.stepped({ "t/b": {} });
    expect(shown()).toEqual(["park t/b", "evict t/b", "step "]);
    parked("t/b", 11);
    expect(rig.report().calls[1]).toMatchObject({ call: "t/b", state: "evicted" });
  });
});

describe("a parked context", () => {
  it("goes to the host tier when its place is needed, and the step waits until it is there", () => {
    full();
    rig.stepped({ "t/b": {} });
    expect(shown()).toEqual(["park t/b", "swapOut t/b"]);
    rig.swapped("t/b", "out", 11);
    expect(rig.steppedCalls()).toEqual(["t/c"]);
    expect(rig.report().calls.map(({ call, state }) => `${call} ${state}`)).toEqual([
      "t/a parked",
      "t/b swapped",
      "t/c running",
    ]);
  });

  it("comes back before its call is stepped", () => {
    full();
    rig.stepped({ "t/b": {} });
    rig.swapped("t/b", "out", 11);
    rig.plan({ run: [held("t/b")], keep: [held("t/c"), { ...held("t/a"), tier: "none" }] });
    rig.stepped({ "t/c": {} });
    expect(shown()).toEqual(["park t/c", "evict t/a", "swapIn t/b"]);
    rig.swapped("t/b", "in", 11);
    expect(rig.steppedCalls()).toEqual(["t/b"]);
  });

  it("that the engine does not take is dropped instead, and not asked for again", () => {
    full();
    rig.stepped({ "t/b": {} });
    rig.swapped("t/b", "out", undefined);
    expect(shown()).toEqual(["evict t/b", "step "]);
    expect(rig.steppedCalls()).toEqual(["t/c"]);
  });

  it("that cannot be read back is recomputed", () => {
    full();
    rig.stepped({ "t/b": {} });
    rig.swapped("t/b", "out", 11);
    rig.plan({ run: [held("t/b")], keep: [{ ...held("t/a"), tier: "none" }, held("t/c")] });
    rig.stepped({ "t/c": {} });
    rig.swapped("t/b", "in", undefined);
    expect(rig.callsOf("evict")).toEqual(["t/b"]);
    expect(rig.steppedCalls()).toEqual(["t/b"]);
  });

  it("is fetched back in front of its turn when there is room", () => {
    full();
    rig.stepped({ "t/b": {} });
    rig.swapped("t/b", "out", 11);
    rig.plan({ run: [held("t/c")], reserve: [held("t/b")], keep: [{ ...held("t/a"), tier: "none" }] });
    rig.stepped({ "t/c": {} });
    expect(shown()).toEqual(["evict t/a", "swapIn t/b"]);
    rig.swapped("t/b", "in", 11);
    expect(rig.steppedCalls()).toEqual(["t/c"]);
    rig.finish("t/c");
    expect(rig.steppedCalls()).toEqual(["t/b"]);
  });

  it("of a call that is cancelled while it moves is closed, and the step begins when the engine is free", () => {
    full();
    rig.stepped({ "t/b": {} });
    rig.plan({
      run: [held("t/c")],
      keep: [held("t/a"), held("t/b")],
      cancel: [{ ...held("t/b"), cause: "client" }],
    });
    expect(shown()).toEqual(["close t/b"]);
    rig.swapped("t/b", "out", 11);
    expect(rig.steppedCalls()).toEqual(["t/c"]);
  });

  it("is recomputed where that is cheaper than moving it", () => {
    rig.plan({ run: [entry("t/a")], keep: [entry("t/b"), entry("t/c")] });
    rig.ready("t/a", "t/b", "t/c");
    // 1 ms for 100 tokens of prompt; the first transfer takes 1,000 ms for 11.
    rig.stepped({ "t/a": { prefilledTokens: 100 } }, 1);
    rig.plan({ run: [held("t/b")], keep: [held("t/a"), held("t/c")] });
    rig.stepped({ "t/a": {} });
    rig.plan({ run: [held("t/c")], keep: [held("t/b"), held("t/a")] });
    rig.stepped({ "t/b": {} });
    expect(rig.callsOf("swapOut")).toEqual(["t/a"]);
    rig.swapped("t/a", "out", 11, 1_000);
    rig.plan({ run: [held("t/a")], keep: [held("t/c"), held("t/b")] });
    rig.stepped({ "t/c": {} });
    expect(rig.callsOf("swapOut")).toEqual([]);
    expect(rig.callsOf("evict")).toEqual(["t/b"]);
  });
});

describe("the context of an ended call", () => {
  const named = (...calls: string[]): Partial<Plan> => ({
    retained: calls.map((call) => ({ call, tier: "engine" as const })),
  });

  /** `a` has ended, and two reports that say so have gone out. @returns the number of the second. */
  function over(rest: Partial<Plan> = {}): number {
    rig.plan({ run: [entry("t/a")], ...rest });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.retained("t/a");
    rig.stored("t/a");
    return rig.report().number;
  }

  it("is kept instead of closed, and the scheduler is told its size", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    expect([rig.callsOf("retain"), rig.callsOf("close")]).toEqual([["t/a"], []]);
    rig.retained("t/a", true, 10);
    rig.stored("t/a");
    expect(rig.report().finished[0]).toMatchObject({ call: "t/a", contextTokens: 10, cachedTokens: 0 });
  });

  it("is closed where the engine retains nothing, or the call has not completed", () => {
    rig = new Rig({ info: { ...swapping, retains: false } });
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    expect(rig.callsOf("close")).toEqual(["t/a"]);
    rig = new Rig({ info: swapping });
    running({});
    rig.plan({ cancel: [{ ...held("t/a"), cause: "client" }] });
    expect([rig.callsOf("retain"), rig.callsOf("close")]).toEqual([[], ["t/a"]]);
  });

  it("is closed when nobody can come after it: the call named no program", () => {
    rig.plan({ run: [entry("t/a", { program: "a" })] });
    rig.ready("t/a");
    rig.finish("t/a");
    expect([rig.callsOf("retain"), rig.callsOf("close")]).toEqual([[], ["t/a"]]);
  });

  it("that the engine has not kept is told to nobody", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.retained("t/a", false, 0);
    rig.stored("t/a");
    const report = rig.report();
    expect(report.finished[0]).not.toHaveProperty("contextTokens");
    expect(report.kv).toEqual({ running: 0, parked: 0, retained: 0, host: 0 });
  });

  it("stays until a plan of a scheduler that knows of it does not name it", () => {
    const number = over();
    rig.plan({ reportSeen: number - 2 });
    expect(rig.callsOf("close")).toEqual([]);
    rig.plan({ reportSeen: number, ...named("t/a") });
    expect(rig.callsOf("close")).toEqual([]);
    expect(rig.report().kv).toMatchObject({ retained: 1 });
    rig.plan({ reportSeen: number });
    expect(rig.callsOf("close")).toEqual(["t/a"]);
    expect(rig.report().kv).toMatchObject({ retained: 0 });
  });

  it("stays while its call's record is being stored, whatever plans say", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.plan({ reportSeen: 99 });
    expect(rig.callsOf("close")).toEqual([]);
  });

  it("goes with a result that is dropped", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    const id = rig.idOf("t/a");
    rig.happen({ kind: "outcomeWritten", id, result: { kind: "refused" } });
    const record = {
      seq: 9,
      head: { kind: "marker" as const, attempt: 2, epoch: 2, engine: "e2", cause: "engine_lost" as const, crashes: 0 },
      body: new Uint8Array(),
    };
    rig.happen({ kind: "outcomeRead", id, result: { kind: "found", record } });
    rig.plan({ fences: [{ ...held("t/a"), fence: null }] });
    expect(rig.callsOf("close")).toEqual(["t/a"]);
  });

  it("is taken over by the call that goes on from it, once", () => {
    const number = over();
    rig.plan({ reportSeen: number, run: [entry("t/b", { continues: "t/a" })] });
    rig.plan({ reportSeen: number, run: [held("t/b")] });
    expect(rig.callsOf("close")).toEqual([]);
    rig.fetched("t/b");
    expect(rig.one("open").continues).toBe(rig.idOf("t/a"));
    expect(rig.report().kv).toMatchObject({ retained: 1 });
    rig.opened("t/b", 20, "", { contextTokens: 11 });
    expect(rig.steppedCalls()).toEqual(["t/b"]);
    expect(rig.report().kv).toMatchObject({ running: 1, retained: 0 });
    rig.stepped({ "t/b": { finish: "stop", promptTokens: 20, cachedTokens: 11 } });
    const outcome = decode(rig.one("writeOutcome").body) as OutcomeBody;
    expect(outcome.usage).toMatchObject({ prompt_tokens: 20, prompt_tokens_details: { cached_tokens: 11 } });
    expect(outcome.response).toMatchObject({ usage: outcome.usage });
    rig.stored("t/b");
    expect(rig.report().finished.at(-1)).toMatchObject({ call: "t/b", cachedTokens: 11 });
  });

  it("that is gone is no hindrance", () => {
    rig.plan({ run: [entry("t/b", { continues: "t/a" })] });
    rig.fetched("t/b");
    expect(rig.one("open").continues).toBeUndefined();
  });

  it("is dropped when nobody goes on from it any more", () => {
    const number = over();
    rig.plan({ reportSeen: number, run: [entry("t/b", { continues: "t/a" })] });
    rig.plan({ reportSeen: number });
    expect(rig.callsOf("close")).toEqual(["t/a"]);
  });

  it("lets the call that goes on from it wait while it is being moved", () => {
    rig = new Rig({ info: { ...swapping, residentCallsMax: 1 } });
    const number = over();
    rig.plan({ reportSeen: number, run: [entry("t/x")], reserve: [entry("t/b", { continues: "t/a" })] });
    rig.ready("t/x");
    expect(rig.callsOf("swapOut")).toEqual(["t/a"]);
    rig.fetched("t/b");
    expect(rig.of("open")).toEqual([]);
    rig.swapped("t/a", "out", 11);
    expect(rig.one("open").continues).toBe(rig.idOf("t/a"));
    rig.opened("t/b", 20, "", { hostTokens: 11 });
    rig.finish("t/x");
    expect(rig.callsOf("swapIn")).toEqual([]);
    rig.retained("t/x");
    expect(rig.report().kv).toMatchObject({ host: 1 });
  });

  it("is the first to make room", () => {
    rig = new Rig({ info: { ...swapping, residentCallsMax: 1, hostBlocks: 0 } });
    over({ reserve: [entry("t/b")] });
    rig.ready("t/b");
    expect(shown()).toEqual(["close t/a", "step "]);
  });

  it("is one of at most `retainedMax`", () => {
    rig = new Rig({ info: { ...swapping, residentCallsMax: 6 }, limits: { ...defaultLimits, retainedMax: 1 } });
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.ready("t/a", "t/b");
    rig.finish("t/a");
    rig.stepped({ "t/b": { finish: "stop" } });
    expect([rig.callsOf("close"), rig.callsOf("retain")]).toEqual([["t/a"], ["t/b"]]);
  });

  it("is not kept by an agent that is about to end", () => {
    running({});
    rig.happen({ kind: "drainAsked" });
    rig.finish("t/a");
    expect([rig.callsOf("retain"), rig.callsOf("close")]).toEqual([[], ["t/a"]]);
  });
});

describe("an engine that hangs", () => {
  const limits = { ...defaultLimits, stepWatchdogMs: 1_000 };

  it("in a step ends the process", () => {
    rig = new Rig({ limits });
    running({});
    rig.pass(999);
    expect(rig.of("hung")).toEqual([]);
    rig.pass(1);
    expect(rig.one("hung").afterMs).toBe(1_000);
  });

  it("in a transfer ends the process", () => {
    rig = new Rig({ info: swapping, limits });
    full();
    rig.stepped({ "t/b": {} });
    rig.pass(1_000);
    expect(rig.of("hung")).toHaveLength(1);
  });

  it("is not what a process thinks that stood still itself", () => {
    rig = new Rig({ limits });
    running({});
    rig.pass(60_000);
    expect(rig.of("hung")).toEqual([]);
    rig.pass(1_000);
    expect(rig.of("hung")).toHaveLength(1);
  });

  it("is not one that has nothing to do", () => {
    rig = new Rig({ limits });
    running({});
    rig.finish("t/a");
    for (let i = 0; i < 5; i++) rig.pass(1_000);
    expect(rig.of("hung")).toEqual([]);
  });
});
