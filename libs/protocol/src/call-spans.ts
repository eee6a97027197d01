/**
 * What the span of a call and its time before an engine look like: agents send them with the call's end, the leader
 * for calls that end without an agent. Attributes follow OpenTelemetry's conventions for generative AI (`gen_ai.*`) and
 * the glossary (`autellix.*`).
 */
import type { ErrorCode } from "./errors.ts";
import type { Dispatch, TerminalStatus } from "./messages.ts";
import { callSpanIdOf, parseTraceparent, rootIdOf, type SpanData, spanIdBelow, traceIdOf } from "./spans.ts";
import type { CallAddress } from "./subjects.ts";
import type { Traced } from "./traced.ts";

/** Queues that a call is shown to have waited in, and attempts: the last ones. */
export const TRACED_WAITS_MAX = 8;
export const TRACED_ATTEMPTS_MAX = 8;
/** Programs that are named as having run while a call waited. */
export const TRACED_PROGRAMS_MAX = 4;

export interface TracedCall {
  address: CallAddress;
  program: string;
  thread?: string | undefined;
  /** The caller's `traceparent`: a link, since the call belongs to its program's trace. */
  trace?: string | undefined;
  traced: Traced;
}

/** Names the spans of one call: derived once, used for all of them. */
export interface CallSpanIds {
  traceId: string;
  rootId: string;
  callSpanId: string;
}

export function callSpanIds({ address, program }: Pick<TracedCall, "address" | "program">): CallSpanIds {
  const traceId = traceIdOf(address.tenant, program);
  return { traceId, rootId: rootIdOf(traceId), callSpanId: callSpanIdOf(traceId, address) };
}

export interface CallEnd {
  status: TerminalStatus;
  code: ErrorCode | undefined;
  endedAtMs: number;
  attempt: number;
  epoch: number;
  waitingMs: number;
  serviceMs: number;
}

/** From acceptance to the stored record. @param more what only its agent knows. */
export function callSpan(
  call: TracedCall,
  ids: CallSpanIds,
  end: CallEnd,
  more: Pick<Partial<SpanData>, "name" | "attributes" | "events"> = {},
): SpanData {
  const { address, program, thread, trace, traced } = call;
  const { arrivedAtMs, behind, idleFromMs, waits } = traced;
  const link = parseTraceparent(trace);
  return {
    traceId: ids.traceId,
    spanId: ids.callSpanId,
    parentId: ids.rootId,
    name: more.name ?? "chat",
    startMs: arrivedAtMs,
    endMs: end.endedAtMs,
    attributes: {
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "autellix",
      "gen_ai.conversation.id": program,
      "error.type": end.code,
      "autellix.tenant": address.tenant,
      "autellix.program": program,
      "autellix.thread": thread,
      "autellix.call": address.callId,
      "autellix.pool": address.pool,
      "autellix.status": end.status,
      "autellix.attempt": end.attempt,
      "autellix.epoch": end.epoch,
      "autellix.level": waits[0]?.level,
      "autellix.waiting_ms": rounded(end.waitingMs),
      "autellix.service_ms": rounded(end.serviceMs),
      "autellix.wait.reason": behind?.reason,
      "autellix.interrupt_ms": idleFromMs === undefined ? undefined : rounded(Math.max(0, arrivedAtMs - idleFromMs)),
      ...more.attributes,
    },
    ...(more.events ? { events: more.events } : {}),
    ...(link ? { links: [link] } : {}),
    ...(end.status === "completed" ? {} : { error: end.code ?? end.status }),
    shared: true,
  };
}

/** The queues that it waited in, one span each, until `untilMs`: its first step, or its end. */
export function queueSpans(traced: Traced, ids: CallSpanIds, untilMs: number): SpanData[] {
  const { waits, behind } = traced;
  return waits.map(({ level, fromMs }, index) => {
    const next = waits[index + 1];
    return {
      traceId: ids.traceId,
      spanId: spanIdBelow(ids.callSpanId, "queue", index),
      parentId: ids.callSpanId,
      name: `queue Q${level + 1}`,
      startMs: fromMs,
      endMs: next?.fromMs ?? untilMs,
      attributes: {
        "autellix.level": level,
        // What stands below is known of the last one only.
        ...(next === undefined && behind
          ? {
              "autellix.wait.reason": behind.reason,
              "autellix.wait.calls": behind.calls,
              "autellix.wait.programs": behind.programs,
            }
          : {}),
      },
    };
  });
}

/** Attempts that were lost with their engines, and the time until the next one began. */
export function attemptSpans(traced: Traced, ids: CallSpanIds, untilMs: number): SpanData[] {
  const attempts = traced.attempts ?? [];
  return attempts.flatMap(({ attempt, engine, cause, fromMs, lostAtMs }, index) => {
    const attributes = { "autellix.attempt": attempt, "autellix.engine": engine, "autellix.cause": cause };
    const common = { traceId: ids.traceId, parentId: ids.callSpanId, attributes };
    const lost: SpanData = {
      ...common,
      spanId: spanIdBelow(ids.callSpanId, "lost", attempt),
      name: "lost attempt",
      startMs: fromMs,
      endMs: lostAtMs,
      error: cause,
    };
    const failOver: SpanData = {
      ...common,
      spanId: spanIdBelow(ids.callSpanId, "fail-over", attempt),
      name: "fail-over",
      startMs: lostAtMs,
      endMs: attempts[index + 1]?.fromMs ?? untilMs,
    };
    return [lost, failOver];
  });
}

/** When the call left its first queue for an engine, as far as the leader knows. */
export function queuedUntilMs(traced: Traced, firstStepMs: number): number {
  return traced.attempts?.[0]?.fromMs ?? firstStepMs;
}

/** What a plan's `dispatch` says of a traced call. */
export function tracedCallOf(
  address: CallAddress,
  { program, thread, trace, traced }: Dispatch,
): TracedCall | undefined {
  return traced && { address, program, thread, trace, traced };
}

/** Three digits: microseconds are enough. */
export function rounded(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
