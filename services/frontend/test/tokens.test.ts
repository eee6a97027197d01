import { type AnswerDelta, textDelta } from "@autellix/protocol";
import { describe, expect, test } from "vitest";
import { answered, completed, Driver, failed, idsOf, KEY, kinds, only, submission } from "./driver.ts";

describe("tokens", () => {
  test("go to the client once and in order, and the end brings the rest", () => {
    const d = new Driver().accepted();
    d.tokens(0, "He");
    d.tokens(2, "l");
    d.end(completed("Hello"));
    expect(kinds(d.effects)).toEqual(["publish", "open", "text", "text", "text", "finish", "callEnded", "answer"]);
    expect(d.text()).toBe("Hello");
    expect(only(d.effects, "callEnded")[0]?.fields).toMatchObject({ status: "completed", completionTokens: 5 });
    expect(d.machine.openCalls).toBe(0);
  });

  test("that come twice are ignored", () => {
    const d = new Driver().accepted();
    d.tokens(0, "ab");
    d.tokens(0, "ab");
    d.tokens(1, "b");
    d.tokens(2, "c");
    expect(d.text()).toBe("abc");
  });

  test("behind a gap are held until the agent has filled it", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    const effects = d.tokens(3, "d");
    expect(effects).toEqual([{ kind: "askTokens", key: KEY, engine: "e1", from: 1 }]);
    d.tokens(4, "e");
    expect(d.text()).toBe("a");
    d.gap(1, "bc");
    expect(d.text()).toBe("abcde");
  });

  test("behind a gap beyond the limit are dropped and asked for again", () => {
    const d = new Driver({ gapItemsMax: 1 }).accepted();
    d.tokens(1, "b");
    d.tokens(2, "c");
    const effects = d.gap(0, "a");
    expect(d.text()).toBe("ab");
    expect(effects.at(-1)).toEqual({ kind: "askTokens", key: KEY, engine: "e1", from: 2 });
  });

  test("that overlap what is there are fetched from the agent", () => {
    const d = new Driver().accepted();
    d.tokens(0, "ab");
    expect(d.tokens(1, "bc")).toEqual([{ kind: "askTokens", key: KEY, engine: "e1", from: 2 }]);
    d.gap(2, "c");
    expect(d.text()).toBe("abc");
  });

  test("a question about a gap is repeated while nobody answers", () => {
    const d = new Driver().accepted();
    d.tokens(1, "b");
    d.tell({ kind: "gapAnswered", key: KEY, engine: "e1", answer: undefined });
    expect(only(d.pass(1_500), "askTokens").length).toBeGreaterThan(0);
  });

  test("an agent that does not know the call any more leads to its outcome", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    d.tokens(2, "c");
    const effects = d.tell({ kind: "gapAnswered", key: KEY, engine: "e1", answer: { state: "unknown" } });
    expect(kinds(effects)).toEqual(["readOutcome"]);
    d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read: { kind: "outcome", outcome: completed("abcd") } });
    expect(d.text()).toBe("abcd");
    expect(kinds(d.effects)).toContain("finish");
  });

  test("of a superseded attempt are refused, also when its agent has adopted a newer epoch", () => {
    const d = new Driver().accepted();
    d.tokens(0, "ab");
    d.tokens(2, "c", { attempt: 2, engine: "e2" });
    d.tokens(3, "x", { attempt: 1, epoch: 1 });
    d.tokens(3, "y", { attempt: 1, epoch: 2 });
    expect(d.text()).toBe("abc");
    d.tokens(3, "d", { attempt: 2, epoch: 2, engine: "e2" });
    d.tokens(4, "z", { attempt: 2, epoch: 1, engine: "e2" });
    expect(d.text()).toBe("abcd");
  });

  test("held from an attempt that was superseded are dropped", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    d.tokens(2, "X");
    d.tokens(1, "b", { attempt: 2, engine: "e2" });
    expect(d.text()).toBe("ab");
    d.tokens(2, "c", { attempt: 2, engine: "e2" });
    expect(d.text()).toBe("abc");
  });

  test("of a whole call are counted and not written", () => {
    const d = new Driver().accepted({ stream: false });
    d.tokens(0, "ab");
    expect(d.have(2)).toEqual({ state: "live", count: 2, ids: idsOf("ab") });
    d.end(completed("abc"));
    expect(kinds(d.effects)).toEqual(["publish", "answer", "whole", "callEnded", "answer"]);
  });
});

