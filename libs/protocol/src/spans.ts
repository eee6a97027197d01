/**
 * Spans of a program's trace: plain data, with ids that everybody derives and nobody hands around. The trace's id is a
 * hash of tenant and program, a call's span id one of it and the call's address, and the ids below it are numbered: so
 * a frontend, a leader and any agent name the same parent without having talked, and a repeated span is the same again.
 *
 * No prompt or completion text in a span (S12).
 */
import { hash } from "node:crypto";
import type { CallAddress } from "./subjects.ts";

/** `service.name` of spans that more than one process may send: they must be equal to the byte. */
export const SPANS_SERVICE = "autellix";
/** Characters of one attribute. */
export const SPAN_TEXT_MAX = 256;
/** Spans of one holding of a call by one agent. */
export const SPANS_PER_HOLDING_MAX = 128;

const TRACE_ID_DIGITS = 32;
const SPAN_ID_DIGITS = 16;
/** Digits of the trace id that sampling looks at: 52 bits, which a number holds exactly. */
const SAMPLE_DIGITS = 13;

export type SpanValue = string | number | boolean | readonly string[];
export type SpanAttributes = Readonly<Record<string, SpanValue | undefined>>;

export interface SpanEvent {
  name: string;
  /** Unix time. */
  atMs: number;
  attributes?: SpanAttributes;
}

export interface SpanContext {
  traceId: string;
  spanId: string;
}

export interface SpanData extends SpanContext {
  parentId?: string;
  name: string;
  /** `server`: it answers a client. Default: a step of our own. */
  kind?: "server";
  /** Unix times with fractions. */
  startMs: number;
  endMs: number;
  attributes: SpanAttributes;
  events?: readonly SpanEvent[];
  links?: readonly SpanContext[];
  /** Why it failed, in a constant sentence. */
  error?: string;
  /** Whoever sends it sends the same: it names no process. */
  shared?: true;
}

/** Of a program, whatever the number of pools, frontends and agents. */
export function traceIdOf(tenant: string, program: string): string {
  // Names are free text: a separator that none of them can hold keeps ("a", "bc") and ("ab", "c") apart.
  return hash("sha256", `autellix\ntrace\n${tenant}\n${program}`, "hex").slice(0, TRACE_ID_DIGITS);
}

/** Of the program's own span, the root. */
export function rootIdOf(traceId: string): string {
  return spanIdBelow(traceId, "program");
}

export function callSpanIdOf(traceId: string, { pool, callId }: CallAddress): string {
  return spanIdBelow(traceId, "call", pool, callId);
}

/**
 * Below a call or a program: `kind` and numbers tell spans of one parent apart. Two lanes of FNV-1a with MurmurHash3's
 * last mixing: a call has half a dozen of these ids, and SHA-256 was a tenth of what its spans cost.
 */
export function spanIdBelow(parentId: string, kind: string, ...numbers: (number | string)[]): string {
  const text = numbers.length === 0 ? `${parentId}\n${kind}` : `${parentId}\n${kind}\n${numbers.join("\n")}`;
  let high = 0x811c9dc5;
  let low = 0x9747b28c;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    high = Math.imul(high ^ unit, 0x01000193);
    low = Math.imul(low ^ unit, 0x85ebca6b);
    low ^= low >>> 13;
  }
  return lane(high ^ Math.imul(low, 0xc2b2ae35)) + lane(low);
}

/** Eight hex digits of a lane, mixed. */
function lane(bits: number): string {
  let mixed = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0).toString(16).padStart(SPAN_ID_DIGITS / 2, "0");
}

/**
 * Whether a program is traced, by its trace's id alone: all processes agree, and what is sampled at a low ratio is at a
 * higher one.
 *
 * @param ratio 0 … 1
 */
export function isSampled(tenant: string, program: string, ratio: number): boolean {
  if (ratio >= 1) return true;
  if (ratio <= 0) return false;
  return Number.parseInt(traceIdOf(tenant, program).slice(-SAMPLE_DIGITS), 16) < ratio * 16 ** SAMPLE_DIGITS;
}

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?$/;

/** A client's span, from its `traceparent`. @returns undefined when it is none. */
export function parseTraceparent(text: string | undefined): SpanContext | undefined {
  const [, traceId, spanId] = TRACEPARENT.exec(text ?? "") ?? [];
  if (text?.startsWith("ff") || !traceId || !spanId || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId };
}

/** The program, at first sight: everything else of its trace is below it. Equal whoever sends it. */
export function rootSpan(
  tenant: string,
  program: string,
  startedAtMs: number,
  traceId = traceIdOf(tenant, program),
): SpanData {
  return {
    traceId,
    spanId: rootIdOf(traceId),
    name: "program",
    startMs: startedAtMs,
    endMs: startedAtMs,
    attributes: { "autellix.tenant": tenant, "autellix.program": program, "gen_ai.conversation.id": program },
    shared: true,
  };
}
