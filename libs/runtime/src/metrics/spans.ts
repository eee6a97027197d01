import type { SpanSink } from "../telemetry/sink.ts";
import type { Metrics } from "./metrics.ts";

/** What became of a service's spans. */
export function addSpanMetrics(metrics: Metrics, spans: SpanSink): void {
  metrics.counter("autellix_spans_total", "Spans of traces, by status (sent, dropped).", () => {
    const { sent, dropped } = spans.counts();
    return [
      { labels: { status: "sent" }, value: sent },
      { labels: { status: "dropped" }, value: dropped },
    ];
  });
}