describe("a resumed attempt", () => {
  test("hears what the client has, and from then on lower attempts are refused", () => {
    const d = new Driver().accepted();
    d.tokens(0, "ab");
    d.tokens(4, "e");
    expect(d.have(2)).toEqual({ state: "live", count: 2, ids: idsOf("ab") });
    d.tokens(2, "x");
    d.tokens(2, "cd", { attempt: 2, engine: "e2" });
    expect(d.text()).toBe("abcd");
    expect(d.have(2)).toEqual({ state: "live", count: 4, ids: idsOf("abcd") });
  });

  test("gets no ids when an engine gave none", () => {
    const d = new Driver().accepted();
    const item = { call: KEY, attempt: 1, index: 0, count: 1, text: "a" };
    d.tell({ kind: "tokens", engine: "e1", epoch: 1, items: [item] });
    d.tokens(1, "b");
    expect(d.have(2)).toEqual({ state: "live", count: 2 });
  });

  test("gets no answer when a later one was here already", () => {
    const d = new Driver().accepted();
    d.have(3);
    expect(d.have(2)).toBeUndefined();
  });

  test("hears that the call is gone when nobody waits for it", () => {
    const d = new Driver().accepted();
    d.tell({ kind: "clientGone", key: KEY });
    expect(d.have(2)).toEqual({ state: "gone" });
  });
});

describe("the end", () => {
  test("before any token gives the whole answer as a stream", () => {
    const d = new Driver().accepted();
    d.end(completed("Hi"));
    expect(kinds(d.effects)).toEqual(["publish", "open", "text", "finish", "callEnded", "answer"]);
  });

  test("before the publish is confirmed counts as accepted", () => {
    const d = new Driver();
    d.tell({ kind: "submitted", call: submission() });
    d.end(completed("Hi"));
    d.tell({ kind: "publishAnswered", key: KEY, result: "accepted" });
    expect(kinds(d.pass(20_000))).toEqual([]);
    expect(d.text()).toBe("Hi");
  });

  test("with an error before the first token is the first thing that the client hears", () => {
    const d = new Driver().accepted();
    d.pass(1_000);
    d.end(failed("context_length_exceeded"));
    expect(kinds(d.effects)).toEqual(["publish", "fail", "callEnded", "answer"]);
    expect(only(d.effects, "fail")[0]?.failure.code).toBe("context_length_exceeded");
  });

  test("with an error after the first token ends the stream", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    d.end(failed("expired", "expired"));
    expect(kinds(d.effects)).toEqual(["publish", "open", "text", "fail", "callEnded", "answer"]);
    expect(only(d.effects, "callEnded")[0]?.fields).toMatchObject({ status: "expired", code: "expired" });
  });

  test("of a call that is not here is confirmed", () => {
    expect(kinds(new Driver().end(completed("x")))).toEqual(["answer"]);
  });

  test("without its body is read from the record", () => {
    const d = new Driver().accepted();
    d.tokens(0, "a");
    expect(kinds(d.end(undefined))).toEqual(["readOutcome", "answer"]);
    d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read: { kind: "unknown" } });
    expect(only(d.pass(2_500), "readOutcome")).toHaveLength(1);
    d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read: { kind: "outcome", outcome: completed("ab") } });
    expect(d.text()).toBe("ab");
    expect(kinds(d.effects)).toContain("finish");
  });

  test("with an answer that does not begin with the streamed text is an error, and logged", () => {
    const d = new Driver().accepted();
    d.tokens(0, "ab");
    d.end(completed("aXc"));
    expect(d.text()).toBe("ab");
    expect(kinds(d.effects).slice(-4)).toEqual(["warn", "fail", "callEnded", "answer"]);
  });

  test("whose answer is not stored any more says so", () => {
    const d = new Driver().accepted();
    d.end({ call_id: "c1", program_id: "c1", status: "completed" });
    expect(only(d.effects, "fail")[0]?.failure.code).toBe("result_expired");
  });

  test("that is lost is found in the record after a silence, with growing pauses", () => {
    const d = new Driver().accepted();
    const reads: number[] = [];
    for (let i = 0; i < 4; i++) {
      const before = d.nowMs;
      while (only(d.pass(50), "readOutcome").length === 0);
      reads.push(Math.round((d.nowMs - before) / 1_000));
      d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read: { kind: "none" } });
    }
    expect(reads).toEqual([2, 2, 4, 8]);
    d.pass(16_000);
    d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read: { kind: "outcome", outcome: completed("Hi") } });
    expect(d.text()).toBe("Hi");
  });

  test("that never comes is given up on after the lifetime, and the call is cancelled", () => {
    const d = new Driver({ lifetimeGraceMs: 1_000 }).accepted({ deadlineMs: 2_000 });
    const effects = d.pass(3_100);
    expect(only(effects, "fail")[0]?.failure.code).toBe("internal_error");
    expect(only(effects, "cancel")).toHaveLength(1);
    expect(d.machine.openCalls).toBe(0);
  });
});

