/** Garbage collections of this process: each stops the scheduler while it lasts. */
import { constants, PerformanceObserver } from "node:perf_hooks";

/** What issue "core" allows at 100,000 queued calls. */
export const PAUSE_MS_MAX = 20;

export interface Pauses {
  count: number;
  totalMs: number;
  maxMs: number;
  /** Longer than `PAUSE_MS_MAX`. */
  long: number;
  /** By kind: how many, and the longest. */
  kinds: Record<string, { count: number; maxMs: number; long: number }>;
}

const KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MAJOR]: "major",
  [constants.NODE_PERFORMANCE_GC_MINOR]: "minor",
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: "incremental",
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: "weak callbacks",
};

function kindOf(entry: object): string {
  const detail: unknown = "detail" in entry ? entry.detail : undefined;
  const kind = typeof detail === "object" && detail !== null && "kind" in detail ? Number(detail.kind) : Number.NaN;
  return KINDS[kind] ?? `kind ${kind}`;
}

/** Collects from its making on; collections are told when the event loop turns. */
export class PauseWatch {
  readonly #seen: { kind: string; startMs: number; ms: number }[] = [];
  readonly #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      this.#seen.push({ kind: kindOf(entry), startMs: entry.startTime, ms: entry.duration });
    }
  });

  constructor() {
    this.#observer.observe({ entryTypes: ["gc"] });
  }

  /** @returns the collections that began in this time (`performance.now()`). */
  between(fromMs: number, toMs: number): Pauses {
    const pauses: Pauses = { count: 0, totalMs: 0, maxMs: 0, long: 0, kinds: {} };
    for (const { kind, startMs, ms } of this.#seen) {
      if (startMs < fromMs || startMs > toMs) continue;
      const long = ms > PAUSE_MS_MAX ? 1 : 0;
      const ofKind = pauses.kinds[kind] ?? { count: 0, maxMs: 0, long: 0 };
      pauses.kinds[kind] = {
        count: ofKind.count + 1,
        maxMs: Math.max(ofKind.maxMs, ms),
        long: ofKind.long + long,
      };
      pauses.count++;
      pauses.totalMs += ms;
      pauses.maxMs = Math.max(pauses.maxMs, ms);
      pauses.long += long;
    }
    return pauses;
  }

  stop(): void {
    this.#observer.disconnect();
  }
}
