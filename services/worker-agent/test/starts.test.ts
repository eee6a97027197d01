import { decode, encode, type OutcomeBody } from "@autellix/protocol";
import { beforeEach, describe, expect, it } from "vitest";
import { defaultLimits } from "../src/limits.ts";
import { chatBody, entry, INBOX, marker, Rig, terminal } from "./support/rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

function failedWith(): unknown {
  const { head, body } = rig.one("writeOutcome");
  expect(head).toMatchObject({ kind: "outcome", status: "failed" });
  return (decode(body) as OutcomeBody).error;
}

describe("a call that an agent takes on", () => {
  it("is opened and stepped when its body has come", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.fetched("t/a");
    expect(rig.one("open")).toMatchObject({ key: "t/a", forcedIds: [], chat: { messages: [{ content: "hi" }] } });
    rig.opened("t/a");
    expect(rig.steppedCalls()).toEqual(["t/a"]);
  });

  it("that has ended already is not run: its stored end is sent, and it is reported as found", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.fetched("t/a", chatBody(), { kind: "found", record: terminal("failed") });
    expect(rig.of("open")).toEqual([]);
    expect(rig.of("writeOutcome")).toEqual([]);
    expect(rig.one("requestEnd")).toMatchObject({ status: "failed", body: expect.any(Uint8Array) });
    expect(rig.report().finished[0]).toMatchObject({ call: "t/a", status: "failed", found: true, serviceMs: 0 });
  });

  it("that has ended already tells its inbox so", () => {
    rig.plan({ run: [entry("t/a", { reply: INBOX })] });
    rig.fetched("t/a", { kind: "gone" }, { kind: "found", record: terminal("completed") });
    expect(rig.one("sendInbox")).toMatchObject({ subject: INBOX, end: "completed", message: { choices: [] } });
  });

  it("runs beside a marker: only a write decides", () => {
    rig.plan({ run: [entry("t/a", { fence: 6 })] });
    rig.fetched("t/a", chatBody(), { kind: "found", record: marker(6) });
    expect(rig.of("open")).toHaveLength(1);
  });

  it("is fetched again while nobody answers, and others take its slot meanwhile", () => {
    rig.plan({ run: [entry("t/a")], reserve: [entry("t/b")] });
    rig.ready("t/b");
    expect(rig.of("step")).toEqual([]);
    rig.fetched("t/a", { kind: "unknown" }, { kind: "unknown" });
    expect(rig.steppedCalls()).toEqual(["t/b"]);
    rig.pass(50);
    expect(rig.of("fetch")).toHaveLength(1);
    rig.fetched("t/a");
    expect(rig.of("open")).toHaveLength(1);
  });

  it("that is no longer queued has ended: the leader of the outcomes says how", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b"), entry("t/c")] });
    for (const call of ["t/a", "t/b", "t/c"]) {
      rig.fetched(call, { kind: "gone" });
      expect(rig.of("readOutcome")).toHaveLength(1);
    }
    rig.happen({ kind: "outcomeRead", id: rig.idOf("t/a"), result: { kind: "found", record: terminal("expired") } });
    rig.happen({ kind: "outcomeRead", id: rig.idOf("t/b"), result: { kind: "none" } });
    rig.happen({ kind: "outcomeRead", id: rig.idOf("t/c"), result: { kind: "unknown" } });
    const report = rig.report();
    expect(report.finished.map((f) => [f.call, f.status, f.found])).toEqual([
      ["t/a", "expired", true],
      ["t/b", "completed", true],
    ]);
    expect(report.calls.map((c) => [c.call, c.state])).toEqual([["t/c", "fetching"]]);
  });

  it("without a body but with a marker ends as failed: somebody removed it by hand", () => {
    rig.plan({ run: [entry("t/a", { fence: 6 }, 2)] });
    rig.fetched("t/a", { kind: "gone" });
    rig.happen({ kind: "outcomeRead", id: rig.idOf("t/a"), result: { kind: "found", record: marker(6) } });
    expect(failedWith()).toMatchObject({ code: "result_expired" });
  });

  it.each([
    ["bytes that are no JSON", Buffer.from("{nonsense"), "invalid_json"],
    ["bytes that are nothing", Buffer.from([0xc1, 0xff, 0x00]), "invalid_json"],
    ["a number", Buffer.from("[1]"), "invalid_request"],
    ["no messages", encode({ messages: [] }, "json"), "invalid_request"],
    [
      "an absurd number",
      encode({ messages: [{ role: "user", content: "x" }], max_tokens: -1e300 }, "json"),
      "invalid_request",
    ],
    [
      "a parameter that is not served",
      encode({ messages: [{ role: "user", content: "x" }], n: 2 }, "json"),
      "unsupported_parameter",
    ],
    ["another model", encode({ model: "gpt", messages: [{ role: "user", content: "x" }] }, "json"), "model_not_found"],
  ])("ends as failed when its body is %s", (_what, bytes, code) => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.fetched("t/a", { kind: "found", bytes, encoding: undefined });
    expect(failedWith()).toMatchObject({ code, message: expect.any(String) });
    rig.ready("t/b");
    expect(rig.steppedCalls()).toEqual(["t/b"]);
  });

  it("gets its outcome in the encoding that its publisher used or asked for", () => {
    const bytes = encode({ messages: [] });
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.fetched("t/a", { kind: "found", bytes, encoding: undefined });
    expect(rig.one("writeOutcome").body[0]).not.toBe(0x7b);
    rig.fetched("t/b", { kind: "found", bytes, encoding: "json" });
    expect(rig.one("writeOutcome").body[0]).toBe(0x7b);
  });

  it("ends as failed when its body in the object store is gone, or when it does not fit the context", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.fetched("t/a", { kind: "failed", code: "result_expired", message: "the stored body is gone" });
    expect(failedWith()).toMatchObject({ code: "result_expired" });
    rig.fetched("t/b");
    rig.happen({ kind: "openFailed", id: rig.idOf("t/b"), code: "context_length_exceeded", message: "too long" });
    expect(failedWith()).toMatchObject({ code: "context_length_exceeded", message: "too long" });
  });

  it("waits while too many results are not stored", () => {
    rig = new Rig({ limits: { ...defaultLimits, unsentOutcomesMax: 1, drainMsMax: 100 } });
    rig.plan({ run: [entry("t/a")], reserve: [entry("t/b")] });
    rig.ready("t/a", "t/b");
    rig.finish("t/a");
    expect(rig.of("step")).toEqual([]);
    rig.plan({ run: [{ call: "t/b", attempt: 1 }, entry("t/c")] });
    expect(rig.of("fetch")).toEqual([]);
    rig.stored("t/a");
    expect(rig.steppedCalls()).toEqual(["t/b"]);
    expect(rig.of("fetch")).toHaveLength(1);
  });
});