describe("an answer that is more than text", () => {
  const called = (fields: Record<string, unknown>, id?: string): AnswerDelta => ({
    delta: { tool_calls: [{ index: 0, ...(id ? { id, type: "function" } : {}), function: fields }] },
  });
  const valued = (content: string): AnswerDelta => ({
    delta: { content },
    logprobs: { content: [{ token: content, logprob: -1, bytes: null, top_logprobs: [] }] },
  });
  const PIECES = [textDelta("I look. "), called({ name: "look", arguments: "{" }, "x"), called({ arguments: "}" })];

  test("goes to the client delta by delta", () => {
    const d = new Driver().accepted();
    d.deltas(0, PIECES.slice(0, 2));
    d.deltas(2, PIECES.slice(2));
    const outcome = answered(PIECES, { reason: "tool_calls" });
    d.end(outcome);
    expect(only(d.effects, "delta").map(({ delta }) => delta)).toEqual(PIECES);
    expect(kinds(d.effects).slice(-6)).toEqual(["delta", "delta", "delta", "finish", "callEnded", "answer"]);
    expect(only(d.effects, "finish")[0]).toMatchObject({ reason: "tool_calls", usage: outcome.usage });
  });

  test("is held behind a gap, and not repeated when the gap is filled or a later attempt goes on", () => {
    const d = new Driver().accepted();
    d.tokens(0, "A");
    d.deltas(3, [called({ arguments: "}" })]);
    expect(only(d.effects, "askTokens")).toHaveLength(1);
    d.gapOfDeltas(1, [valued("B"), called({ name: "look", arguments: "{" }, "x")]);
    expect(d.have(2)).toEqual({ state: "live", count: 4 });
    d.deltas(3, [called({ arguments: "XXX" })]);
    d.deltas(4, [valued("C")], { attempt: 2, engine: "e2" });
    const whole = [textDelta("A"), valued("B"), called({ name: "look", arguments: "{}" }, "x"), valued("C")];
    d.end(answered(whole));
    expect(kinds(d.effects)).toContain("finish");
    expect(d.answer()).toMatchObject({
      message: { content: "ABC", tool_calls: [{ id: "x", function: { name: "look", arguments: "{}" } }] },
      logprobs: { content: [{ token: "B" }, { token: "C" }] },
    });
  });

  test("comes from the record where its tokens did not, from any token on", () => {
    const pieces = [textDelta("A"), valued("B"), ...PIECES.slice(1), valued("C")];
    for (let shown = 0; shown <= pieces.length; shown++) {
      const d = new Driver().accepted();
      if (shown > 0) d.deltas(0, pieces.slice(0, shown));
      d.end(answered(pieces));
      const { message, logprobs } = d.answer();
      expect(answered(pieces).response?.choices[0]).toMatchObject({ message, logprobs });
      expect(kinds(d.effects)).toContain("finish");
      expect(only(d.effects, "delta").length).toBeLessThanOrEqual(pieces.length);
    }
  });

  test("that differs from what was streamed is an error, and logged", () => {
    const d = new Driver().accepted();
    d.deltas(0, [called({ name: "look", arguments: "[" }, "x")]);
    d.end(answered([called({ name: "look", arguments: "{}" }, "x")]));
    expect(kinds(d.effects).slice(-4)).toEqual(["warn", "fail", "callEnded", "answer"]);
    expect(only(d.effects, "fail")[0]?.failure.code).toBe("internal_error");
  });

  test("that is larger than a client's buffer goes out in pieces as it drains", () => {
    const MB = 1 << 20;
    const d = new Driver().accepted();
    const whole = answered([called({ name: "look", arguments: JSON.stringify("😀".repeat(MB)) }, "x"), valued("C")]);
    let effects = d.end(whole);
    for (let i = 0; i < 100 && only(effects, "finish").length === 0; i++) {
      d.tell({ kind: "buffered", key: KEY, bytes: MB });
      d.tell({ kind: "buffered", key: KEY, bytes: 0 });
      effects = d.tell({ kind: "outcomeRead", key: KEY, purpose: "call", read: { kind: "outcome", outcome: whole } });
    }
    expect(kinds(effects)).toContain("finish");
    const { message, logprobs } = d.answer();
    expect(whole.response?.choices[0]).toMatchObject({ message, logprobs });
  });

  test("and has one part that is larger than a client's buffer goes out all the same", () => {
    const d = new Driver({ streamBufferBytesMax: 128 << 10 }).accepted();
    const vendor = { delta: { vendor: { long: "x".repeat(200_000) } } };
    d.end(answered([vendor]));
    expect(kinds(d.effects)).toContain("finish");
    expect(d.answer().message.vendor).toEqual(vendor.delta.vendor);
  });
});

