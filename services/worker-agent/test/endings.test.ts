import {
  decode,
  type OutcomeBody,
  RESULT_INLINE_BYTES_MAX,
  type ReadResult,
  type WriteResult,
} from "@autellix/protocol";
import { beforeEach, describe, expect, it } from "vitest";
import { ENGINE, entry, INBOX, marker, Rig, terminal } from "./support/rig.ts";

let rig: Rig;

/** A finished call whose record has been written once with this answer. */
function written(result: WriteResult, dispatch: Parameters<typeof entry>[1] = {}, attempt = 1): void {
  rig.plan({ run: [entry("t/a", dispatch, attempt)] });
  rig.ready("t/a");
  rig.finish("t/a");
  rig.happen({ kind: "outcomeWritten", id: rig.idOf("t/a"), result });
}

function read(result: ReadResult) {
  rig.happen({ kind: "outcomeRead", id: rig.idOf("t/a"), result });
}

beforeEach(() => {
  rig = new Rig();
});

describe("the record of an ended call", () => {
  it("holds the answer, the usage and the times, earlier attempts included", () => {
    rig.plan({ run: [entry("t/a", { fence: 4, waitedMs: 100, servedMs: 50, reply: undefined }, 2)] });
    rig.ready("t/a");
    rig.stepped({ "t/a": { text: "Par" } }, 20);
    rig.stepped({ "t/a": { text: "is", completionTokens: 2, finish: "length" } }, 30);
    const { head, body, fence } = rig.one("writeOutcome");
    expect(head).toEqual({
      kind: "outcome",
      status: "completed",
      code: undefined,
      attempt: 2,
      epoch: 1,
      engine: ENGINE,
    });
    expect(fence).toBe(4);
    const outcome = decode(body) as OutcomeBody;
    expect(outcome).toMatchObject({ call_id: "a", program_id: "prog", timings: { waiting_ms: 100, service_ms: 100 } });
    expect(outcome.response).toMatchObject({
      id: "chatcmpl-a",
      model: "m",
      choices: [{ message: { content: "Paris" }, finish_reason: "length" }],
      usage: { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12 },
      autellix: { call_id: "a", program_id: "prog", engine: ENGINE, attempts: 2, waiting_ms: 100, service_ms: 100 },
    });
    rig.stored("t/a");
    expect(rig.reports()[0]?.finished).toMatchObject([{ attempt: 2, waitingMs: 100, serviceMs: 100 }]);
  });

  it("is stored before anybody hears of the end", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    expect(rig.of("close")).toHaveLength(1);
    expect(rig.of("requestEnd")).toEqual([]);
    rig.stored("t/a");
    expect(rig.one("requestEnd")).toMatchObject({ frontend: "f1", call: "t/a", status: "completed" });
    expect(rig.reports()[0]?.finished).toMatchObject([{ call: "t/a", found: false, serviceMs: 10, promptTokens: 10 }]);
    expect(rig.one("log")).toMatchObject({ level: "info", fields: { call: "t/a", attempt: 1, status: "completed" } });
  });

  it("above the limit refers to the answer in the object store, which is stored first", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.stepped({ "t/a": { text: "x".repeat(RESULT_INLINE_BYTES_MAX), finish: "stop" } });
    expect(rig.of("writeOutcome")).toEqual([]);
    expect(rig.one("storeResult").bytes.length).toBeGreaterThan(RESULT_INLINE_BYTES_MAX);
    rig.happen({ kind: "resultStored", id: rig.idOf("t/a"), name: undefined });
    rig.pass(50);
    expect(rig.of("storeResult")).toHaveLength(1);
    rig.happen({ kind: "resultStored", id: rig.idOf("t/a"), name: "obj" });
    const outcome = decode(rig.one("writeOutcome").body) as OutcomeBody;
    expect(outcome.response_object).toBe("obj");
    expect(outcome).not.toHaveProperty("response");
  });

  it("of a call that the engine could not go on with says so, and its neighbours go on", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.ready("t/a", "t/b");
    rig.stepped({ "t/a": { tokens: 0, ids: [], text: "" } });
    rig.stepped({ "t/a": { error: { code: "engine_error", message: "broken" } }, "t/b": {} });
    expect(rig.one("writeOutcome").head).toMatchObject({ status: "failed", code: "engine_error" });
    expect(rig.steppedCalls()).toEqual(["t/b"]);
  });
});

