/**
 * A timeline as spans: the call and all below it, or only what happened on this engine when the call goes on elsewhere.
 *
 *   program ─► call ─► queue Qn · stay ─► prefill, decode · parked Qn ─► swap out, swap in · store · lost attempt, fail-over
 *         └──► execute_tool <name>: the gap before the call, when its messages bring a tool's answer
 */
import {
  attemptSpans,
  type CallEnd,
  type CallSpanIds,
  callSpan,
  callSpanIds,
  type ErrorCode,
  type FinishReason,
  queuedUntilMs,
  queueSpans,
  rounded,
  type SpanAttributes,
  type SpanData,
  type SpanEvent,
  spanIdBelow,
  type TerminalStatus,
  type TracedCall,
  tracedCallOf,
} from "@autellix/protocol";
import type { HeldCall } from "./held-call.ts";
import type { Stay, Timeline } from "./timeline.ts";

/** Storing the record is shown when it took longer, or more than a hundredth of the call. */
const STORE_MS_MIN = 1;
const STORE_SHARE_MIN = 0.01;

export interface SpanPlace {
  engine: string;
  /** Name of the engine's model. */
  model: string | undefined;
  /** Own clock − the leader's. */
  offsetMs: number;
}

export interface HoldingEnd {
  status: TerminalStatus;
  code: ErrorCode | undefined;
  finish: FinishReason | undefined;
  /** When the record was stored, on the own clock. */
  storedAtMs: number;
  epoch: number;
  waitingMs: number;
}

/** All that the spans of an ended call are made of. */
export interface EndedCall {
  traced: TracedCall;
  ids: CallSpanIds;
  call: HeldCall;
  timeline: Timeline;
  end: HoldingEnd;
  place: SpanPlace;
}

/** The call's own span. */
export function endedSpan({ traced, ids, call, timeline, end, place }: EndedCall): SpanData {
  const { status, code, epoch, waitingMs } = end;
  const whole: CallEnd = {
    ...{ status, code, epoch, waitingMs },
    endedAtMs: end.storedAtMs - place.offsetMs,
    attempt: call.attempt,
    serviceMs: call.dispatch.servedMs + call.serviceMs,
  };
  return callSpan(traced, ids, whole, {
    name: call.model === undefined ? "chat" : `chat ${call.model}`,
    attributes: { ...timeline.request, ...answerAttributes(call, timeline, end, place) },
    events: callEvents(timeline, place),
  });
}

/** Everything below it, parents first. */
export function spansBelow({ traced, ids, call, timeline, end, place }: EndedCall): SpanData[] {
  const endedAtMs = end.storedAtMs - place.offsetMs;
  const firstStepMs = (timeline.stays[0]?.fromMs ?? timeline.generatedAtMs ?? end.storedAtMs) - place.offsetMs;
  return [
    ...queueSpans(traced.traced, ids, queuedUntilMs(traced.traced, firstStepMs)),
    ...attemptSpans(traced.traced, ids, firstStepMs),
    ...stayingSpans(call, timeline, ids, place, end.storedAtMs),
    ...storeSpan(timeline, ids, place, end.storedAtMs, endedAtMs - traced.traced.arrivedAtMs),
    ...toolSpans(traced, timeline, ids),
  ];
}

/** What happened here to a call that goes on elsewhere; its own span comes from there. */
export function leftSpans(call: HeldCall, timeline: Timeline, atMs: number, place: SpanPlace): SpanData[] {
  const traced = tracedCallOf(call.address, call.dispatch);
  return traced ? stayingSpans(call, timeline, callSpanIds(traced), place, atMs) : [];
}

