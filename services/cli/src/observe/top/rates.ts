/** What engines do per second, from their cumulative counters. */
import type { ViewEngine } from "@autellix/protocol";

/** A rate is a mean over at least this time. */
const SPAN_MS_MIN = 1_000;

export interface Rate {
  tokensPerSecond: number;
  /** Share of the time in which it computed a step. */
  busyShare: number;
}

interface Sample {
  atMs: number;
  incarnation: string;
  tokens: number;
  busyMs: number;
}

export class Rates {
  readonly #last = new Map<string, { sample: Sample; rate: Rate | undefined }>();

  of(engine: string): Rate | undefined {
    return this.#last.get(engine)?.rate;
  }

  /** @param atMs when the counters were seen. */
  see({ engine, incarnation, counters }: ViewEngine, atMs: number): void {
    const sample = { atMs, incarnation, tokens: counters.tokens, busyMs: counters.busyMs };
    const last = this.#last.get(engine);
    if (!last || last.sample.incarnation !== incarnation) {
      this.#last.set(engine, { sample, rate: undefined });
      return;
    }
    const spanMs = atMs - last.sample.atMs;
    if (spanMs < SPAN_MS_MIN) return;
    const rate = {
      tokensPerSecond: Math.max(0, ((sample.tokens - last.sample.tokens) * 1_000) / spanMs),
      busyShare: Math.max(0, Math.min(1, (sample.busyMs - last.sample.busyMs) / spanMs)),
    };
    this.#last.set(engine, { sample, rate });
  }

  /** Forgets engines that are gone. */
  keep(engines: ReadonlySet<string>): void {
    for (const engine of this.#last.keys()) if (!engines.has(engine)) this.#last.delete(engine);
  }
}
