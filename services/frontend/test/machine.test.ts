import { describe, expect, test } from "vitest";
import { completed, Driver, failed, KEY, kinds, only, statusOf, submission } from "./driver.ts";

describe("publishing", () => {
  test("is repeated under the same id while the answer is unknown, and exists means accepted", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    d.tell({ kind: "publishAnswered", key: KEY, result: "unknown" });
    expect(only(d.pass(300), "publish")).toHaveLength(1);
    d.tell({ kind: "publishAnswered", key: KEY, result: "exists" });
    expect(only(d.pass(15_000), "publish")).toHaveLength(0);
    expect(d.machine.openCalls).toBe(1);
  });

  test("that stays unknown is cancelled by id and refused", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    for (let i = 0; i < 200 && d.machine.openCalls > 0; i++) {
      d.tell({ kind: "publishAnswered", key: KEY, result: i % 2 ? "unknown" : "unknown_pool" });
      d.pass(100);
    }
    expect(only(d.effects, "fail")[0]?.failure.code).toBe("queue_unavailable");
    expect(only(d.effects, "cancel").length).toBeGreaterThan(0);
    expect(kinds(d.effects)).not.toContain("open");
  });

  test("to a pool without a queue is refused without a cancel", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    for (let i = 0; i < 200 && d.machine.openCalls > 0; i++) {
      const publishes = only(d.pass(50), "publish");
      if (i === 0 || publishes.length > 0) d.tell({ kind: "publishAnswered", key: KEY, result: "unknown_pool" });
    }
    expect(only(d.effects, "fail")[0]?.failure.code).toBe("queue_unavailable");
    expect(only(d.effects, "cancel")).toHaveLength(0);
  });

  test("to a full queue is refused with a time to come back", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    d.tell({ kind: "publishAnswered", key: KEY, result: "full" });
    expect(only(d.effects, "fail")[0]?.failure).toMatchObject({ code: "queue_full", retryAfterS: 5 });
    expect(d.machine.openCalls).toBe(0);
  });
});

describe("admission", () => {
  const submit = (d: Driver, callId: string) => d.tell({ kind: "submitted", call: submission({ callId }) });

  test("counts what this frontend has published since the last status", () => {
    const d = new Driver();
    d.tell({ kind: "statusSent", status: statusOf("p1", { queuedCalls: 98 }) });
    expect(kinds(submit(d, "a"))).toEqual(["publish"]);
    expect(kinds(submit(d, "b"))).toEqual(["publish"]);
    const refused = submit(d, "c");
    expect(only(refused, "fail")[0]?.failure).toMatchObject({ code: "queue_full", retryAfterS: 49 });
    d.tell({ kind: "statusSent", status: statusOf("p1", { queuedCalls: 10 }) });
    expect(kinds(submit(d, "c"))).toEqual(["publish"]);
  });

  test("without a fresh status leaves it to the queue", () => {
    const d = new Driver();
    d.tell({ kind: "statusSent", status: statusOf("p1", { queuedCalls: 100 }) });
    d.pass(3_100);
    expect(kinds(submit(d, "a"))).toEqual(["publish"]);
  });

  test("stops at the limit of open calls", () => {
    const d = new Driver({ openCallsMax: 1 });
    submit(d, "a");
    expect(only(submit(d, "b"), "fail")[0]?.failure.code).toBe("queue_full");
  });

  test("stops at the limit of held bodies", () => {
    const d = new Driver({ bodiesBytesMax: 10 });
    const body = Buffer.alloc(8);
    d.tell({ kind: "submitted", call: submission({ body }) });
    const next = { kind: "submitted", call: submission({ callId: "c2", body }) } as const;
    expect(only(d.tell(next), "fail")[0]?.failure.code).toBe("queue_full");
    d.tell({ kind: "publishAnswered", key: KEY, result: "accepted" });
    expect(kinds(d.tell(next))).toEqual(["publish"]);
  });

  test("of an unknown model tells a wrong name from a start", () => {
    const d = new Driver();
    const unknown = () => d.tell({ kind: "submitted", call: submission({ model: "other" }) });
    expect(only(unknown(), "fail")[0]?.failure).toMatchObject({ code: "model_not_found", param: "model" });
  });

  test("says when the frontend is ready", () => {
    const d = new Driver();
    expect(d.machine.unreadyReason(d.nowMs)).toBe("no scheduler is heard");
    d.tell({ kind: "statusSent", status: statusOf("p1", { engines: [] }) });
    expect(d.machine.unreadyReason(d.nowMs)).toBe("no engine is up");
    d.tell({ kind: "statusSent", status: statusOf("p1") });
    expect(d.machine.unreadyReason(d.nowMs)).toBeUndefined();
    expect(d.machine.unreadyReason(d.nowMs + 3_000)).toBe("no scheduler is heard");
  });
});

