import { expect, test } from "vitest";
import { EVENTS_WAITING_MAX, EventBuffer } from "../src/event-buffer.ts";
import type { Chunk } from "../src/types.ts";

function chunk(content: string): Chunk {
  const choices: Chunk["choices"] = [{ index: 0, delta: { content }, finish_reason: null }];
  return { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m", choices };
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

test("the record's tail is added when the last chunks were lost", async () => {
  const buffer = new EventBuffer();
  buffer.push(chunk("The capital "));
  buffer.settle("The capital is Paris");
  buffer.end();
  expect(await read(buffer)).toEqual(["The capital ", "is Paris"]);
});

test("the text starts over when a chunk in the middle was lost", async () => {
  const buffer = new EventBuffer();
  buffer.push(chunk("The "));
  buffer.push(chunk("Paris"));
  buffer.settle("The capital is Paris");
  buffer.end();
  expect(await read(buffer)).toEqual(["The ", "Paris", null, "The capital is Paris"]);
});

test("nothing is added when all arrived, after a restart too", async () => {
  const buffer = new EventBuffer();
  buffer.push(chunk("wro"));
  buffer.restart();
  buffer.push(chunk("right"));
  buffer.settle("right");
  buffer.end();
  expect(await read(buffer)).toEqual(["wro", null, "right"]);
});

test("without a reader the buffer stays bounded and the record's text comes instead", async () => {
  const buffer = new EventBuffer();
  for (let i = 0; i < EVENTS_WAITING_MAX + 10; i++) buffer.push(chunk("x"));
  buffer.settle("whole");
  buffer.end();
  expect(await read(buffer)).toEqual([null, "whole"]);
});
