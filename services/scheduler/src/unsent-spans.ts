/**
 * Spans of calls that ended on an engine a moment ago. Its agent sends them; should it die before they are out, the
 * leader does: the same text, so that one which is sent twice is one.
 */
import type { CallKey, Report, SpanText } from "@autellix/protocol";

/** An agent's spans are out after so long. */
const KEPT_MS_MAX = 8_000;
/** Per engine. */
const KEPT_CALLS_MAX = 10_000;

export class UnsentSpans {
  private readonly engines = new Map<string, Map<CallKey, { span: SpanText; at: number }>>();

  reported({ engine, finished }: Report, at: number): void {
    const kept = this.engines.get(engine) ?? new Map<CallKey, { span: SpanText; at: number }>();
    for (const { call, span } of finished) if (span !== undefined) kept.set(call, { span, at });
    for (const [call, { at: readAt }] of kept) {
      if (at - readAt <= KEPT_MS_MAX && kept.size <= KEPT_CALLS_MAX) break;
      kept.delete(call);
    }
    if (kept.size > 0) this.engines.set(engine, kept);
    else this.engines.delete(engine);
  }

  take(engine: string): SpanText[] {
    const kept = this.engines.get(engine);
    this.engines.delete(engine);
    return [...(kept?.values() ?? [])].map(({ span }) => span);
  }
}
