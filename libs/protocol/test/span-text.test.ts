/** Spans as OTLP's JSON: what a collector reads is what was meant. */
import { describe, expect, it } from "vitest";
import { SPAN_TEXT_MAX, type SpanData, spanText } from "../src/index.ts";
import { readSpanText } from "./support/span-text.ts";

const SPAN: SpanData = {
  ...{ traceId: "5091e9f92dda8950c9eadf70f4ff526f", spanId: "12fe1cf0b4d71866", parentId: "b7ad6b7169203331" },
  ...{ name: "chat", startMs: 1_700_000_000_000.25, endMs: 1_700_000_000_001.5 },
  attributes: { "autellix.call": "c", "autellix.level": 3, "autellix.service_ms": 1.25, "autellix.stream": true },
};

describe("the text of a span", () => {
  it("gives back all that is in it", () => {
    expect(readSpanText(spanText(SPAN))).toEqual(SPAN);
    const rich: SpanData = {
      ...SPAN,
      kind: "server",
      attributes: { "autellix.tools": ["a", 'b"\\'], "autellix.call": 'line\n"quoted" \u2028 \u{1f600}' },
      events: [
        { name: "first token", atMs: 1_700_000_000_000.5 },
        { name: "window", atMs: 1_700_000_000_001, attributes: { "autellix.steps": 16 } },
      ],
      links: [{ traceId: "1".repeat(32), spanId: "2".repeat(16) }],
      error: "engine_lost",
    };
    expect(readSpanText(spanText(rich))).toEqual(rich);
  });

  it("has the fields and forms of OTLP's JSON", () => {
    expect(JSON.parse(spanText({ ...SPAN, attributes: { whole: 3, part: 0.5 } }))).toEqual({
      traceId: SPAN.traceId,
      spanId: SPAN.spanId,
      parentSpanId: SPAN.parentId,
      flags: 1,
      name: "chat",
      kind: 1,
      startTimeUnixNano: "1700000000000250000",
      endTimeUnixNano: "1700000000001500000",
      attributes: [
        { key: "whole", value: { intValue: "3" } },
        { key: "part", value: { doubleValue: 0.5 } },
      ],
    });
  });

  it("leaves out what is undefined, cuts names of clients, and is JSON whatever a number is", () => {
    const odd = { missing: undefined, "autellix.program": "x".repeat(5_000), nothing: Number.NaN, much: 1e300 };
    expect(JSON.parse(spanText({ ...SPAN, name: "n".repeat(5_000), attributes: odd }))).toMatchObject({
      name: "n".repeat(SPAN_TEXT_MAX),
      attributes: [
        { key: "autellix.program", value: { stringValue: "x".repeat(SPAN_TEXT_MAX) } },
        { key: "nothing", value: { doubleValue: "NaN" } },
        { key: "much", value: { doubleValue: 1e300 } },
      ],
    });
  });

  it("never ends before it began: clocks of two processes may be a little apart", () => {
    const { startMs, endMs } = readSpanText(spanText({ ...SPAN, endMs: SPAN.startMs - 1 }));
    expect(endMs).toBe(startMs);
  });
});
