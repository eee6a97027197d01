/**
 * Table entries on their way to the bucket, in batches: losing the last batch costs priority accuracy, never a call.
 * A start or end is answered only when its entry is stored (design §2).
 */
import type { SavedEntry } from "@autellix/core";
import { keys } from "@autellix/protocol";
import type { Effect, ReplyToken } from "./events.ts";

/** Changes of one program within this time are one write. */
export const FLUSH_MS = 50;

interface Pending {
  entry: SavedEntry;
  waiters: ReplyToken[];
}

export class ProgramStore {
  private readonly pool: string;
  private readonly ttlMs: number;
  private readonly pending = new Map<string, Pending>();
  private readonly inFlight = new Map<string, Pending>();
  private flushAsked = false;

  constructor(pool: string, ttlMs: number) {
    this.pool = pool;
    this.ttlMs = ttlMs;
  }

  /** @returns the effect that makes the flush come, once per batch. */
  save(entry: SavedEntry): Effect[] {
    const key = this.keyOf(entry);
    const pending = this.pending.get(key);
    if (pending) pending.entry = entry;
    else this.pending.set(key, { entry, waiters: [] });
    if (this.flushAsked) return [];
    this.flushAsked = true;
    return [{ kind: "after", ms: FLUSH_MS, event: { kind: "flushPrograms" } }];
  }

  /** The answer `token` waits for the program's entry to be stored. @returns false when nothing is to be stored. */
  wait(tenant: string, program: string, token: ReplyToken): boolean {
    const key = keys.program(this.pool, tenant, program);
    const pending = this.pending.get(key) ?? this.inFlight.get(key);
    pending?.waiters.push(token);
    return pending !== undefined;
  }

  flush(): Effect[] {
    this.flushAsked = false;
    const effects: Effect[] = [];
    for (const [key, pending] of this.pending) {
      // One write per key at a time keeps them in order.
      if (this.inFlight.has(key)) continue;
      this.pending.delete(key);
      this.inFlight.set(key, pending);
      effects.push({ kind: "storeProgram", key, entry: pending.entry, ttlMs: this.ttlMs });
    }
    if (this.pending.size > 0 && !this.flushAsked) {
      this.flushAsked = true;
      effects.push({ kind: "after", ms: FLUSH_MS, event: { kind: "flushPrograms" } });
    }
    return effects;
  }

  /** @returns who waited for this write; nobody when it must be repeated, which the effects then do. */
  stored(key: string, isStored: boolean): { waiters: ReplyToken[]; effects: Effect[] } {
    const written = this.inFlight.get(key);
    this.inFlight.delete(key);
    if (!written) return { waiters: [], effects: [] };
    if (isStored) return { waiters: written.waiters, effects: [] };
    const newer = this.pending.get(key);
    if (newer) newer.waiters.push(...written.waiters);
    else this.pending.set(key, written);
    if (this.flushAsked) return { waiters: [], effects: [] };
    this.flushAsked = true;
    return { waiters: [], effects: [{ kind: "after", ms: FLUSH_MS, event: { kind: "flushPrograms" } }] };
  }

  private keyOf(entry: SavedEntry): string {
    const slash = entry.program.indexOf("/");
    return keys.program(this.pool, entry.program.slice(0, slash), entry.program.slice(slash + 1));
  }
}
