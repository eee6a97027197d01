/**
 * Spans of calls that ended on an engine a moment ago. Its agent sends them; should it die before they are out, the
 * leader does. They are equal to the byte, so that one which is sent twice is one.
 */
import type { CallKey, Report, SpanData } from "@autellix/protocol";

/** An agent's spans are out after so long. */
const KEPT_MS_MAX = 3_000;
/** Per engine. */
const KEPT_CALLS_MAX = 10_000;

export class UnsentSpans {
  private readonly engines = new Map<string, Map<CallKey, { span: SpanData; at: number }>>();

  reported({ engine, finished }: Report, at: number): void {
    const kept = this.engines.get(engine) ?? new Map<CallKey, { span: SpanData; at: number }>();
    // Ended calls are repeated until the agent knows that they were read.
    for (const { call, span } of finished) if (span && !kept.has(call)) kept.set(call, { span: span as SpanData, at });
    for (const [call, { at: readAt }] of kept) {
      if (at - readAt <= KEPT_MS_MAX && kept.size <= KEPT_CALLS_MAX) break;
      kept.delete(call);
    }
    if (kept.size > 0) this.engines.set(engine, kept);
    else this.engines.delete(engine);
  }

  take(engine: string): SpanData[] {
    const kept = this.engines.get(engine);
    this.engines.delete(engine);
    return [...(kept?.values() ?? [])].map(({ span }) => span);
  }
}
