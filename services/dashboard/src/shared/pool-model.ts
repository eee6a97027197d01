/**
 * What the dashboard knows of one pool: the tables of the feed (`@autellix/protocol/view`) and what is derived from
 * their changes. The service keeps one for each pool; a browser begins with the service's (`snapshot`) and applies the
 * same changes to its own; a replay applies recorded ones. So a page shows the same, whoever fed it.
 *
 * Synchronous, without a clock: changes bring their time. Every table is bounded (`…Max`).
 */
import type { ViewCall, ViewChanges, ViewEnded, ViewEngine, ViewPool, ViewProgram } from "@autellix/protocol/view";
import { Colours, type ColoursShot } from "./colours.ts";
import { Happenings, type HappeningsShot } from "./happenings.ts";
import { Series, type SeriesShot } from "./series.ts";
import { Timeline, type TimelineShot } from "./timeline.ts";

/** Of one pool. A scheduler forgets programs that have been idle for an hour, so more is an unusual load. */
export const PROGRAMS_MAX = 20_000;
/** Twice what a pool holds by default before it refuses calls. */
export const CALLS_MAX = 20_000;
export const ENGINES_MAX = 1_000;
/** Programs without a call go first, a tenth at a time. */
const FORGOTTEN_SHARE = 0.1;

/** Without `number`: gaps are the watch's business. */
export type PoolChanges = Pick<ViewChanges, "atMs" | "programs" | "calls" | "engines" | "ended" | "gone"> & {
  pool?: ViewPool | undefined;
};

/** All of a model, as plain data. */
export interface PoolShot {
  pool: ViewPool;
  atMs: number;
  /** What was before is not known. */
  seenSinceMs: number;
  programs: ViewProgram[];
  calls: ViewCall[];
  engines: ViewEngine[];
  /** Of calls that have changed their level since they came. */
  enteredMs: [call: string, atMs: number][];
  timeline: TimelineShot;
  series: SeriesShot;
  happenings: HappeningsShot;
  colours: ColoursShot;
}

/** Hears what a change means, beside the model's own parts. */
export interface ModelListener {
  callChanged(call: ViewCall, programKey: string, atMs: number): void;
  /** Also of a call that no change has named. */
  callEnded(ended: ViewEnded, programKey: string): void;
  /** It ended, and nobody said how. */
  callGone(call: ViewCall, programKey: string, atMs: number): void;
  programGone(programKey: string): void;
}

export class PoolModel {
  pool: ViewPool;
  atMs: number;
  readonly seenSinceMs: number;
  readonly programs = new Map<string, ViewProgram>();
  readonly calls = new Map<string, ViewCall>();
  readonly engines = new Map<string, ViewEngine>();
  /** When a waiting call entered its level: calls of one level are served in this order. */
  readonly enteredMs = new Map<string, number>();
  readonly timeline: Timeline;
  readonly series: Series;
  readonly happenings: Happenings;
  readonly colours: Colours;
  /** Rises with each change of the tables. */
  version = 0;
  private readonly listener: ModelListener | undefined;

  constructor(shot: PoolShot, listener?: ModelListener) {
    this.listener = listener;
    this.pool = shot.pool;
    this.atMs = shot.atMs;
    this.seenSinceMs = shot.seenSinceMs;
    this.timeline = new Timeline(shot.timeline);
    this.series = new Series(shot.series);
    this.happenings = new Happenings(shot.happenings);
    this.colours = new Colours(shot.colours);
    for (const program of shot.programs) this.programs.set(`${program.tenant}/${program.program}`, program);
    for (const call of shot.calls) {
      this.calls.set(call.call, call);
      this.enteredMs.set(call.call, call.arrivedAtMs);
      this.colours.callCame(programKeyOf(call));
    }
    for (const [call, atMs] of shot.enteredMs) this.enteredMs.set(call, atMs);
    for (const engine of shot.engines) this.engines.set(engine.engine, engine);
  }

  /** What a change names replaces what was known under the same id. */
  apply(changes: PoolChanges): void {
    const { atMs, gone } = changes;
    this.version++;
    this.atMs = Math.max(this.atMs, atMs);
    if (changes.pool) this.poolChanged(changes.pool, atMs);
    for (const program of changes.programs) this.programChanged(program, atMs);
    for (const ended of changes.ended ?? []) this.callEnded(ended, atMs);
    for (const call of changes.calls) this.callChanged(call, atMs);
    for (const call of gone.calls) this.callGone(call, atMs);
    for (const engine of changes.engines) this.engineChanged(engine, atMs);
    for (const engine of gone.engines) this.engineGone(engine, atMs);
    for (const { tenant, program } of gone.programs) this.programGone(`${tenant}/${program}`);
    if (this.programs.size > PROGRAMS_MAX) this.forgetIdle();
    this.series.sample(this, atMs);
  }

