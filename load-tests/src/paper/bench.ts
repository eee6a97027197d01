/**
 * What the pieces of the report ask for: runs, points, curves and knees. A run is played once, whoever asks for it,
 * and never again once it is stored.
 */
import { type Curve, findKnee, type Knee } from "./knee.ts";
import { isHopeless, type PointResult, pointOf } from "./point.ts";
import type { Executor } from "./pool.ts";
import { seedsOf } from "./protocols.ts";
import { keyOf, type PointSpec, type RunSpec } from "./spec.ts";
import type { RunStore } from "./store.ts";
import type { RunResult } from "./summary.ts";

export interface BenchProgress {
  /** Runs that were asked for so far; bisections ask for more as they go. */
  asked: number;
  done: number;
  /** Of the done ones, found in the store. */
  found: number;
  playedWallMs: number;
}

export interface BenchOptions {
  store: RunStore;
  executor: Executor;
  /** Hash of the configuration that all runs share. */
  frozen: string;
  /** Hash of the code that plays. */
  code: string;
  /** Play each run anew, whatever is stored. */
  fresh?: boolean;
  /** Seeds of a point, and programs, at least; the protocols' without them. */
  seedsMin?: number;
  programsMin?: number;
  onProgress?: (progress: BenchProgress) => void;
}

export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

interface Waiting {
  spec: RunSpec;
  key: string;
  done: (result: RunResult) => void;
  failed: (error: unknown) => void;
}

/** A curve ends where its mean is so many times the highest limit of latency: above it every system looks alike. */
const CURVE_ENDS_AT = 4;

export class Bench {
  readonly progress: BenchProgress = { asked: 0, done: 0, found: 0, playedWallMs: 0 };
  /** Runs by the code that played them: results of other code than today's must be seen to be such. */
  readonly runsByCode = new Map<string, number>();
  private readonly options: BenchOptions;
  private readonly memory = new Map<string, Promise<RunResult>>();
  private readonly waiting: Waiting[] = [];
  private playing = 0;
  private stopped = false;

  constructor(options: BenchOptions) {
    this.options = options;
  }

  run(spec: RunSpec): Promise<RunResult> {
    const key = keyOf(spec, this.options.frozen);
    const known = this.memory.get(key);
    if (known) return known;
    this.progress.asked++;
    const result = this.stored(key) ?? this.enqueue(spec, key);
    this.memory.set(key, result);
    return result;
  }

  async point(spec: PointSpec, seeds?: readonly number[]): Promise<PointResult> {
    const { seedsMin, programsMin } = this.options;
    let used = seeds ?? seedsOf(spec, seedsMin, programsMin);
    const [first] = used;
    if (spec.protocol.kind === "steady" && first !== undefined) {
      // Overload is what takes longest to play: one seed is enough to see it.
      const run = await this.run({ ...spec, seed: first });
      if (isHopeless(run, used.length)) used = [first];
    }
    const runs = await Promise.all(used.map((seed) => this.run({ ...spec, seed })));
    return pointOf(spec, used, runs);
  }

  /** From the lowest rate on, until the latency is far above every limit, or the point is unstable. */
  async curve(spec: Omit<PointSpec, "ratePerS">, rates: readonly number[], limitMax: number): Promise<PointResult[]> {
    const points: PointResult[] = [];
    for (const ratePerS of rates) {
      const point = await this.point({ ...spec, ratePerS });
      points.push(point);
      if (!point.stable || point.mean.mean > CURVE_ENDS_AT * limitMax) break;
    }
    return points;
  }

  /**
   * The highest rate with a mean of at most `limit` s/token, and the points that were looked at. Programs of a seed are
   * the same at every rate.
   */
  async knee(
    spec: Omit<PointSpec, "ratePerS">,
    { grid, limit, tolerance = KNEE_TOLERANCE }: { grid: readonly number[]; limit: number; tolerance?: number },
  ): Promise<{ knee: Knee; points: PointResult[] }> {
    const points: PointResult[] = [];
    const curve: Curve = async (ratePerS) => {
      const point = await this.point({ ...spec, ratePerS });
      points.push(point);
      return point.stable ? point.mean.mean : undefined;
    };
    return { knee: await findKnee(curve, { grid, limit, tolerance }), points };
  }

  /** What waits fails with `Interrupted`. What is under way is not stored unless it ends before its worker does. */
  stop(): void {
    this.stopped = true;
    for (const { failed } of this.waiting.splice(0)) failed(new Interrupted("interrupted"));
  }

  private stored(key: string): Promise<RunResult> | undefined {
    const stored = this.options.fresh ? undefined : this.options.store.get(key);
    if (!stored) return undefined;
    this.progress.found++;
    this.count(stored.code);
    return Promise.resolve(stored.result);
  }

  private enqueue(spec: RunSpec, key: string): Promise<RunResult> {
    return new Promise((done, failed) => {
      if (this.stopped) return failed(new Interrupted("interrupted"));
      this.waiting.push({ spec, key, done, failed });
      this.playNext();
    });
  }

  private playNext(): void {
    while (this.playing < this.options.executor.width) {
      const next = this.waiting.shift();
      if (!next) return;
      this.playing++;
      void this.play(next);
    }
  }

  private async play({ spec, key, done, failed }: Waiting): Promise<void> {
    try {
      const result = await this.options.executor.execute(spec);
      this.options.store.append({ key, code: this.options.code, spec, result });
      this.progress.playedWallMs += result.wallMs;
      this.count(this.options.code);
      done(result);
    } catch (error) {
      failed(error);
    }
    this.playing--;
    this.playNext();
  }

  private count(code: string): void {
    this.progress.done++;
    this.runsByCode.set(code, (this.runsByCode.get(code) ?? 0) + 1);
    this.options.onProgress?.(this.progress);
  }
}

/** Two per cent of the rate: finer than seeds agree. */
export const KNEE_TOLERANCE = 0.02;

/** `412 of 600 runs (80 found), about 12 min left`. @param width runs at once. */
export function progressLine({ asked, done, found, playedWallMs }: BenchProgress, width: number): string {
  const played = done - found;
  const leftMin = played === 0 ? undefined : ((asked - done) * (playedWallMs / played)) / width / 60_000;
  const left =
    leftMin === undefined
      ? ""
      : `, about ${leftMin < 1 ? "1 min or less" : `${Math.ceil(leftMin)} min`} left of what is asked for so far`;
  return `${done} of ${asked} runs (${found} found)${left}`;
}