test("a text that is still empty opens no stream: a failure has its own status", () => {
  const d = new Driver().accepted();
  d.tell({ kind: "tokens", engine: "e1", epoch: 1, items: [{ call: KEY, attempt: 1, index: 0, count: 1, text: "" }] });
  d.end(failed("engine_error"));
  expect(kinds(d.effects)).toEqual(["publish", "fail", "callEnded", "answer"]);
});

test("a random order of losses, repetitions and gaps never changes what the client reads", () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  const answer = Array.from({ length: 300 }, (_, i) => String.fromCharCode(97 + (i % 26))).join("");
  for (let round = 0; round < 50; round++) {
    const d = new Driver({ gapItemsMax: 4 }).accepted();
    let attempt = 1;
    let read = "";
    for (let step = 0; step < 400; step++) {
      const index = random(answer.length);
      const text = answer.slice(index, index + 1 + random(5));
      const stale = random(10) === 0 && attempt > 1;
      const kind = random(12);
      if (kind === 0) {
        attempt++;
        d.have(attempt);
      } else if (kind === 1) d.tell({ kind: "buffered", key: KEY, bytes: random(2) * 3_000_000 });
      else d.tokens(index, stale ? "#".repeat(text.length) : text, { attempt: stale ? attempt - 1 : attempt });
      const effects = d.effects.splice(0);
      const asked = only(effects, "askTokens").at(-1);
      for (const { text: piece } of only(effects, "text")) read += piece;
      if (asked && random(3) > 0) d.gap(asked.from, answer.slice(asked.from, asked.from + 20), { attempt });
      else if (asked) d.tell({ kind: "gapAnswered", key: KEY, engine: "e1", answer: undefined });
      d.pass(50);
      expect(answer.startsWith(read), `seed ${seed}: ${read}`).toBe(true);
    }
    d.tell({ kind: "buffered", key: KEY, bytes: 0 });
    d.end(completed(answer));
    for (const { text: piece } of only(d.effects, "text")) read += piece;
    expect(read === answer, `seed ${seed}`).toBe(true);
  }
});
