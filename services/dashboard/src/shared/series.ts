/** Curves over the last minutes: one sample a second, and the latencies of what ended lately. */
import type { ViewEnded, ViewProgram } from "@autellix/protocol/view";
import type { PoolModel } from "./pool-model.ts";

export const SAMPLE_MS = 1_000;
export const SAMPLES_MAX = 300;
/** Latencies are of what ended in this time, and of at most `ENDED_MAX`. */
export const ENDED_MS = 5 * 60_000;
export const ENDED_MAX = 2_000;

export interface Sample {
  atMs: number;
  waiting: number;
  running: number;
  parked: number;
  swapped: number;
  slots: number;
  endsPerSecond: number;
  /** Of calls that ended in the last `ENDED_MS`: arrival to end. ms; null: none ended */
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

/** What has ended: how long it took from its arrival, and how much of that was waiting. ms */
export interface Ended {
  atMs: number;
  totalMs: number;
  waitingMs: number;
}

export interface SeriesShot {
  samples: Sample[];
  calls: Ended[];
  programs: Ended[];
}

export interface Percentiles {
  count: number;
  p50: number;
  p95: number;
  p99: number;
  /** Σ waiting / Σ total. */
  waitingShare: number;
}

export class Series {
  readonly samples: Sample[];
  private calls: Ended[];
  private programs: Ended[];

  constructor({ samples, calls, programs }: SeriesShot) {
    this.samples = [...samples];
    this.calls = [...calls];
    this.programs = [...programs];
  }

  callEnded({ arrivedAtMs, endedAtMs, waitingMs }: Pick<ViewEnded, "arrivedAtMs" | "endedAtMs" | "waitingMs">): void {
    push(this.calls, { atMs: endedAtMs, totalMs: Math.max(0, endedAtMs - arrivedAtMs), waitingMs });
  }

  programEnded({ startedAtMs, lastAtMs, waitingMs }: ViewProgram, atMs: number): void {
    push(this.programs, { atMs, totalMs: Math.max(0, lastAtMs - startedAtMs), waitingMs });
  }

  /** Of calls, and of programs that were ended by their owners. Undefined: none ended lately. */
  callPercentiles(atMs: number): Percentiles | undefined {
    return percentiles(this.calls, atMs);
  }

  programPercentiles(atMs: number): Percentiles | undefined {
    return percentiles(this.programs, atMs);
  }

  /** Takes a sample when it is time for one. */
  sample(model: PoolModel, atMs: number): void {
    const last = this.samples.at(-1);
    if (last && atMs - last.atMs < SAMPLE_MS) return;
    const states = { waiting: 0, starting: 0, running: 0, parked: 0, swapped: 0, evicted: 0, ending: 0 };
    for (const { state } of model.calls.values()) states[state]++;
    const { p50 = null, p95 = null, p99 = null } = this.callPercentiles(atMs) ?? {};
    this.samples.push({
      atMs,
      waiting: states.waiting + states.starting + states.evicted,
      running: states.running,
      parked: states.parked,
      swapped: states.swapped,
      slots: model.slots,
      endsPerSecond: model.pool.endsPerSecond,
      p50,
      p95,
      p99,
    });
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
  }

  shot(): SeriesShot {
    return { samples: this.samples, calls: this.calls, programs: this.programs };
  }
}

function push(list: Ended[], ended: Ended): void {
  list.push(ended);
  if (list.length > ENDED_MAX) list.splice(0, list.length - Math.floor(ENDED_MAX * 0.9));
}

function percentiles(list: readonly Ended[], atMs: number): Percentiles | undefined {
  const recent = list.filter((ended) => ended.atMs >= atMs - ENDED_MS);
  if (recent.length === 0) return undefined;
  const times = Float64Array.from(recent, ({ totalMs }) => totalMs).sort();
  const at = (share: number) => times[Math.min(times.length - 1, Math.ceil(share * times.length) - 1)] ?? 0;
  let waiting = 0;
  let total = 0;
  for (const { waitingMs, totalMs } of recent) {
    waiting += Math.min(waitingMs, totalMs);
    total += totalMs;
  }
  const waitingShare = total > 0 ? waiting / total : 0;
  return { count: recent.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), waitingShare };
}
