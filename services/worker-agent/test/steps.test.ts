import { decode, type FrontendMessage, type OutcomeBody } from "@autellix/protocol";
import { beforeEach, describe, expect, it } from "vitest";
import { GAP_TEXT_LENGTH_MAX } from "../src/limits.ts";
import { TokenLog } from "../src/token-log.ts";
import { ENGINE, entry, INBOX, info, Rig } from "./support/rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});

describe("a step", () => {
  it("is never begun before the last one has ended", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.ready("t/a");
    rig.ready("t/b");
    expect(rig.all.filter((effect) => effect.kind === "step")).toHaveLength(1);
    rig.stepped({ "t/a": {} });
    expect(rig.steppedCalls()).toEqual(["t/a", "t/b"]);
  });

  it("charges its whole duration to every call of its batch", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.ready("t/a", "t/b");
    rig.stepped({ "t/a": {} }, 5);
    rig.stepped({ "t/a": {}, "t/b": { tokens: 0, ids: [], text: "" } }, 7);
    expect(rig.report().calls.map((c) => c.serviceMs)).toEqual([12, 7]);
  });

  it("sends one message to each frontend, with the tokens of all its calls", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b"), entry("t/c", { reply: "autellix.tokens.f2" }), entry("t/d")] });
    rig.ready("t/a", "t/b", "t/c", "t/d");
    rig.stepped({ "t/a": { text: "1" } });
    rig.stepped({
      "t/a": { text: "2" },
      "t/b": { text: "3" },
      "t/c": { text: "4" },
      "t/d": { tokens: 0, ids: [], text: "" },
    });
    const sent = rig.of("send").map(({ subject, message }) => [subject, message]);
    const item = (call: string, index: number, text: string) => ({ call, attempt: 1, index, count: 1, text, ids: [7] });
    expect(sent).toEqual([
      [
        "autellix.tokens.f1",
        { kind: "tokens", engine: ENGINE, epoch: 1, items: [item("t/a", 1, "2"), item("t/b", 0, "3")] },
      ],
      ["autellix.tokens.f2", { kind: "tokens", engine: ENGINE, epoch: 1, items: [item("t/c", 0, "4")] }],
    ]);
  });

  it("shares a message with steps within 20 ms, but for a call's first tokens and its last", () => {
    rig.plan({ run: [entry("t/a"), entry("t/b")] });
    rig.ready("t/a", "t/b");
    const texts = () =>
      rig
        .of("send")
        .flatMap(({ message }) => (message as FrontendMessage & { kind: "tokens" }).items.map(({ text }) => text));
    const step = (calls: Parameters<Rig["stepped"]>[0], ms: number) => {
      rig.stepped(calls, ms);
      return texts();
    };
    expect(step({ "t/a": { text: "1" } }, 5)).toEqual(["1"]);
    expect(step({ "t/a": { text: "2" } }, 5)).toEqual([]);
    expect(step({ "t/a": { text: "3" }, "t/b": { text: "first" } }, 5)).toEqual(["23", "first"]);
    expect(step({ "t/a": { text: "4" } }, 5)).toEqual([]);
    rig.pass(20);
    expect(texts()).toEqual([]);
    rig.pass(15);
    expect(texts()).toEqual(["4"]);
    expect(step({ "t/a": { text: "5" } }, 5)).toEqual([]);
    expect(step({ "t/a": { text: "6", finish: "stop" } }, 5)).toEqual(["56"]);
    expect(step({ "t/b": { text: "7" } }, 19)).toEqual([]);
    expect(step({ "t/b": { text: "8" } }, 5)).toEqual(["78"]);
  });

  it("sends an inbox a chunk as in SSE, the role in the first one only", () => {
    rig.plan({ run: [entry("t/a", { reply: INBOX })] });
    rig.ready("t/a");
    rig.stepped({ "t/a": { text: "" } });
    expect(rig.one("sendInbox")).toMatchObject({ subject: INBOX, message: { id: "chatcmpl-a", model: "m" } });
    expect(rig.one("sendInbox").message).toMatchObject({ choices: [{ delta: { role: "assistant", content: "" } }] });
    rig.stepped({ "t/a": { text: "" } });
    expect(rig.of("sendInbox")).toEqual([]);
    rig.stepped({ "t/a": { text: "b" } });
    expect(rig.one("sendInbox").message).toMatchObject({ choices: [{ delta: { content: "b" } }] });
    expect(rig.one("sendInbox")).not.toHaveProperty("end");
  });

  it("sends more than text as it came, and stores it as one message", () => {
    const tool = (fields: Record<string, unknown>) => ({ delta: { tool_calls: [{ index: 0, ...fields }] } });
    const first = tool({ id: "x", type: "function", function: { name: "f", arguments: "{" } });
    const second = tool({ function: { arguments: "}" } });
    rig.plan({ run: [entry("t/a"), entry("t/i", { reply: INBOX })] });
    rig.ready("t/a", "t/i");
    rig.stepped({ "t/a": { text: "Look: " } }, 1);
    const deltas = [{ delta: { reasoning_content: "so" } }, first];
    rig.stepped({ "t/a": { tokens: 2, text: "", ids: [1, 2], deltas }, "t/i": { text: "", deltas } }, 1);
    expect(rig.of("send")).toEqual([]);
    expect(rig.of("sendInbox").map(({ message }) => "choices" in message && message.choices[0]?.delta)).toEqual([
      { role: "assistant", reasoning_content: "so" },
      first.delta,
    ]);
    const end = { tokens: 1, text: "", ids: [3], deltas: [second], finish: "tool_calls" as const };
    rig.stepped({ "t/a": end, "t/i": { text: "", deltas: [second] } }, 1);
    const [{ message } = { message: undefined }] = rig.of("send");
    expect(message).toMatchObject({
      items: [{ call: "t/a", index: 1, count: 3, text: "", ids: [1, 2, 3], deltas: [...deltas, second] }],
    });
    const { response } = decode(rig.one("writeOutcome").body) as OutcomeBody;
    expect(response).toMatchObject({
      choices: [
        {
          message: {
            content: "Look: ",
            reasoning_content: "so",
            tool_calls: [{ id: "x", type: "function", function: { name: "f", arguments: "{}" } }],
          },
          finish_reason: "tool_calls",
        },
      ],
    });
  });

  it("sends nobody the tokens of a call without a reply subject, or with a forged one", () => {
    rig.plan({ run: [entry("t/a", { reply: undefined }), entry("t/b", { reply: "$KV.autellix_pools.lease.p" })] });
    rig.ready("t/a", "t/b");
    rig.stepped({ "t/a": {}, "t/b": {} });
    expect([...rig.of("send"), ...rig.of("sendInbox")]).toEqual([]);
  });

  it("evicts the least valuable parked context when there is no room for one more", () => {
    rig = new Rig({ info: { ...info, residentCallsMax: 2 } });
    rig.plan({ run: [entry("t/a")], keep: [entry("t/b"), entry("t/c")] });
    rig.ready("t/a", "t/b", "t/c");
    rig.plan({
      run: [{ call: "t/b", attempt: 1 }],
      keep: [
        { call: "t/a", attempt: 1 },
        { call: "t/c", attempt: 1 },
      ],
    });
    rig.stepped({ "t/a": {} });
    rig.plan({
      run: [{ call: "t/c", attempt: 1 }],
      keep: [
        { call: "t/a", attempt: 1 },
        { call: "t/b", attempt: 1 },
      ],
    });
    rig.stepped({ "t/b": {} });
    expect(rig.last.map((effect) => effect.kind).filter((kind) => kind === "evict" || kind === "step")).toEqual([
      "evict",
      "step",
    ]);
    expect(rig.nameOf(rig.one("evict").id)).toBe("t/b");
    expect(rig.report().calls.map((c) => [c.call, c.state])).toEqual([
      ["t/a", "parked"],
      ["t/b", "evicted"],
      ["t/c", "running"],
    ]);
  });
});

