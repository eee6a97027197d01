/**
 * Spans of a program's trace: plain data, with ids that everybody derives and nobody hands around. The trace's id is a
 * hash of tenant and program, a call's span id one of its address, and the ids below it are numbered: so a frontend, a
 * leader and any agent name the same parent without having talked, and a repeated span is the same span again.
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
  return derived(TRACE_ID_DIGITS, "trace", tenant, program);
}

/** Of the program's own span, the root. */
export function rootIdOf(tenant: string, program: string): string {
  return derived(SPAN_ID_DIGITS, "program", tenant, program);
}

export function callSpanIdOf({ pool, tenant, callId }: CallAddress): string {
  return derived(SPAN_ID_DIGITS, "call", pool, tenant, callId);
}

/** Below a call or a program: `kind` and numbers tell spans of one parent apart. */
export function spanIdBelow(parentId: string, kind: string, ...numbers: (number | string)[]): string {
  return derived(SPAN_ID_DIGITS, kind, parentId, ...numbers.map(String));
}

/**
 * Whether a trace is sampled, by its id alone: all processes agree, and what is sampled at a low ratio is at a higher one.
 *
 * @param ratio 0 … 1
 */
export function isSampled(traceId: string, ratio: number): boolean {
  if (ratio >= 1) return true;
  if (ratio <= 0) return false;
  return Number.parseInt(traceId.slice(-SAMPLE_DIGITS), 16) < ratio * 16 ** SAMPLE_DIGITS;
}

/** Names are free text: a separator that none of them can hold keeps ("a", "bc") and ("ab", "c") apart. */
function derived(digits: number, ...parts: string[]): string {
  return hash("sha256", `autellix\n${parts.join("\n")}`, "hex").slice(0, digits);
}

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?$/;

/** A client's span, from its `traceparent`. @returns undefined when it is none. */
export function parseTraceparent(text: string | undefined): SpanContext | undefined {
  const [, traceId, spanId] = TRACEPARENT.exec(text ?? "") ?? [];
  if (text?.startsWith("ff") || !traceId || !spanId || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId };
}

/** The program, at first sight: everything else of its trace is below it. Equal whoever sends it. */
export function rootSpan(tenant: string, program: string, startedAtMs: number): SpanData {
  return {
    traceId: traceIdOf(tenant, program),
    spanId: rootIdOf(tenant, program),
    name: "program",
    startMs: startedAtMs,
    endMs: startedAtMs,
    attributes: { "autellix.tenant": tenant, "autellix.program": program, "gen_ai.conversation.id": program },
    shared: true,
  };
}
