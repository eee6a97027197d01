import { describe, expect, it } from "vitest";
import { HttpAnswer } from "../src/http/answer.ts";
import { readChatChunk } from "../src/http/dialect.ts";
import { failureOf, retryAfterOf, ServerFailure, sentence } from "../src/http/failure.ts";
import { samplesOf } from "../src/http/metrics.ts";
import { EventReader } from "../src/http/sse.ts";
import { StopFilter } from "../src/text.ts";

describe("server-sent events", () => {
  const stream = Buffer.from(
    'data: {"a":"ʳ🎉"}\r\n\r\n: a comment\nevent: x\ndata:one\ndata: two\n\n\n\ndata: [DONE]\n\n',
  );
  const events = ['{"a":"ʳ🎉"}', "one\ntwo", "[DONE]"];

  it("come out the same however the bytes are cut", () => {
    for (let size = 1; size <= stream.length; size++) {
      const reader = new EventReader(1_000);
      const got: string[] = [];
      for (let at = 0; at < stream.length; at += size) got.push(...reader.push(stream.subarray(at, at + size)));
      expect(got).toEqual(events);
    }
  });

  it("come out without an empty line behind the last one, and without empty ones", () => {
    const reader = new EventReader(1_000);
    expect(reader.push(Buffer.from("data:\n\ndata: one\n\ndata: two\ndata: thr"))).toEqual(["one"]);
    expect([reader.end(), reader.end()]).toEqual([["two\nthr"], []]);
  });

  it("tell errors that are errors by their names alone", () => {
    const reader = new EventReader(1_000);
    const stream = 'event: error\ndata: {"message":"no","code":400}\n\ndata: {"a":1}\n\nevent: error\ndata: oh no\n\n';
    expect(reader.push(Buffer.from(`${stream}event: error\ndata: {"error":{}}\n\n`))).toEqual([
      '{"error":{"message":"no","code":400}}',
      '{"a":1}',
      '{"error":"oh no"}',
      '{"error":{}}',
    ]);
  });

  it("are told from comments, which move nothing", () => {
    const reader = new EventReader(1_000);
    const moved = [": keep", "-alive\n\n:\n", "\n", "da", "ta: 1\n", "\n", ":\n\n", "event: x\n"].map((text) => {
      reader.push(Buffer.from(text));
      return reader.moved;
    });
    expect(moved).toEqual([false, false, false, true, true, false, false, true]);
  });

  it("are limited, with and without an end", () => {
    const long = Buffer.from(`data: ${"x".repeat(200)}`);
    expect(() => new EventReader(100).push(long)).toThrow(/more than 100/);
    const many = Buffer.from("data: xxxxxxxxxx\n".repeat(20));
    expect(() => new EventReader(100).push(many)).toThrow(/more than 100/);
  });
});

describe("stop sequences", () => {
  it("are found, and what comes before them shown, however the text is cut", () => {
    const text = "one tw two three";
    for (let size = 1; size <= text.length; size++) {
      const filter = new StopFilter(["two", "threat"]);
      let shown = "";
      let found = false;
      for (let at = 0; at < text.length && !found; at += size) {
        const next = filter.push(text.slice(at, at + size), at + size >= text.length);
        shown += next.text;
        found = next.rest !== undefined;
      }
      expect([shown, found]).toEqual(["one tw ", true]);
    }
  });

  it("end the answer in the order in which they are whole, however the text is cut", () => {
    for (const parts of [["abcd"], ["a", "b", "c", "d"], ["ab", "cd"], ["abc", "d"]]) {
      const filter = new StopFilter(["abcd", "c", "bc"]);
      let shown = "";
      for (const part of parts) {
        const { text, rest } = filter.push(part);
        shown += text;
        if (rest !== undefined) break;
      }
      expect(shown).toBe("a");
    }
  });

  it("that only began are given back at the end", () => {
    const filter = new StopFilter(["end."]);
    expect([filter.push("the en"), filter.push("d", true)]).toEqual([{ text: "the " }, { text: "end" }]);
  });
});

describe("an answer", () => {
  it("hands ids out with the text that they complete", () => {
    const answer = new HttpAnswer([]);
    answer.push({ text: "", ids: [1] }, 0);
    expect(answer.take()).toMatchObject({ tokens: 0, ids: [], text: "" });
    answer.push({ text: "é", ids: [2] }, 1);
    expect([answer.take(), answer.clean]).toMatchObject([{ tokens: 2, ids: [1, 2], text: "é" }, true]);
    answer.push({ text: "", ids: [3] }, 2);
    answer.cut();
    answer.push({ text: "x", ids: [4] }, 0);
    expect(answer.ids).toEqual([1, 2, 4]);
  });

  it("knows that several tokens at once may leave a character open", () => {
    const answer = new HttpAnswer([]);
    answer.push({ text: "ab", ids: [1, 2, 3] }, 0);
    expect(answer.clean).toBe(false);
  });

  it("does not hold back stray bytes for ever", () => {
    const answer = new HttpAnswer([]);
    for (let i = 0; i < 40; i++) answer.push({ text: "", ids: [7] }, i);
    expect([answer.take().tokens, answer.clean]).toEqual([33, false]);
  });

  it("leaves out the end token and an open character", () => {
    const answer = new HttpAnswer([]);
    answer.push({ text: "ab", ids: [1] }, 0);
    answer.push({ text: "\ufffd", ids: [2, 0], finish: "stop", endToken: true }, 1);
    expect([answer.take(), answer.finish]).toMatchObject([{ text: "ab", ids: [1, 2] }, "stop"]);
  });

  it("gives up token ids once a token came without its own", () => {
    const answer = new HttpAnswer([]);
    answer.push({ text: "a", ids: [1] }, 0);
    answer.push({ text: "b", ids: undefined, tokensTotal: 4 }, 1);
    expect([answer.take(), answer.idsComplete]).toMatchObject([{ tokens: 4, text: "ab" }, false]);
  });
});

