/** Puts changes that follow each other together, so that one message tells them all. */
import type { PoolChanges } from "./pool-model.ts";

/** Keeps what is newest of each item. What came and went in between is in both lists: the model applies it in order. */
export class PendingChanges {
  private atMs = 0;
  private pool: PoolChanges["pool"];
  private readonly programs = new Map<string, PoolChanges["programs"][number]>();
  private readonly calls = new Map<string, PoolChanges["calls"][number]>();
  private readonly engines = new Map<string, PoolChanges["engines"][number]>();
  private readonly ended = new Map<string, NonNullable<PoolChanges["ended"]>[number]>();
  private readonly gonePrograms = new Map<string, PoolChanges["gone"]["programs"][number]>();
  private readonly goneCalls = new Set<string>();
  private readonly goneEngines = new Set<string>();
  isEmpty = true;

  /** Items in all lists. */
  get size(): number {
    return this.parts.reduce((sum, part) => sum + part.size, 0);
  }

  private get parts() {
    const { programs, calls, engines, ended, gonePrograms, goneCalls, goneEngines } = this;
    return [programs, calls, engines, ended, gonePrograms, goneCalls, goneEngines];
  }

  add(changes: PoolChanges): void {
    this.isEmpty = false;
    this.atMs = changes.atMs;
    this.pool = changes.pool ?? this.pool;
    for (const program of changes.programs) {
      const key = `${program.tenant}/${program.program}`;
      this.programs.set(key, program);
      this.gonePrograms.delete(key);
    }
    // The model hears of ends first: what a call did before its end is not told any more.
    for (const ended of changes.ended ?? []) {
      this.ended.set(ended.call, ended);
      this.calls.delete(ended.call);
    }
    for (const call of changes.calls) {
      this.calls.set(call.call, call);
      this.goneCalls.delete(call.call);
    }
    for (const engine of changes.engines) {
      this.engines.set(engine.engine, engine);
      this.goneEngines.delete(engine.engine);
    }
    for (const gone of changes.gone.programs) this.gonePrograms.set(`${gone.tenant}/${gone.program}`, gone);
    for (const call of changes.gone.calls) this.goneCalls.add(call);
    for (const engine of changes.gone.engines) this.goneEngines.add(engine);
  }

  /** All of it; begins again with nothing. */
  take(): PoolChanges {
    const { pool } = this;
    const changes: PoolChanges = {
      ...(pool ? { pool } : {}),
      atMs: this.atMs,
      programs: [...this.programs.values()],
      calls: [...this.calls.values()],
      engines: [...this.engines.values()],
      ended: [...this.ended.values()],
      gone: { programs: [...this.gonePrograms.values()], calls: [...this.goneCalls], engines: [...this.goneEngines] },
    };
    this.pool = undefined;
    for (const part of this.parts) part.clear();
    this.isEmpty = true;
    return changes;
  }
}
