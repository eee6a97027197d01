/**
 * One pool as a watcher knows it: a snapshot, kept up to date by changes. Pure data and rules, without NATS: what
 * shows it in a terminal and what shows it in a browser can share it.
 */
import type { CallKey } from "./ids.ts";
import type { ViewCall, ViewChanges, ViewEngine, ViewPage, ViewPool, ViewProgram } from "./view.ts";

/** Programs, and calls, that a watcher keeps of one pool; those beyond are not shown, and `truncated` says so. */
export const PICTURE_ITEMS_MAX = 200_000;

/** Names a program in a picture: `<tenant>/<program>`. */
export function programKey({ tenant, program }: { tenant: string; program: string }): string {
  return `${tenant}/${program}`;
}

export class PoolPicture {
  /** Undefined until the first page came. */
  pool: ViewPool | undefined;
  /** When that was, Unix time by the stream's clock. */
  atMs = 0;
  /** Changes up to this number are applied. */
  number = 0;
  readonly programs = new Map<string, ViewProgram>();
  readonly calls = new Map<CallKey, ViewCall>();
  readonly engines = new Map<string, ViewEngine>();
  /** There is more than a picture holds. */
  truncated = false;
  private readonly itemsMax: number;

  constructor(itemsMax = PICTURE_ITEMS_MAX) {
    this.itemsMax = itemsMax;
  }

  /** Adds a page of a snapshot. */
  addPage(page: ViewPage): void {
    this.pool = page.pool;
    this.atMs = page.atMs;
    for (const program of page.programs ?? []) this.put(this.programs, programKey(program), program);
    for (const call of page.calls ?? []) this.put(this.calls, call.call, call);
    for (const engine of page.engines ?? []) this.put(this.engines, engine.engine, engine);
  }

  /** @returns false when changes between the last ones and these were missed: everything must be read again. */
  apply(changes: ViewChanges): boolean {
    if (changes.pool.epoch !== this.pool?.epoch) return false;
    if (changes.number <= this.number) return true;
    if (changes.number !== this.number + 1) return false;
    this.number = changes.number;
    this.pool = changes.pool;
    this.atMs = changes.atMs;
    for (const program of changes.gone.programs) this.programs.delete(programKey(program));
    for (const { call } of changes.ended ?? []) this.calls.delete(call);
    for (const call of changes.gone.calls) this.calls.delete(call);
    for (const engine of changes.gone.engines) this.engines.delete(engine);
    for (const program of changes.programs) this.put(this.programs, programKey(program), program);
    for (const call of changes.calls) this.put(this.calls, call.call, call);
    for (const engine of changes.engines) this.put(this.engines, engine.engine, engine);
    return true;
  }

  private put<K, V>(items: Map<K, V>, key: K, item: V): void {
    if (items.size >= this.itemsMax && !items.has(key)) this.truncated = true;
    else items.set(key, item);
  }
}
