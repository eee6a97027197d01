import { beforeEach, describe, expect, it } from "vitest";
import { entry, Rig } from "./support/rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ limits: { unsentOutcomesMax: 64, drainMsMax: 1_000 } });
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
    rig.happen({ kind: "drainAsked" });
    rig.fetched("t/b");
    rig.opened("t/b");
    rig.plan({ run: [{ call: "t/a", attempt: 1 }, { call: "t/b", attempt: 1 }, entry("t/d")] });
    expect(rig.of("fetch")).toEqual([]);
    rig.stepped({ "t/a": {} });
    expect(rig.steppedCalls()).toEqual(["t/a"]);
    rig.finish("t/a");
    expect(rig.of("step")).toEqual([]);
    rig.stored("t/a");
    rig.happen({ kind: "endAnswered", id: rig.idOf("t/a"), confirmed: true });
    expect(kinds()).toContain("drained");
    expect(rig.reports()[0]).toMatchObject({ finished: [{ call: "t/a" }], calls: [{ call: "t/b" }] });
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
