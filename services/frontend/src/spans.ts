/** The span of an HTTP request that became a call: below the call, from its arrival to the last byte of the answer. */
import { callSpanIdOf, isSampled, type SpanData, spanIdBelow, traceIdOf } from "@autellix/protocol";
import type { SpanSink } from "@autellix/runtime";
import type { EndedFields, TraceFields } from "./events.ts";

const PATH = "/v1/chat/completions";

/** A request that the queue has not confirmed is no call: nobody would send the span that this one is below. */
export function sendRequestSpan(spans: SpanSink, frontend: string, fields: EndedFields, times: TraceFields): void {
  if (!times.accepted || !isSampled(fields.tenant, fields.program, spans.sample)) return;
  spans.send([() => [requestSpan(frontend, fields, times, performance.timeOrigin)]]);
}

/** @param originMs Unix time at which the clock of `times` began. */
export function requestSpan(
  frontend: string,
  fields: EndedFields,
  times: Pick<TraceFields, "arrivedMs" | "endedMs">,
  originMs: number,
): SpanData {
  const { tenant, program, pool, call: callId, ttftMs, status, code, stream } = fields;
  const traceId = traceIdOf(tenant, program);
  const parentId = callSpanIdOf(traceId, { pool, tenant, callId });
  const startMs = originMs + times.arrivedMs;
  return {
    traceId,
    spanId: spanIdBelow(parentId, "request", frontend),
    parentId,
    name: `POST ${PATH}`,
    kind: "server",
    startMs,
    endMs: originMs + times.endedMs,
    attributes: {
      "http.request.method": "POST",
      "http.route": PATH,
      "error.type": code,
      "autellix.frontend": frontend,
      "autellix.status": status,
      "autellix.stream": stream,
    },
    ...(ttftMs === undefined ? {} : { events: [{ name: "first byte", atMs: startMs + ttftMs }] }),
    ...(status === "completed" ? {} : { error: code ?? status }),
  };
}
