/**
 * Spans of calls that ended on an engine a moment ago. Its agent sends them; should it die before they are out, the
 * leader does: the same text, so that one which is sent twice is one.
 */
import type { CallKey, Report, SpanText } from "@autellix/protocol";

/** An agent's spans are out after so long: they are kept for one to two times that. */
const KEPT_MS_MIN = 8_000;
/** Per engine. */
const KEPT_CALLS_MAX = 10_000;

interface Kept {
  young: Map<CallKey, SpanText>;
  youngSince: number;
  /** Of the time before. Two that take turns: what is oldest in a map is found behind all that was deleted from it. */
  old: Map<CallKey, SpanText>;
}

export class UnsentSpans {
  private readonly engines = new Map<string, Kept>();

  reported({ engine, finished }: Report, at: number): void {
    let kept = this.engines.get(engine);
    if (kept === undefined) {
      kept = { young: new Map(), youngSince: at, old: new Map() };
      this.engines.set(engine, kept);
    }
    if (at - kept.youngSince > KEPT_MS_MIN || kept.young.size >= KEPT_CALLS_MAX / 2) {
      kept.old = kept.young;
      kept.young = new Map();
      kept.youngSince = at;
    }
    for (const { call, span } of finished) if (span !== undefined) kept.young.set(call, span);
  }

  take(engine: string): SpanText[] {
    const kept = this.engines.get(engine);
    this.engines.delete(engine);
    return kept ? [...new Map([...kept.old, ...kept.young]).values()] : [];
  }
}
