/** Reads what `spanText` wrote, as a collector would. */
import type { SentSpan, SpanAttributes, SpanData, SpanText, SpanValue } from "../../src/index.ts";

interface Value {
  stringValue?: string;
  intValue?: string;
  doubleValue?: number;
  boolValue?: boolean;
  arrayValue?: { values: Value[] };
}

interface Attribute {
  key: string;
  value: Value;
}

interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Attribute[];
  events?: { timeUnixNano: string; name: string; attributes?: Attribute[] }[];
  links?: { traceId: string; spanId: string }[];
  status?: { code: number; message: string };
}

export function readSpanText(text: SpanText): SpanData {
  const span = JSON.parse(text) as OtlpSpan;
  const { traceId, spanId, parentSpanId, name, kind, events, links, status } = span;
  return {
    ...{ traceId, spanId, name },
    ...(parentSpanId === undefined ? {} : { parentId: parentSpanId }),
    ...(kind === 2 ? { kind: "server" } : {}),
    startMs: msOf(span.startTimeUnixNano),
    endMs: msOf(span.endTimeUnixNano),
    attributes: attributesOf(span.attributes),
    ...(events === undefined
      ? {}
      : {
          events: events.map(({ timeUnixNano, name, attributes }) => ({
            ...{ name, atMs: msOf(timeUnixNano) },
            ...(attributes === undefined ? {} : { attributes: attributesOf(attributes) }),
          })),
        }),
    ...(links === undefined ? {} : { links: links.map(({ traceId, spanId }) => ({ traceId, spanId })) }),
    ...(status === undefined ? {} : { error: status.message }),
  };
}

/** Of an effect `sendSpans`: a text is a shared span's. */
export function readSpan(span: SpanData | SpanText): SpanData {
  return typeof span === "string" ? { ...readSpanText(span), shared: true } : span;
}

const msOf = (nanos: string) => Number(nanos) / 1e6;

function attributesOf(attributes: readonly Attribute[]): SpanAttributes {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, attributeValue(value)]));
}

function attributeValue({ stringValue, intValue, doubleValue, boolValue, arrayValue }: Value): SpanValue {
  if (stringValue !== undefined) return stringValue;
  if (intValue !== undefined) return Number(intValue);
  if (doubleValue !== undefined) return doubleValue;
  if (boolValue !== undefined) return boolValue;
  return (arrayValue?.values ?? []).map(({ stringValue = "" }) => stringValue);
}

/** As a sink makes what is left for later. */
export function made(span: SentSpan): readonly (SpanData | SpanText)[] {
  return typeof span === "function" ? span() : [span];
}