describe("a gap answer", () => {
  const log = new TokenLog();
  log.add({ count: 2, text: "ab", ids: [1, 2] });
  log.add({ count: 1, text: "c", ids: [3] });
  log.add({ count: 1, text: "", ids: [4] });

  it("has what was generated from a token on", () => {
    expect(log.since(2, 5, 1)).toEqual({
      state: "known",
      epoch: 5,
      attempt: 1,
      index: 2,
      count: 2,
      text: "c",
      ids: [3, 4],
    });
    expect(log.since(0, 5, 1)).toMatchObject({ count: 4, text: "abc" });
  });

  it("is empty when nothing came since", () => {
    expect(log.since(4, 5, 1)).toMatchObject({ state: "known", index: 4, count: 0, text: "" });
  });

  it("is unknown where text cannot be cut, and ahead of what was generated", () => {
    expect(log.since(1, 5, 1)).toEqual({ state: "unknown" });
    expect(log.since(9, 5, 1)).toEqual({ state: "unknown" });
  });

  it("is bounded: the rest is asked for again", () => {
    const long = new TokenLog();
    const piece = "x".repeat(GAP_TEXT_LENGTH_MAX / 4);
    for (let i = 0; i < 10; i++) long.add({ count: 1, text: piece, ids: [i] });
    const first = long.since(0, 1, 1);
    expect(first).toMatchObject({ count: 4, ids: [0, 1, 2, 3] });
    expect(long.since(4, 1, 1)).toMatchObject({ index: 4, count: 4 });
    expect(long.since(8, 1, 1)).toMatchObject({ index: 8, count: 2 });
  });

  it("has all pieces as deltas when one of them is more than text", () => {
    const mixed = new TokenLog();
    const logprobs = { content: [{ token: "b" }] };
    mixed.add({ count: 1, text: "a", ids: [1] });
    mixed.add({ count: 1, text: "b", ids: [2], deltas: [{ delta: { content: "b" }, logprobs }] });
    mixed.add({ count: 1, text: "", ids: [3] });
    const ofB = { delta: { content: "b" }, logprobs };
    expect(mixed.since(0, 1, 1)).toMatchObject({ text: "ab", deltas: [{ delta: { content: "a" } }, ofB] });
    expect(mixed.since(2, 1, 1)).not.toHaveProperty("deltas");
  });

  it("is about the latest attempt that this agent holds", () => {
    rig.plan({ run: [entry("t/a")] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.plan({ run: [entry("t/a", { reply: INBOX, fence: 3 }, 2)] });
    rig.happen({ kind: "asked", ask: { kind: "tokens", call: "t/a", from: 0 }, replyTo: "_INBOX.q" });
    expect(rig.of("send")[0]?.message).toMatchObject({ attempt: 2, count: 0 });
  });
});
