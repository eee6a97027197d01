/** What the leader tells everybody four times a second: depth and rate for back-pressure, engines for the eye. */
import type { Scheduler } from "@autellix/core";
import type { Counters, EngineInfo, EngineState, KvUse, Report, Status } from "@autellix/protocol";
import type { MachineConfig } from "./events.ts";

/** The rate of ends is a mean over this time. */
const RATE_WINDOW_MS = 10_000;
const RATE_SAMPLES_MAX = 64;
const NO_COUNTERS: Counters = { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 };

export class StatusDesk {
  private readonly config: MachineConfig;
  private readonly epoch: number;
  private readonly heardLast = new Map<string, { counters: Counters; kv?: KvUse }>();
  private samples: { at: number; ends: number }[] = [];
  private ends = 0;
  private reason: string | undefined;
  /** What was said last. */
  last: Status | undefined;

  constructor(config: MachineConfig, epoch: number) {
    this.config = config;
    this.epoch = epoch;
  }

  heard(report: Report): void {
    const { engine, counters, kv } = report;
    this.heardLast.set(engine, { counters, ...(kv ? { kv } : {}) });
  }

  forget(engine: string): void {
    this.heardLast.delete(engine);
  }

  ended(): void {
    this.ends++;
  }

  /** Since this leader began. */
  get endedCalls(): number {
    return this.ends;
  }

  get isDispatching(): boolean {
    return this.reason === undefined;
  }

  /** Why nothing new is dispatched. @returns whether it changed. */
  setReason(reason: string | undefined): boolean {
    const changed = reason !== this.reason;
    this.reason = reason;
    return changed;
  }

  view(
    core: Scheduler,
    infos: ReadonlyMap<string, EngineInfo>,
    state: (engine: string) => EngineState,
    at: number,
  ): Status {
    const { queued, running } = core.counts();
    const reason = this.reason ?? (infos.size === 0 ? "no engine" : undefined);
    this.last = {
      pool: this.config.pool,
      epoch: this.epoch,
      policy: this.config.policy,
      models: [...new Set([...infos.values()].flatMap((info) => info.models))],
      queuedCalls: queued,
      runningCalls: running,
      queuedCallsMax: this.config.queuedCallsMax,
      engines: core.engineCounts().map(({ engine, running: runningCalls, held: heldCalls }) => ({
        engine,
        state: state(engine),
        runningCalls,
        heldCalls,
        ...(this.heardLast.get(engine) ?? { counters: NO_COUNTERS }),
      })),
      endsPerSecond: this.rate(at),
      dispatching: reason === undefined,
      ...(reason === undefined ? {} : { reason }),
    };
    return this.last;
  }

  private rate(at: number): number {
    this.samples.push({ at, ends: this.ends });
    this.samples = this.samples.filter((s) => at - s.at <= RATE_WINDOW_MS).slice(-RATE_SAMPLES_MAX);
    const first = this.samples[0];
    return first && at > first.at ? ((this.ends - first.ends) * 1000) / (at - first.at) : 0;
  }
}
