import { beforeEach, describe, expect, it } from "vitest";
import { FINISHED_CALLS_MAX } from "../src/limits.ts";
import { entry, info, Rig, terminal } from "./support/rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe("a plan", () => {
  it("brings calls: body and outcome are fetched by sequence", () => {
    rig.plan({ run: [entry("t/a", { seq: 77 })] });
    expect(rig.one("fetch")).toMatchObject({ seq: 77, address: { pool: "p", tenant: "t", callId: "a" } });
  });

  it.each([
    ["for another incarnation", { incarnation: "inc-0" }],
    ["for another pool", { pool: "q" }],
    ["of a lower epoch", { epoch: 0 }],
    ["of the same number", { number: 1 }],
    ["of a lower number", { number: 0 }],
  ])("%s is refused", (_what, parts) => {
    rig.plan();
    rig.plan({ run: [entry("t/a")], ...parts });
    expect(rig.of("fetch")).toEqual([]);
    expect(rig.one("log").level).toBe("debug");
  });

  it("of a higher epoch counts, whatever its number", () => {
    rig.plan({ number: 9 });
    rig.plan({ epoch: 2, number: 1, run: [entry("t/a")] });
    expect(rig.of("fetch")).toHaveLength(1);
  });

  it("of a lower epoch is refused once a new leader has asked for a report", () => {
    rig.happen({ kind: "asked", ask: { kind: "report", epoch: 4 }, replyTo: "_INBOX.x" });
    expect(rig.reports()[0]).toMatchObject({ info });
    rig.plan({ epoch: 3, run: [entry("t/a")] });
    expect(rig.of("fetch")).toEqual([]);
    rig.plan({ epoch: 4, run: [entry("t/a")] });
    expect(rig.of("fetch")).toHaveLength(1);
  });

  it("is the whole state: what it does not name is closed, silently", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.ready("t/a", "t/b");
    const a = rig.idOf("t/a");
    rig.plan({ run: [{ call: "t/b", attempt: 1 }] });
    expect(rig.one("close").id).toBe(a);
    expect(rig.of("writeOutcome")).toEqual([]);
    expect(rig.report().calls.map((c) => c.call)).toEqual(["t/b"]);
  });

  it("that drops a call is reported at once, so that the call can go elsewhere", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.pass(100);
    rig.plan();
    expect(rig.reports()[0]).toMatchObject({ planNumber: rig.planNumber, calls: [] });
  });

  it("does not end a result that is being stored", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.plan();
    expect(rig.report().calls.map((c) => c.call)).toEqual(["t/a"]);
    rig.stored("t/a");
    expect(rig.of("requestEnd")).toHaveLength(1);
  });

  it("cannot run a call that it brings without dispatch and that is not held", () => {
    rig.plan({ run: [{ call: "t/a", attempt: 1 }] });
    expect(rig.of("fetch")).toEqual([]);
    expect(rig.report().calls).toEqual([]);
  });

  it("that was made before an end was read does not run the call again", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
    rig.plan({ run: [entry("t/a")] });
    expect(rig.of("fetch")).toEqual([]);
  });

  it("brings no more calls than the engine may hold", () => {
    rig.plan({ run: Array.from({ length: info.heldCallsMax + 3 }, (_, i) => entry(`t/c${i}`)) });
    expect(rig.of("fetch")).toHaveLength(info.heldCallsMax);
  });

  it("brings nothing while a thousand ends are unread: a report must stay a message", () => {
    for (let i = 0; i < FINISHED_CALLS_MAX; i++) {
      rig.plan({ run: [entry(`t/c${i}`)] });
      rig.fetched(`t/c${i}`, { kind: "gone" }, { kind: "found", record: terminal() });
    }
    rig.plan({ run: [entry("t/one-more")] });
    expect(rig.of("fetch")).toEqual([]);
    rig.plan({ run: [entry("t/one-more")], reportSeen: rig.report().number });
    expect(rig.of("fetch")).toHaveLength(1);
  });

  it("takes effect at the next step, not in the middle of one", () => {
    rig.plan({ run: [entry("t/a")], keep: [entry("t/b")] });
    rig.ready("t/a", "t/b");
    rig.plan({ run: [{ call: "t/b", attempt: 1 }], keep: [{ call: "t/a", attempt: 1 }] });
    expect(rig.of("step")).toEqual([]);
    rig.stepped({ "t/a": {} });
    expect(rig.steppedCalls()).toEqual(["t/b"]);
  });

  it("may bring a later attempt of a call whose earlier one is still being stored", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.plan({ run: [entry("t/a", { reply: undefined, fence: 8 }, 2)] });
    expect(rig.of("fetch")).toHaveLength(1);
    expect(rig.report().calls.map((c) => c.attempt)).toEqual([1, 2]);
  });
});

describe("without a new plan", () => {
  it("reserve and parked calls take the slots of ended ones", () => {
    rig.plan({ run: [entry("t/a")], reserve: [entry("t/r")], keep: [entry("t/k")] });
    rig.ready("t/a", "t/r", "t/k");
    rig.finish("t/a");
    expect(rig.steppedCalls()).toEqual(["t/r"]);
    rig.finish("t/r");
    expect(rig.steppedCalls()).toEqual(["t/k"]);
  });
});

describe("a cancel", () => {
  it.each([
    ["client", "cancelled", "cancelled"],
    ["deadline", "expired", "expired"],
    ["orphan", "cancelled", "cancelled"],
    ["program", "cancelled", "cancelled"],
  ] as const)("because of the %s stops the engine at once and ends as %s", (cause, status, code) => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.plan({ cancel: [{ call: "t/a", attempt: 1, cause }] });
    expect(rig.of("close")).toHaveLength(1);
    expect(rig.one("writeOutcome").head).toMatchObject({ status, code, attempt: 1 });
    rig.stored("t/a");
    expect(rig.one("requestEnd").status).toBe(status);
  });

  it("in the middle of a prompt charges nothing for the step that still runs", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.plan({ run: [{ call: "t/a", attempt: 1 }], cancel: [{ call: "t/a", attempt: 1, cause: "client" }] });
    rig.stepped({ "t/a": { tokens: 0, ids: [], text: "" } });
    expect(rig.of("send")).toEqual([]);
    rig.stored("t/a");
    expect(rig.report().finished[0]).toMatchObject({ status: "cancelled", serviceMs: 0, found: false });
  });

  it("before the body has come needs no body", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.plan({ cancel: [{ call: "t/a", attempt: 1, cause: "client" }] });
    expect(rig.of("writeOutcome")).toHaveLength(1);
    rig.fetched("t/a");
    expect(rig.of("open")).toEqual([]);
  });

  it("while the engine opens the call closes it when it is open", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.fetched("t/a");
    rig.plan({ cancel: [{ call: "t/a", attempt: 1, cause: "client" }] });
    rig.opened("t/a");
    expect(rig.of("close")).toHaveLength(1);
    expect(rig.of("step")).toEqual([]);
  });

  it("of another attempt does nothing", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.plan({ run: [{ call: "t/a", attempt: 1 }], cancel: [{ call: "t/a", attempt: 2, cause: "client" }] });
    expect(rig.of("writeOutcome")).toEqual([]);
  });
});