describe("what a server says of an error", () => {
  it("is one sentence, on one line, of limited length", () => {
    expect(sentence("Wrong. Your prompt was: secret")).toBe("Wrong.");
    expect(sentence("Value 0.5 is\n\ttoo  small")).toBe("Value 0.5 is too small");
    expect(sentence("x".repeat(1_000))).toHaveLength(301);
  });

  it("is a whole sentence for the client", () => {
    const refused = (status: number, message: string) =>
      failureOf({ status, text: JSON.stringify({ error: { message } }) });
    expect(refused(400, "top_k must be positive.").message).toBe("top_k must be positive.");
    expect(refused(400, "too big").message).toBe("The engine's server refused the call with status 400: too big.");
    expect(refused(503, "loading").message).toBe("The engine's server answered with status 503: loading.");
    expect(new ServerFailure("broken", "an answer without token ids").message).toBe(
      "The engine's server failed: an answer without token ids.",
    );
  });

  it("says when it wants to be asked again, in seconds or by a date", () => {
    const nowMs = Date.parse("2026-01-01T00:00:00Z");
    expect(
      ["7", "0", "Thu, 01 Jan 2026 00:00:09 GMT", "Wed, 31 Dec 2025 00:00:00 GMT", "soon", undefined].map((header) =>
        retryAfterOf(header, nowMs),
      ),
    ).toEqual([7_000, 0, 9_000, 0, undefined, undefined]);
  });

  it("is none of ours when our own request is at fault", () => {
    expect(failureOf({ status: 400, text: '{"error":{"message":"No."}}' }, true)).toMatchObject({
      kind: "refused",
      code: "engine_error",
    });
    expect(failureOf({ status: 400, text: '{"error":{"message":"No."}}' })).toMatchObject({
      kind: "refused",
      code: "invalid_request",
    });
    expect(failureOf({ status: 500, text: "not json" })).toMatchObject({ kind: "busy", code: "engine_error" });
  });
});

it("reads metrics of exactly one name, with escaped labels", () => {
  const text = '# HELP a:b x\na:b{l="1",m="q\\"}"} 2.5\na:b_total{l="1"} 9\na:b 1e3\n';
  expect(samplesOf(text, "a:b")).toEqual([
    { labels: { l: "1", m: 'q\\"}' }, value: 2.5 },
    { labels: {}, value: 1_000 },
  ]);
});

describe("a chunk of a chat", () => {
  const read = (chunk: unknown) => readChatChunk(chunk, false, () => {});

  it.each([
    [{ prompt_tokens: -1, completion_tokens: 2 }, undefined],
    [{ prompt_tokens: 2.5, completion_tokens: 2 }, undefined],
    [{ prompt_tokens: 3, completion_tokens: Number.MAX_VALUE }, undefined],
    [
      { prompt_tokens: 3, completion_tokens: 2, prompt_tokens_details: { cached_tokens: -3 } },
      { promptTokens: 3, completionTokens: 2, cachedTokens: undefined },
    ],
    [
      { prompt_tokens: 3, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 1 } },
      { promptTokens: 3, completionTokens: 2, cachedTokens: 1 },
    ],
  ])("with usage %j counts only what are counts", (usage, expected) => {
    expect(read({ choices: [], usage }).usage).toEqual(expected);
  });

  it("is of the choice that was asked for, wherever it stands", () => {
    const other = { index: 1, delta: { content: "other" }, finish_reason: "stop" };
    expect(read({ choices: [other, { index: 0, delta: { content: "own" } }] })).toMatchObject({ text: "own" });
    expect(read({ choices: [other] })).toEqual({ text: "", ids: undefined });
    expect(read({ choices: [{ delta: { content: "own" } }] })).toMatchObject({ text: "own" });
  });

  it("with parts of content has their text, and thoughts as thoughts", () => {
    const content = [
      {
        type: "thinking",
        thinking: [
          { type: "text", text: "hm" },
          { type: "text", text: "m" },
        ],
      },
      { type: "text", text: "Par" },
      { type: "text", text: "is" },
    ];
    expect(read({ choices: [{ index: 0, delta: { content } }] })).toMatchObject({
      text: "Paris",
      delta: { reasoning_content: "hmm" },
    });
  });
});

describe("an answer without ids", () => {
  const piece = (text: string, finish?: "stop") => ({ text, ids: undefined, ...(finish ? { finish } : {}) });

  it("shows characters whole that a server cut in two", () => {
    const answer = new HttpAnswer([]);
    const shown: string[] = [];
    for (const text of ["a\ud83d", "", "\ude00 b", "\ude00c\ud83d"]) {
      answer.push(piece(text), 0);
      shown.push(answer.take().text);
    }
    answer.push(piece("", "stop"), 0);
    shown.push(answer.take().text);
    // A half that has no other one is shown as what it is: broken.
    expect(shown).toEqual(["a", "", "\u{1f600} b", "\ufffdc", ""]);
  });
});