function answerAttributes(call: HeldCall, timeline: Timeline, end: HoldingEnd, place: SpanPlace): SpanAttributes {
  const { stays, swaps, swapsOmitted } = timeline;
  const preemptions = stays.reduce((sum, { merged }) => sum + merged, Math.max(0, stays.length - 1));
  return {
    "gen_ai.request.model": call.model,
    "gen_ai.response.model": place.model,
    "gen_ai.response.id": `chatcmpl-${call.address.callId}`,
    "gen_ai.response.finish_reasons": end.finish === undefined ? undefined : [end.finish],
    "gen_ai.usage.input_tokens": call.promptTokens > 0 ? call.promptTokens : undefined,
    "gen_ai.usage.output_tokens": call.promptTokens > 0 ? call.completionTokens : undefined,
    "gen_ai.usage.cache_read.input_tokens": call.cachedTokens > 0 ? call.cachedTokens : undefined,
    "autellix.engine": place.engine,
    "autellix.preemptions": preemptions,
    "autellix.swaps": swaps.length + swapsOmitted,
    "autellix.tools": timeline.tools.length > 0 ? timeline.tools : undefined,
  };
}

function callEvents(timeline: Timeline, { offsetMs }: SpanPlace): SpanEvent[] {
  const { openedAtMs, firstTokenAtMs, epochs } = timeline;
  return [
    ...(openedAtMs === undefined ? [] : [{ name: "tokens counted", atMs: openedAtMs - offsetMs }]),
    ...(firstTokenAtMs === undefined ? [] : [{ name: "first token", atMs: firstTokenAtMs - offsetMs }]),
    ...epochs.map(({ epoch, atMs }) => ({
      name: "take-over",
      atMs: atMs - offsetMs,
      attributes: { "autellix.epoch": epoch },
    })),
  ];
}

/** Stays, what is below them, and the times between them. */
function stayingSpans(
  call: HeldCall,
  timeline: Timeline,
  ids: CallSpanIds,
  place: SpanPlace,
  endMs: number,
): SpanData[] {
  const { stays } = timeline;
  const spans: SpanData[] = [];
  for (const [index, stay] of stays.entries()) {
    const toMs = stay.toMs ?? endMs;
    spans.push(...staySpans(call, timeline, index, stay, toMs, ids, place));
    const next = stays[index + 1];
    const idleToMs = next?.fromMs ?? timeline.generatedAtMs ?? endMs;
    if (next || idleToMs > toMs) spans.push(...parkedSpans(call, timeline, index, toMs, idleToMs, ids, place));
  }
  return spans;
}

function staySpans(
  call: HeldCall,
  timeline: Timeline,
  index: number,
  stay: Stay,
  toMs: number,
  ids: CallSpanIds,
  { engine, offsetMs }: SpanPlace,
): SpanData[] {
  const { traceId, callSpanId } = ids;
  const spanId = spanIdBelow(callSpanId, "stay", engine, call.attempt, index);
  const tokens = stay.tokensTo - stay.tokensFrom;
  const span: SpanData = {
    ...{ traceId, spanId, parentId: callSpanId, name: "stay" },
    startMs: stay.fromMs - offsetMs,
    endMs: toMs - offsetMs,
    attributes: {
      "autellix.engine": engine,
      "autellix.attempt": call.attempt,
      "autellix.level": stay.level,
      "autellix.steps": stay.steps,
      "autellix.service_ms": rounded(stay.serviceMs),
      "autellix.completion_tokens": tokens,
      "autellix.batch_calls_max": stay.batchCallsMax,
      "autellix.stays_merged": stay.merged > 0 ? stay.merged : undefined,
    },
    events: stay.windows.map(({ atMs, steps, serviceMs, completionTokens, batchCalls }) => ({
      name: "window",
      atMs: atMs - offsetMs,
      attributes: {
        "autellix.steps": steps,
        "autellix.service_ms": rounded(serviceMs),
        "autellix.completion_tokens": completionTokens,
        "autellix.batch_calls": batchCalls,
      },
    })),
  };
  const boundaryMs = stay.prefilledToMs ?? firstTokenWithin(timeline, stay.fromMs, toMs);
  if (boundaryMs === undefined) return [span];
  const part = (name: string, fromMs: number, untilMs: number, attributes: SpanAttributes): SpanData => ({
    ...{ traceId, spanId: spanIdBelow(spanId, name), parentId: spanId, name },
    startMs: fromMs - offsetMs,
    endMs: untilMs - offsetMs,
    attributes,
  });
  const prefill = part(stay.recomputes ? "recompute" : "prefill", stay.fromMs, boundaryMs, {
    "autellix.prompt_tokens": stay.prefilledTokens,
    "autellix.cached_tokens": index === 0 ? call.cachedTokens : undefined,
  });
  if (tokens === 0 || toMs <= boundaryMs) return [span, prefill];
  return [span, prefill, part("decode", boundaryMs, toMs, { "autellix.completion_tokens": tokens })];
}