describe("a write that was refused or not answered (S4)", () => {
  it.each(["refused", "unknown"] as const)("(%s) is decided by the stream's leader", (kind) => {
    written({ kind });
    expect(rig.of("readOutcome")).toHaveLength(1);
    expect(rig.of("requestEnd")).toEqual([]);
  });

  it("is done when the own record stands there", () => {
    written({ kind: "unknown" });
    read({ kind: "found", record: terminal("completed", { engine: ENGINE, attempt: 1 }) });
    expect(rig.of("requestEnd")).toHaveLength(1);
    expect(rig.report().finished).toMatchObject([{ found: false }]);
  });

  it.each([
    ["another attempt's", { attempt: 2, engine: ENGINE }],
    ["another engine's", { attempt: 1, engine: "e2" }],
    ["the scheduler's", { attempt: 1, engine: "" }],
  ])("is dropped when %s terminal record stands there, whose end is sent", (_whose, head) => {
    written({ kind: "refused" });
    read({ kind: "found", record: terminal("cancelled", head) });
    expect(rig.one("requestEnd").status).toBe("cancelled");
    expect(rig.report().finished).toMatchObject([{ found: true, status: "cancelled", serviceMs: 0 }]);
    expect(rig.report().calls).toEqual([]);
  });

  it.each([
    ["nothing stands there", 0, { kind: "none" } as const],
    ["the own marker stands there", 6, { kind: "found", record: marker(6) } as const],
  ])("is repeated with the same expectation when %s", (_what, fence, result) => {
    written({ kind: "unknown" }, { fence, reply: INBOX }, fence === 0 ? 1 : 2);
    read(result);
    expect(rig.of("writeOutcome")).toEqual([]);
    rig.pass(50);
    expect(rig.one("writeOutcome").fence).toBe(fence);
    rig.happen({ kind: "outcomeWritten", id: rig.idOf("t/a"), result: { kind: "stored", seq: 9 } });
    expect(rig.one("sendInbox").end).toBe("completed");
  });

  it("is repeated behind a stranger's message, which would block the call for ever", () => {
    written({ kind: "refused" });
    read({ kind: "none", seq: 44 });
    rig.pass(50);
    expect(rig.one("writeOutcome").fence).toBe(44);
  });

  it("is read again, more and more slowly, while nobody answers", () => {
    written({ kind: "unknown" });
    for (const waitMs of [50, 100, 200]) {
      read({ kind: "unknown" });
      rig.pass(waitMs - 1);
      expect(rig.of("readOutcome")).toEqual([]);
      rig.pass(1);
      expect(rig.of("readOutcome")).toHaveLength(1);
    }
  });

  it("is repeated as it is while the stream is full", () => {
    written({ kind: "full" });
    expect(rig.of("readOutcome")).toEqual([]);
    rig.pass(50);
    expect(rig.one("writeOutcome").fence).toBe(0);
  });
});

describe("a result behind a newer marker", () => {
  beforeEach(() => {
    written({ kind: "refused" });
    read({ kind: "found", record: marker(30) });
  });

  it("is kept and reported as fenced until the leader answers", () => {
    expect(rig.reports()[0]).toMatchObject({ fenced: [{ call: "t/a", attempt: 1 }], calls: [], finished: [] });
    rig.plan();
    expect(rig.report().fenced).toHaveLength(1);
  });

  it("is written behind the marker when the leader gives its fence", () => {
    rig.plan({ fences: [{ call: "t/a", attempt: 1, fence: 30 }] });
    expect(rig.one("writeOutcome").fence).toBe(30);
    rig.stored("t/a");
    expect(rig.of("requestEnd")).toHaveLength(1);
    expect(rig.report().fenced).toEqual([]);
  });

  it("is dropped when the leader says so", () => {
    rig.plan({ fences: [{ call: "t/a", attempt: 1, fence: null }] });
    expect(rig.of("writeOutcome")).toEqual([]);
    expect(rig.report()).toMatchObject({ fenced: [], finished: [], calls: [] });
  });
});

describe("the end in front of a frontend", () => {
  beforeEach(() => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
  });

  it("is repeated every second until it is confirmed, and for 30 s at most", () => {
    const id = rig.idOf("t/a");
    for (let second = 1; second <= 30; second++) {
      rig.happen({ kind: "endAnswered", id, confirmed: false });
      rig.pass(999);
      expect(rig.of("requestEnd")).toEqual([]);
      rig.pass(1);
      expect(rig.of("requestEnd")).toHaveLength(1);
    }
    rig.happen({ kind: "endAnswered", id, confirmed: false });
    expect(rig.one("log").level).toBe("warn");
    rig.pass(5_000);
    expect(rig.of("requestEnd")).toEqual([]);
  });

  it("keeps the tokens for gap answers until it is confirmed", () => {
    const ask = { kind: "tokens", call: "t/a", from: 0 } as const;
    rig.happen({ kind: "asked", ask, replyTo: "_INBOX.q" });
    expect(rig.of("send")[0]).toMatchObject({
      subject: "_INBOX.q",
      message: { state: "known", epoch: 1, attempt: 1, index: 0, count: 1, text: "x", ids: [7] },
    });
    rig.happen({ kind: "endAnswered", id: rig.idOf("t/a"), confirmed: true });
    rig.happen({ kind: "asked", ask, replyTo: "_INBOX.q" });
    expect(rig.of("send")[0]?.message).toEqual({ state: "unknown" });
  });
});

describe("the end in front of an inbox", () => {
  it("is one last chunk with the finish reason, the usage and our fields", () => {
    rig.plan({ run: [entry("t/a", { reply: INBOX })] });
    rig.ready("t/a");
    rig.finish("t/a", "length");
    rig.stored("t/a");
    expect(rig.one("sendInbox")).toMatchObject({
      end: "completed",
      message: {
        object: "chat.completion.chunk",
        choices: [{ delta: {}, finish_reason: "length" }],
        usage: { total_tokens: 11 },
        autellix: { call_id: "a" },
      },
    });
  });

  it("is the error of a call that failed", () => {
    rig.plan({ run: [entry("t/a", { reply: INBOX })] });
    rig.fetched("t/a", { kind: "found", bytes: Buffer.from("{"), encoding: undefined });
    rig.stored("t/a");
    expect(rig.one("sendInbox")).toMatchObject({ end: "failed", message: { error: { code: "invalid_json" } } });
  });
});
