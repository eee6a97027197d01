/**
 * The global process table (paper §4): one entry per (tenant, program) of this pool.
 */
import type { Call } from "./call.ts";
import type { SavedEntry } from "./contract.ts";
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";
import type { Policy } from "./policies.ts";

/** Charged calls remembered per program: more than can be un-acked and reported again after a take-over. */
export const CHARGED_CALLS_MAX = 64;

export interface ProgramEntry {
  readonly id: ProgramId;
  /** Sum of service and waiting over ended calls. */
  serviceMs: Millis;
  waitingMs: Millis;
  /** What the policy ranks by: the sum (plas) or the critical path (atlas). */
  attainedMs: Millis;
  endedCalls: number;
  /** Active calls: the program's threads. */
  readonly threads: Set<Call>;
  /** Engine of its long calls (Algorithm 2). */
  pin: EngineId | undefined;
  /** Detects stale programs. */
  lastArrivalAt: Millis;
  /** Detects long interrupts. */
  lastCompletionAt: Millis | undefined;
  /** Set when the program was ended: calls that arrive later are refused. */
  endedAt: Millis | undefined;
  charged: CallId[];
  /** The program of a call that named none: forgotten with it, never saved. */
  alone: boolean;
}

export class ProcessTable {
  /** Least recently used first: an entry moves to the end whenever it is touched. */
  private readonly entries = new Map<ProgramId, ProgramEntry>();

  get size(): number {
    return this.entries.size;
  }

  get(id: ProgramId): ProgramEntry | undefined {
    return this.entries.get(id);
  }

  /** The program's entry, made when it is unknown (design §6: an unknown program in a header is created). */
  open(id: ProgramId, at: Millis, alone = false): ProgramEntry {
    const known = this.entries.get(id);
    const entry = known ?? emptyEntry(id, at);
    entry.alone = alone && (known?.alone ?? true);
    if (known) this.entries.delete(id);
    this.entries.set(id, entry);
    return entry;
  }

  restore(saved: SavedEntry): void {
    const { serviceMs, waitingMs, attainedMs, endedCalls, endedAt, pin, lastCompletionAt } = saved;
    const entry = emptyEntry(saved.program, saved.lastArrivalAt);
    Object.assign(entry, { serviceMs, waitingMs, attainedMs, endedCalls, endedAt, pin, lastCompletionAt });
    entry.charged = [...saved.charged];
    this.entries.set(saved.program, entry);
  }

  /** Forgets the program of a call that named none. */
  dropAlone(entry: ProgramEntry): void {
    if (entry.alone && entry.threads.size === 0) this.entries.delete(entry.id);
  }

  /**
   * Adds a finished call to its program's past, once: a call that is reported twice counts once.
   *
   * @returns false when it was charged before.
   */
  charge(call: Call, policy: Policy, serviceMs: Millis, waitingMs: Millis, at: Millis): boolean {
    const entry = call.program;
    if (entry.charged.includes(call.id)) return false;
    entry.serviceMs += serviceMs;
    entry.waitingMs += waitingMs;
    entry.attainedMs = policy.aggregate(entry, call.inheritedMs, serviceMs);
    entry.endedCalls++;
    entry.lastCompletionAt = at;
    entry.charged.push(call.id);
    if (entry.charged.length > CHARGED_CALLS_MAX) entry.charged.shift();
    return true;
  }

  /** Drops programs without active calls that nobody has used since `idleSince`, at most `dropMax` of them. */
  dropIdle(idleSince: Millis, dropMax: number): ProgramId[] {
    const dropped: ProgramId[] = [];
    for (const entry of this.entries.values()) {
      if (dropped.length >= dropMax || lastUse(entry) > idleSince) break;
      // An entry with active calls is touched again when they end.
      if (entry.threads.size === 0) dropped.push(entry.id);
    }
    for (const id of dropped) this.entries.delete(id);
    return dropped;
  }
}

export function saved(entry: ProgramEntry): SavedEntry {
  const { id: program, serviceMs, waitingMs, attainedMs, endedCalls, endedAt, pin } = entry;
  const { lastArrivalAt, lastCompletionAt, charged } = entry;
  // Always in this order, whatever the entry was restored from (S6).
  return {
    program,
    serviceMs,
    waitingMs,
    attainedMs,
    endedCalls,
    endedAt,
    pin,
    lastArrivalAt,
    lastCompletionAt,
    charged: [...charged],
  };
}

function lastUse(entry: ProgramEntry): Millis {
  return Math.max(entry.lastArrivalAt, entry.lastCompletionAt ?? 0, entry.endedAt ?? 0);
}

function emptyEntry(id: ProgramId, at: Millis): ProgramEntry {
  return {
    id,
    serviceMs: 0,
    waitingMs: 0,
    attainedMs: 0,
    endedCalls: 0,
    threads: new Set(),
    pin: undefined,
    lastArrivalAt: at,
    lastCompletionAt: undefined,
    endedAt: undefined,
    charged: [],
    alone: false,
  };
}