/** Servers do not say what they evaluate: there the first token ends the prefill of the stay that it came in. */
function firstTokenWithin({ firstTokenAtMs }: Timeline, fromMs: number, toMs: number): number | undefined {
  if (firstTokenAtMs === undefined || firstTokenAtMs < fromMs || firstTokenAtMs > toMs) return undefined;
  return firstTokenAtMs;
}

/** Out of the batch: why, in which queue, and what its context did meanwhile. */
function parkedSpans(
  call: HeldCall,
  timeline: Timeline,
  index: number,
  fromMs: number,
  toMs: number,
  ids: CallSpanIds,
  { engine, offsetMs }: SpanPlace,
): SpanData[] {
  const { traceId, callSpanId } = ids;
  const spanId = spanIdBelow(callSpanId, "parked", engine, call.attempt, index);
  const level = timeline.stays[index + 1]?.level ?? timeline.level;
  const parked: SpanData = {
    ...{ traceId, spanId, parentId: callSpanId },
    name: level === undefined ? "parked" : `parked Q${level + 1}`,
    startMs: fromMs - offsetMs,
    endMs: toMs - offsetMs,
    attributes: { "autellix.engine": engine, "autellix.attempt": call.attempt, "autellix.level": level },
  };
  const swaps = timeline.swaps.flatMap((swap, number): SpanData[] => {
    if (swap.stay !== index) return [];
    return [
      {
        ...{ traceId, spanId: spanIdBelow(spanId, "swap", number), parentId: spanId, name: `swap ${swap.way}` },
        startMs: swap.fromMs - offsetMs,
        endMs: swap.toMs - offsetMs,
        attributes: { "autellix.swap.bytes": swap.bytes, "autellix.swap.tokens": swap.tokens },
      },
    ];
  });
  return [parked, ...swaps];
}

function storeSpan(
  { generatedAtMs }: Timeline,
  { traceId, callSpanId }: CallSpanIds,
  { offsetMs, engine }: SpanPlace,
  storedAtMs: number,
  callMs: number,
): SpanData[] {
  if (generatedAtMs === undefined) return [];
  const tookMs = storedAtMs - generatedAtMs;
  if (tookMs < STORE_MS_MIN && tookMs < STORE_SHARE_MIN * callMs) return [];
  return [
    {
      ...{ traceId, spanId: spanIdBelow(callSpanId, "store"), parentId: callSpanId, name: "store" },
      startMs: generatedAtMs - offsetMs,
      endMs: storedAtMs - offsetMs,
      attributes: { "autellix.engine": engine },
    },
  ];
}

/** What ran between the program's last call and this one, by its name. */
function toolSpans({ traced, program }: TracedCall, { tools }: Timeline, ids: CallSpanIds): SpanData[] {
  const { idleFromMs, arrivedAtMs } = traced;
  if (idleFromMs === undefined || idleFromMs >= arrivedAtMs) return [];
  return tools.map((name, index) => ({
    traceId: ids.traceId,
    spanId: spanIdBelow(ids.callSpanId, "tool", index),
    parentId: ids.rootId,
    name: `execute_tool ${name}`,
    startMs: idleFromMs,
    endMs: arrivedAtMs,
    attributes: {
      "gen_ai.operation.name": "execute_tool",
      "gen_ai.tool.name": name,
      "gen_ai.conversation.id": program,
    },
  }));
}
