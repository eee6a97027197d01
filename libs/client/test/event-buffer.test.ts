import { expect, test } from "vitest";
import { EVENTS_WAITING_MAX, EventBuffer } from "../src/event-buffer.ts";
import type { AnswerMessage, Chunk, Delta } from "../src/types.ts";

function chunk(content: string): Chunk {
  return deltaChunk({ content });
}

function deltaChunk(delta: Delta, logprobs: unknown = null): Chunk {
  const choices: Chunk["choices"] = [{ index: 0, delta, logprobs, finish_reason: null }];
  return { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m", choices };
}

function whole(content: string | null, fields: Partial<AnswerMessage> = {}): AnswerMessage {
  return { role: "assistant", content, refusal: null, ...fields };
}

/** The events in short: a text for a chunk, `null` for a restart. */
async function read(buffer: EventBuffer): Promise<(string | null)[]> {
  const events: (string | null)[] = [];
  for await (const event of buffer) events.push(event.kind === "chunk" ? event.text : null);
  return events;
}

test("a reader that comes before the chunks gets them all, then the end", async () => {
  const buffer = new EventBuffer();
  const reading = read(buffer);
  buffer.push(chunk("a"));
  buffer.push(chunk("b"));
  buffer.end();
  expect(await reading).toEqual(["a", "b"]);
});

test("two readers share the chunks, and both come to the end", async () => {
  const buffer = new EventBuffer();
  const reading = [read(buffer), read(buffer)];
  for (const text of ["a", "b", "c"]) {
    buffer.push(chunk(text));
    await Promise.resolve();
  }
  buffer.end();
  expect((await Promise.all(reading)).flat().sort()).toEqual(["a", "b", "c"]);
});

test("the record's tail is added when the last chunks were lost", async () => {
  const buffer = new EventBuffer();
  buffer.push(chunk("The capital "));
  buffer.settle(whole("The capital is Paris"), null);
  buffer.end();
  expect(await read(buffer)).toEqual(["The capital ", "is Paris"]);
});

test("the text starts over when a chunk in the middle was lost", async () => {
  const buffer = new EventBuffer();
  buffer.push(chunk("The "));
  buffer.push(chunk("Paris"));
  buffer.settle(whole("The capital is Paris"), null);
  buffer.end();
  expect(await read(buffer)).toEqual(["The ", "Paris", null, "The capital is Paris"]);
});

test("nothing is added when all arrived, after a restart too", async () => {
  const buffer = new EventBuffer();
  buffer.push(chunk("wro"));
  buffer.restart();
  buffer.push(chunk("right"));
  buffer.settle(whole("right"), null);
  buffer.end();
  expect(await read(buffer)).toEqual(["wro", null, "right"]);
});

test("without a reader the buffer stays bounded and the record's text comes instead", async () => {
  const buffer = new EventBuffer();
  for (let i = 0; i < EVENTS_WAITING_MAX + 10; i++) buffer.push(chunk("x"));
  buffer.settle(whole("whole"), null);
  buffer.end();
  expect(await read(buffer)).toEqual([null, "whole"]);
});

const CALL = { id: "1", type: "function" as const, function: { name: "look", arguments: '{"at":"sky"}' } };
const CALL_BEGUN: Delta = {
  tool_calls: [{ index: 0, id: "1", type: "function", function: { name: "look", arguments: '{"at"' } }],
};

/** Deltas and restarts, with their logprobs. */
async function readDeltas(buffer: EventBuffer): Promise<unknown[]> {
  const events: unknown[] = [];
  for await (const event of buffer) {
    if (event.kind === "restart") events.push("restart");
    else events.push(event.logprobs === undefined ? event.delta : [event.delta, event.logprobs]);
  }
  return events;
}

test("a tool call is completed from the record where its chunks were lost", async () => {
  const buffer = new EventBuffer();
  buffer.push(deltaChunk({ role: "assistant", content: null }));
  buffer.push(deltaChunk(CALL_BEGUN));
  buffer.settle(whole(null, { tool_calls: [CALL] }), null);
  buffer.end();
  expect(await readDeltas(buffer)).toEqual([
    { role: "assistant", content: null },
    CALL_BEGUN,
    { tool_calls: [{ index: 0, function: { arguments: ':"sky"}' } }] },
  ]);
});

test("an answer starts over when its tool call is another one, or its logprobs are", async () => {
  for (const [message, logprobs] of [
    [whole(null, { tool_calls: [{ ...CALL, id: "2" }] }), null],
    [whole(null, { tool_calls: [CALL] }), { content: [{ token: "x", logprob: -2 }] }],
  ] as const) {
    const buffer = new EventBuffer();
    buffer.push(deltaChunk(CALL_BEGUN, { content: [{ token: "x", logprob: -1 }] }));
    buffer.settle(message, logprobs);
    buffer.end();
    const rest = { tool_calls: [{ index: 0, ...message.tool_calls?.[0] }] };
    expect(await readDeltas(buffer)).toEqual([
      [CALL_BEGUN, { content: [{ token: "x", logprob: -1 }] }],
      "restart",
      logprobs ? [rest, logprobs] : rest,
    ]);
  }
});
