import { beforeEach, describe, expect, it } from "vitest";
import { defaultLimits } from "../src/limits.ts";
import { chatBody, entry, info, Rig } from "./support/rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ limits: { ...defaultLimits, unsentOutcomesMax: 64, drainMsMax: 1_000 } });
});

const kinds = () =>
  rig.last.map((effect) => (effect.kind === "send" ? (effect.message as { kind: string }).kind : effect.kind));

describe("a drained agent", () => {
  it("that holds nothing says goodbye at once", () => {
    rig.happen({ kind: "drainAsked" });
    expect(kinds()).toEqual(["report", "exit", "drained"]);
    expect(rig.pass(500)).toEqual([]);
  });

  it("finishes what it has begun, and begins nothing new", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")], reserve: [entry("t/c")] });
    rig.ready("t/a");
    const bId = rig.idOf("t/b");
    rig.happen({ kind: "drainAsked" });
    // What it had not begun is for others, who need not wait for its end.
    expect(rig.reports().at(-1)).toMatchObject({ draining: true, calls: [{ call: "t/a" }] });
    rig.happen({ kind: "fetched", id: bId, body: chatBody(), outcome: { kind: "none" } });
    rig.plan({ run: [{ call: "t/a", attempt: 1 }, entry("t/b"), entry("t/d")] });
    expect(rig.of("fetch")).toEqual([]);
    rig.stepped({ "t/a": {} });
    expect(rig.steppedCalls()).toEqual(["t/a"]);
    rig.finish("t/a");
    expect(rig.of("step")).toEqual([]);
    rig.stored("t/a");
    rig.happen({ kind: "endAnswered", id: rig.idOf("t/a"), confirmed: true });
    expect(kinds()).toContain("drained");
    expect(rig.reports()[0]).toMatchObject({ draining: true, finished: [{ call: "t/a" }], calls: [] });
  });

  it("hands back what runs too long, without an outcome", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.happen({ kind: "drainAsked" });
    rig.stepped({ "t/a": {} }, 999);
    rig.stepped({ "t/a": {} }, 1);
    expect(kinds()).toContain("exit");
    expect(rig.all.some((effect) => effect.kind === "writeOutcome")).toBe(false);
  });

  it("waits for its results to be stored, but not for ever", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.happen({ kind: "drainAsked" });
    rig.finish("t/a");
    expect(kinds()).not.toContain("drained");
    rig.pass(1_999);
    expect(kinds()).not.toContain("drained");
    rig.pass(1);
    expect(kinds()).toContain("drained");
  });
});

describe("a drained agent with a host tier", () => {
  beforeEach(() => {
    const swapping = { ...info, preemption: "swap" as const, hostBlocks: 100 };
    rig = new Rig({ info: swapping, limits: { ...defaultLimits, drainMsMax: 1_000 } });
    rig.plan({ run: [entry("t/a"), entry("t/b")], keep: [entry("t/c")] });
    rig.ready("t/a", "t/b", "t/c");
    rig.stepped({ "t/a": {} });
    rig.stepped({ "t/a": {}, "t/b": { preemptible: false } });
  });

  it("leaves what it cannot finish for another of its host, and says goodbye when all is written", () => {
    rig.happen({ kind: "drainAsked" });
    rig.pass(1_000);
    expect(rig.of("leave")).toEqual([]);
    rig.stepped({ "t/a": {}, "t/b": { preemptible: false } });
    expect(rig.callsOf("leave")).toEqual(["t/a"]);
    expect(kinds()).not.toContain("exit");
    rig.happen({ kind: "left", id: rig.idOf("t/a") });
    expect(kinds()).toContain("exit");
    expect(rig.of("step")).toEqual([]);
  });

  it("does not wait for ever", () => {
    rig.happen({ kind: "drainAsked", withinMs: 0 });
    rig.stepped({ "t/a": {}, "t/b": {} });
    expect(rig.of("leave")).toHaveLength(2);
    rig.pass(2_000);
    expect(kinds()).toContain("drained");
  });
});