describe("a resumed attempt in front of a frontend (S2)", () => {
  it("asks what the client has, and goes on from there", () => {
    rig.plan({ run: [entry("t/a", { fence: 6 }, 2)] });
    expect(rig.one("askHave")).toMatchObject({ frontend: "f1", call: "t/a", epoch: 1, attempt: 2 });
    rig.fetched("t/a");
    expect(rig.of("open")).toEqual([]);
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: { state: "live", count: 2, ids: [4, 5] } });
    expect(rig.one("open").forcedIds).toEqual([4, 5]);
    rig.opened("t/a", 10, "Pa");
    rig.stepped({ "t/a": { completionTokens: 3, ids: [6], text: "ris", finish: "stop" } });
    expect(rig.of("send")[0]?.message).toMatchObject({
      kind: "tokens",
      items: [{ call: "t/a", attempt: 2, index: 2, count: 1, text: "ris", ids: [6] }],
    });
    const response = (decode(rig.one("writeOutcome").body) as OutcomeBody).response;
    expect(response).toMatchObject({
      choices: [{ message: { content: "Paris" } }],
      usage: { prompt_tokens: 10, completion_tokens: 3 },
      autellix: { attempts: 2 },
    });
  });

  it("has more than text of an earlier attempt in its answer, too", () => {
    rig.plan({ run: [entry("t/a", {}, 2)] });
    rig.fetched("t/a");
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: { state: "live", count: 1, ids: [4] } });
    const call = { index: 0, id: "x", type: "function", function: { name: "f", arguments: "{" } };
    rig.happen({
      kind: "opened",
      ...{ id: rig.idOf("t/a"), promptTokens: 10, cachedTokens: 0, forcedText: "" },
      forcedDeltas: [{ delta: { tool_calls: [call] } }],
      context: { contextTokens: 0, hostTokens: 0 },
    });
    const deltas = [{ delta: { tool_calls: [{ index: 0, function: { arguments: "}" } }] } }];
    rig.stepped({ "t/a": { completionTokens: 2, ids: [5], text: "", deltas, finish: "tool_calls" } });
    const { response } = decode(rig.one("writeOutcome").body) as OutcomeBody;
    expect(response).toMatchObject({
      choices: [{ message: { content: null, tool_calls: [{ ...{ id: "x" }, function: { arguments: "{}" } }] } }],
    });
  });

  it("asks behind what an earlier holding of the same attempt has generated here", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b", {}, 2)] });
    rig.ready("t/a");
    rig.stepped({ "t/a": {} }, 1);
    rig.stepped({ "t/a": {} }, 1);
    expect(rig.of("send")).toEqual([]);
    rig.plan({ run: [{ call: "t/a", attempt: 1 }, entry("t/c", {}, 2)] });
    const kinds = rig.last.map(({ kind }) => kind).filter((kind) => kind === "send" || kind === "askHave");
    expect(kinds.slice(0, 2)).toEqual(["send", "askHave"]);
  });

  it("asks until it is answered, more and more slowly, and gives its slot away meanwhile", () => {
    rig.plan({ run: [entry("t/a", {}, 2)], reserve: [entry("t/b")] });
    rig.ready("t/b");
    rig.fetched("t/a");
    expect(rig.of("step")).toEqual([]);
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: undefined });
    expect(rig.steppedCalls()).toEqual(["t/b"]);
    for (const waitMs of [250, 500, 1_000, 1_000]) {
      rig.pass(waitMs - 1);
      expect(rig.of("askHave")).toEqual([]);
      rig.pass(1);
      expect(rig.of("askHave")).toHaveLength(1);
      rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: undefined });
    }
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: { state: "live", count: 0 } });
    expect(rig.one("open").forcedIds).toEqual([]);
  });

  it("is cancelled when nobody reads it any more", () => {
    rig.plan({ run: [entry("t/a", {}, 2)] });
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: { state: "gone" } });
    expect(rig.one("writeOutcome").head).toMatchObject({ status: "cancelled" });
  });

  it("never starts over: without the ids it ends as failed", () => {
    rig.plan({ run: [entry("t/a", {}, 2)] });
    rig.fetched("t/a");
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: { state: "live", count: 3 } });
    expect(failedWith()).toMatchObject({ code: "engine_error" });
  });
});

describe("a later attempt in front of an inbox", () => {
  it("starts over, and its first chunk says so", () => {
    rig.plan({ run: [entry("t/a", { reply: INBOX }, 2)] });
    expect(rig.of("askHave")).toEqual([]);
    rig.ready("t/a");
    rig.stepped({ "t/a": { text: "one" } });
    expect(rig.one("sendInbox").message).toMatchObject({
      restart: true,
      choices: [{ delta: { role: "assistant", content: "one" } }],
    });
    rig.stepped({ "t/a": { text: "two" } });
    expect(rig.one("sendInbox").message).not.toHaveProperty("restart");
  });
});