  snapshot(): PoolShot {
    return {
      pool: this.pool,
      atMs: this.atMs,
      seenSinceMs: this.seenSinceMs,
      programs: [...this.programs.values()],
      calls: [...this.calls.values()],
      engines: [...this.engines.values()],
      enteredMs: [...this.enteredMs].filter(([call, at]) => at !== this.calls.get(call)?.arrivedAtMs),
      timeline: this.timeline.shot(),
      series: this.series.shot(),
      happenings: this.happenings.shot(),
      colours: this.colours.shot(),
    };
  }

  /** Calls that all engines together compute at once. */
  get slots(): number {
    let slots = 0;
    for (const { info } of this.engines.values()) slots += info.batchCallsMax;
    return slots;
  }

  private poolChanged(pool: ViewPool, atMs: number): void {
    if (pool.epoch !== this.pool.epoch) this.happenings.add({ atMs, kind: "leader" });
    this.pool = pool;
  }

  private programChanged(program: ViewProgram, atMs: number): void {
    const key = `${program.tenant}/${program.program}`;
    const before = this.programs.get(key);
    this.programs.set(key, program);
    if (program.state === "ended" && before?.state === "open") this.series.programEnded(program, atMs);
  }

  private callChanged(call: ViewCall, atMs: number): void {
    const before = this.calls.get(call.call);
    if (!before && this.calls.size >= CALLS_MAX) return;
    const key = programKeyOf(call);
    this.calls.set(call.call, call);
    if (before?.level !== call.level) this.enteredMs.set(call.call, before ? atMs : call.arrivedAtMs);
    if (!before) this.colours.callCame(key);
    this.happenings.compare(before, call, key, atMs);
    this.listener?.callChanged(call, key, atMs);
  }

  /** By the call's own facts: changes are gathered, so when it was seen says less, and it may never have been. */
  private callEnded(ended: ViewEnded, atMs: number): void {
    this.takeCall(ended.call, atMs);
    this.series.callEnded(ended);
    this.listener?.callEnded(ended, programKeyOf(ended));
  }

  /** What had no facts before it was gone: of an older leader, or while changes were missed. */
  private callGone(id: string, atMs: number): void {
    const call = this.takeCall(id, atMs);
    if (!call) return;
    this.series.callEnded({ ...call, endedAtMs: atMs });
    this.listener?.callGone(call, programKeyOf(call), atMs);
  }

  private takeCall(id: string, atMs: number): ViewCall | undefined {
    const call = this.calls.get(id);
    if (!call) return undefined;
    this.calls.delete(id);
    this.enteredMs.delete(id);
    this.colours.callWent(programKeyOf(call));
    this.timeline.callGone(call, atMs);
    return call;
  }

  private engineChanged(engine: ViewEngine, atMs: number): void {
    const before = this.engines.get(engine.engine);
    if (!before && this.engines.size >= ENGINES_MAX) return;
    this.engines.set(engine.engine, engine);
    if (!before || before.incarnation !== engine.incarnation)
      this.happenings.add({ atMs, kind: "joined", engine: engine.engine });
    else if (before.state !== engine.state && engine.state === "suspect")
      this.happenings.add({ atMs, kind: "silent", engine: engine.engine });
    this.timeline.engineRuns(engine, this.calls, atMs);
  }

  private engineGone(id: string, atMs: number): void {
    if (!this.engines.delete(id)) return;
    this.timeline.engineGone(id, atMs);
    this.happenings.add({ atMs, kind: "lost", engine: id });
  }

  private programGone(key: string): void {
    this.programs.delete(key);
    this.colours.forget(key);
    this.listener?.programGone(key);
  }

  private forgetIdle(): void {
    const idle = [...this.programs].filter(([, { calls }]) => calls.waiting + calls.running === 0);
    idle.sort(([, a], [, b]) => a.lastAtMs - b.lastAtMs);
    for (const [key] of idle.slice(0, Math.ceil(PROGRAMS_MAX * FORGOTTEN_SHARE))) this.programGone(key);
    // All of them have calls, which `CALLS_MAX` bounds: the table is bounded by that, too.
    if (this.programs.size <= PROGRAMS_MAX) return;
    for (const key of this.programs.keys()) {
      if (this.programs.size <= PROGRAMS_MAX) return;
      this.programGone(key);
    }
  }
}

/** A model that has heard nothing yet. */
export function emptyShot(pool: ViewPool, atMs: number): PoolShot {
  return {
    pool,
    atMs,
    seenSinceMs: atMs,
    programs: [],
    calls: [],
    engines: [],
    enteredMs: [],
    timeline: { engines: [] },
    series: { samples: [], calls: [], programs: [] },
    happenings: { last: [], counts: {} },
    colours: [],
  };
}

/** `<tenant>/<program>` */
export function programKeyOf({ call, program }: Pick<ViewCall, "call" | "program">): string {
  return `${tenantOf(call)}/${program}`;
}

/** @param key `<tenant>/<anything>` */
export function tenantOf(key: string): string {
  return key.slice(0, Math.max(0, key.indexOf("/")));
}

/** The part behind the tenant. */
export function nameOf(key: string): string {
  return key.slice(key.indexOf("/") + 1);
}
