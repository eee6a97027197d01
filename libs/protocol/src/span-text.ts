/**
 * Spans as OTLP's JSON has them (`opentelemetry-proto`, `Span`), written straight from our plain data: in a service that
 * ends a call every few milliseconds the general encoders cost more than all else of tracing (decision 0030).
 */
import { SPAN_TEXT_MAX, type SpanAttributes, type SpanContext, type SpanData, type SpanEvent } from "./spans.ts";

const INTERNAL = 1;
const SERVER = 2;
const ERROR_STATUS = 2;
const SAMPLED_FLAG = 1;

/** One span in OTLP's JSON. Names come from clients: each is cut to `SPAN_TEXT_MAX`. What is undefined is left out. */
export type SpanText = string;

/** Spans that are made when they are sent: with those of many calls, one after the other, for a third of the time. */
export type SpansLater = () => readonly SpanData[];
/** In any of its states on the way. */
export type SentSpan = SpanData | SpanText | SpansLater;

export function spanText(span: SpanData): SpanText {
  const { traceId, spanId, parentId, name, kind, startMs, endMs, attributes, events, links, error } = span;
  const parent = parentId === undefined ? "" : `,"parentSpanId":"${parentId}"`;
  // Clocks of two processes may be a little apart; a span never ends before it began.
  const untilMs = endMs < startMs ? startMs : endMs;
  return (
    `{"traceId":"${traceId}","spanId":"${spanId}"${parent},"flags":${SAMPLED_FLAG},"name":${quoted(name)}` +
    `,"kind":${kind === "server" ? SERVER : INTERNAL}` +
    `,"startTimeUnixNano":"${nanos(startMs)}","endTimeUnixNano":"${nanos(untilMs)}"` +
    `,"attributes":${attributesText(attributes)}` +
    (events === undefined || events.length === 0 ? "" : `,"events":[${events.map(eventText).join()}]`) +
    (links === undefined || links.length === 0 ? "" : `,"links":[${links.map(linkText).join()}]`) +
    (error === undefined ? "}" : `,"status":{"code":${ERROR_STATUS},"message":${quoted(error)}}}`)
  );
}

function eventText({ name, atMs, attributes }: SpanEvent): string {
  const shown = attributes === undefined ? "" : `,"attributes":${attributesText(attributes)}`;
  return `{"timeUnixNano":"${nanos(atMs)}","name":${quoted(name)}${shown}}`;
}

function linkText({ traceId, spanId }: SpanContext): string {
  return `{"traceId":"${traceId}","spanId":"${spanId}","flags":${SAMPLED_FLAG}}`;
}

function attributesText(attributes: SpanAttributes): string {
  let text = "";
  for (const name in attributes) {
    const value = attributes[name];
    if (value === undefined) continue;
    text += `${text === "" ? "" : ","}{"key":"${name}","value":{${valueText(value)}}}`;
  }
  return `[${text}]`;
}

function valueText(value: NonNullable<SpanAttributes[string]>): string {
  switch (typeof value) {
    case "string":
      return `"stringValue":${quoted(value)}`;
    case "number":
      if (Number.isSafeInteger(value)) return `"intValue":"${value}"`;
      // As protobuf's JSON has what is no number in JSON.
      return `"doubleValue":${Number.isFinite(value) ? value : `"${value}"`}`;
    case "boolean":
      return `"boolValue":${value}`;
    default:
      return `"arrayValue":{"values":[${value.map((text) => `{"stringValue":${quoted(text)}}`).join()}]}`;
  }
}

function quoted(text: string): string {
  return JSON.stringify(text.length > SPAN_TEXT_MAX ? text.slice(0, SPAN_TEXT_MAX) : text);
}

/** Whole microseconds: a double holds ms since 1970 no finer. */
function nanos(ms: number): string {
  return `${Math.round(ms * 1_000)}000`;
}
