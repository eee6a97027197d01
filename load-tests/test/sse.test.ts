import fc from "fast-check";
import { expect, test } from "vitest";
import { SseReader } from "../src/sse.ts";

test("events come out whole however their bytes are cut", () => {
  const text = 'data: {"a":"é"}\n\n: comment\n\ndata: one\ndata: two\r\n\r\nevent: x\ndata:[DONE]\n\n';
  const bytes = Buffer.from(text);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (sizes) => {
      const reader = new SseReader();
      const events: string[] = [];
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length] ?? 1;
        events.push(...reader.read(bytes.subarray(at, at + size)));
        at += size;
      }
      expect(events).toEqual(['{"a":"é"}', "one\ntwo", "[DONE]"]);
    }),
  );
});

test("an event without end is refused", () => {
  const reader = new SseReader();
  const part = Buffer.from("x".repeat(1024 * 1024));
  expect(() => {
    for (let i = 0; i < 20; i++) reader.read(part);
  }).toThrow(RangeError);
});