describe("a client that leaves", () => {
  test("cancels its call at once and again until the call has ended", () => {
    const d = new Driver().accepted();
    const effects = d.tell({ kind: "clientGone", key: KEY });
    expect(kinds(effects)).toEqual(["callEnded", "cancel"]);
    expect(only(d.pass(1_000), "cancel").length).toBeGreaterThan(0);
    d.tell({ kind: "cancelAnswered", key: KEY, answer: { ok: true, call: "pending" } });
    expect(only(d.pass(2_000), "cancel").length).toBeGreaterThan(0);
    d.tell({ kind: "cancelAnswered", key: KEY, answer: { ok: true, call: "ended" } });
    expect(d.pass(5_000)).toEqual([]);
    expect(d.machine.openCancels).toBe(0);
  });

  test("the end of the call stops the cancel, too", () => {
    const d = new Driver().accepted();
    d.tell({ kind: "clientGone", key: KEY });
    d.end(failed("cancelled", "cancelled"));
    expect(d.machine.openCancels).toBe(0);
  });

  test("a cancel of an id that the leader does not know looks at the record", () => {
    const d = new Driver().accepted();
    d.tell({ kind: "clientGone", key: KEY });
    const effects = d.tell({ kind: "cancelAnswered", key: KEY, answer: { ok: true, call: "unknown" } });
    expect(only(effects, "readOutcome")[0]).toMatchObject({ purpose: "cancel" });
    d.tell({ kind: "outcomeRead", key: KEY, purpose: "cancel", read: { kind: "outcome", outcome: completed("x") } });
    expect(d.machine.openCancels).toBe(0);
  });

  test("a cancel that nobody confirms ends with a line in the log", () => {
    const d = new Driver().accepted();
    d.tell({ kind: "clientGone", key: KEY });
    expect(kinds(d.pass(61_000)).at(-1)).toBe("warn");
    expect(d.machine.openCancels).toBe(0);
  });

  test("before the publish is answered is cancelled all the same", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    expect(only(d.tell({ kind: "clientGone", key: KEY }), "cancel")).toHaveLength(1);
  });
});

describe("a slow client", () => {
  const MB = 1 << 20;

  test("loses no token: they are dropped and fetched from the agent when it has drained", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    d.tell({ kind: "buffered", key: KEY, bytes: 2 * MB });
    expect(d.tokens(1, "b")).toEqual([]);
    expect(d.tokens(2, "c")).toEqual([]);
    expect(d.have(1)).toMatchObject({ count: 1 });
    const effects = d.tell({ kind: "buffered", key: KEY, bytes: 0 });
    expect(effects).toEqual([{ kind: "askTokens", key: KEY, engine: "e2", from: 1 }]);
    d.gap(1, "b", { engine: "e2" });
    d.gap(2, "c", { engine: "e2" });
    expect(d.text()).toBe("abc");
  });

  test("that is cut off after a minute has its call cancelled", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    d.tell({ kind: "buffered", key: KEY, bytes: 2 * MB });
    const effects = d.pass(60_100);
    expect(only(effects, "fail")[0]).toMatchObject({ cut: true, failure: { code: "slow_client" } });
    expect(only(effects, "cancel").length).toBeGreaterThan(0);
    expect(kinds(effects)).not.toContain("readOutcome");
  });

  test("gets a large answer piece by piece from the record, and no piece exceeds its room", () => {
    const d = new Driver().accepted();
    const answer = `a${"x😀".repeat(500_000)}`;
    d.tokens(0, "a");
    let effects = d.end(completed(answer));
    for (let i = 0; i < 100 && only(effects, "finish").length === 0; i++) {
      const bytes = only(effects, "text").reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
      expect(bytes).toBeLessThanOrEqual(MB);
      expect(bytes).toBeGreaterThan(MB / 2);
      d.tell({ kind: "buffered", key: KEY, bytes: MB });
      effects = d.tell({ kind: "buffered", key: KEY, bytes: 0 });
      expect(kinds(effects)).toEqual(["readOutcome"]);
      const read = { kind: "outcome", outcome: completed(answer) } as const;
      effects = d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read });
    }
    expect(kinds(effects).slice(-3)).toEqual(["text", "finish", "callEnded"]);
    expect(d.text() === answer).toBe(true);
  });
});

describe("a stream that waits", () => {
  test("is opened after a while, then kept alive by comments", () => {
    const d = new Driver().accepted();
    expect(kinds(d.pass(4_900))).not.toContain("open");
    expect(kinds(d.pass(200))).toContain("open");
    expect(only(d.pass(31_000), "comment")).toHaveLength(2);
  });

  test("is not opened before the queue has the call", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    expect(kinds(d.pass(8_000))).not.toContain("open");
  });
});

describe("outcomes", () => {
  test("are read only so many at a time", () => {
    const d = new Driver({ outcomeReadsMax: 2 });
    for (const callId of ["a", "b", "c"]) {
      d.tell({ kind: "submitted", call: submission({ callId }) });
      d.tell({ kind: "publishAnswered", key: `default/${callId}`, result: "accepted" });
    }
    expect(only(d.pass(2_100), "readOutcome").map(({ key }) => key)).toEqual(["default/a", "default/b"]);
    const read = { kind: "none" } as const;
    const next = d.tell({ kind: "outcomeRead", key: "default/a", purpose: "call", read });
    expect(only(next, "readOutcome").map(({ key }) => key)).toEqual(["default/c"]);
  });
});

describe("a stop", () => {
  test("refuses new calls, and cancels what is open in the end", () => {
    const d = new Driver().accepted();
    d.tell({ kind: "drainStarted" });
    const late = d.tell({ kind: "submitted", call: submission({ callId: "c2" }) });
    expect(only(late, "fail")[0]?.failure.code).toBe("queue_unavailable");
    expect(d.machine.unreadyReason(d.nowMs)).toBe("the frontend is stopping");
    expect(kinds(d.tell({ kind: "drainEnded" }))).toEqual(["fail", "callEnded", "cancel"]);
  });
});
