/**
 * The global process table (paper §4): one entry per (tenant, program) of this pool.
 */
import type { Call } from "./call.ts";
import type { SavedEntry } from "./contract.ts";
import { DueHeap } from "./heap.ts";
import { IdTable } from "./id-table.ts";
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";
import type { Policy, ProgramPast } from "./policies.ts";
import type { Retained } from "./retained.ts";

/**
 * Ended calls remembered per program, the last ones: more than can be un-acked and reported again after a take-over,
 * and what the call graph of `atlas-dag` reaches back to.
 */
export const ENDED_CALLS_MAX = 128;
/** Engines remembered per program, the last ones. */
export const ENGINES_MAX = 8;

export class ProgramEntry implements ProgramPast {
  readonly id: ProgramId;
  /** Sum of service and waiting over ended calls. */
  serviceMs: Millis = 0;
  waitingMs: Millis = 0;
  /** What the policy ranks by: the sum (plas), the critical path (atlas), decayed tokens … */
  attained = 0;
  /** The longest chain of service, and of waiting, that its ended calls make: T_p and W_p of the starvation ratio. */
  pathServiceMs: Millis = 0;
  pathWaitingMs: Millis = 0;
  endedCalls = 0;
  /** Active calls: the program's threads (paper §2). Ends of a list that is linked through the calls, oldest first. */
  firstThread: Call | undefined;
  lastThread: Call | undefined;
  threadCount = 0;
  /** Engine of its long calls (Algorithm 2). */
  pin: EngineId | undefined;
  /** Engines that its calls ended on. */
  engines: EngineId[] = NO_ENGINES;
  arrivedAt: Millis;
  /** Detects stale programs. */
  lastArrivalAt: Millis;
  /** Detects long interrupts. */
  lastCompletionAt: Millis | undefined;
  /** Set when the program was ended: calls that arrive later are refused. */
  endedAt: Millis | undefined;
  /** Set when it was ended and its accepted calls were cancelled with it: also those that are read later. */
  cancelled = false;
  /** The program of a call that named none: forgotten with it, never saved. */
  alone: boolean;
  /** Contexts that engines keep for its next call; owned by retained.ts. */
  retained: Retained[] | undefined;
  /**
   * Ended calls with eq. 2's p + t: one that is reported twice counts once, and children find their parents here.
   * Restored ones are known by name only.
   */
  ended: Map<CallId, number | undefined> | undefined;

  constructor(id: ProgramId, at: Millis, alone: boolean) {
    this.id = id;
    this.arrivedAt = at;
    this.lastArrivalAt = at;
    this.lastCompletionAt = undefined;
    this.alone = alone;
  }

  pathTo(call: CallId): number | undefined {
    return this.ended?.get(call);
  }

  *threads(): Generator<Call> {
    for (let call = this.firstThread; call; ) {
      const after: Call | undefined = call.threadAfter;
      yield call;
      call = after;
    }
  }

  addThread(call: Call): void {
    call.threadBefore = this.lastThread;
    if (this.lastThread) this.lastThread.threadAfter = call;
    else this.firstThread = call;
    this.lastThread = call;
    this.threadCount++;
  }

  removeThread(call: Call): void {
    if (call.threadBefore) call.threadBefore.threadAfter = call.threadAfter;
    else if (this.firstThread === call) this.firstThread = call.threadAfter;
    else return;
    if (call.threadAfter) call.threadAfter.threadBefore = call.threadBefore;
    else this.lastThread = call.threadBefore;
    call.threadBefore = undefined;
    call.threadAfter = undefined;
    this.threadCount--;
  }

  lastUse(): Millis {
    return Math.max(this.lastArrivalAt, this.lastCompletionAt ?? 0, this.endedAt ?? 0);
  }
}

/** Shared by all entries that no call of which has ended. */
const NO_ENGINES: EngineId[] = [];

/** What a call's end adds to its program's past. */
export interface Charge {
  serviceMs: Millis;
  waitingMs: Millis;
  /** Service in the policy's unit. */
  served: number;
}

export class ProcessTable {
  private readonly entries = new IdTable<ProgramEntry>();
  private readonly idleMaxMs: Millis;
  /** When to look whether a program is stale. */
  private readonly stale = new DueHeap<ProgramEntry>();
  /** Since the last look. */
  private added = 0;

  constructor(idleMaxMs: Millis) {
    this.idleMaxMs = idleMaxMs;
  }

  get size(): number {
    return this.entries.size;
  }

  get(id: ProgramId): ProgramEntry | undefined {
    return this.entries.get(id);
  }

  all(): Iterable<ProgramEntry> {
    return this.entries.values();
  }

  /** Some entries, see `IdTable.page`. */
  page<V>(
    from: string | undefined,
    max: number,
    view: (entry: ProgramEntry) => V,
  ): { items: V[]; next: string | undefined } {
    const { values, next } = this.entries.page(from, max);
    return { items: values.map(view), next };
  }

  /** The program's entry, made when it is unknown (design §6: an unknown program in a header is created). */
  open(id: ProgramId, at: Millis, alone = false): ProgramEntry {
    const known = this.entries.get(id);
    if (!known) return this.add(new ProgramEntry(id, at, alone));
    if (known.alone && !alone) {
      known.alone = false;
      this.stale.push(at + this.idleMaxMs, known);
    }
    return known;
  }

  /** @param measures the policy's unit: what was attained in another one is worth nothing, so its service stands for it, or 0 tokens. */
  restore(saved: SavedEntry, measures: Policy["measures"]): void {
    const entry = new ProgramEntry(saved.program, saved.arrivedAt, false);
    const { serviceMs, waitingMs, pathServiceMs, pathWaitingMs, endedCalls, endedAt, pin } = saved;
    const { lastArrivalAt, lastCompletionAt } = saved;
    const isSameUnit = (saved.measures ?? "time") === measures;
    entry.attained = isSameUnit ? saved.attained : measures === "time" ? serviceMs : 0;
    Object.assign(entry, { serviceMs, waitingMs, pathServiceMs, pathWaitingMs, endedCalls, endedAt, pin });
    Object.assign(entry, { lastArrivalAt, lastCompletionAt, cancelled: saved.cancelled ?? false });
    entry.engines = [...saved.engines];
    entry.ended = new Map(saved.charged.map((id) => [id, undefined]));
    const known = this.entries.get(entry.id);
    if (known) this.entries.delete(known);
    this.add(entry);
  }

  /** Forgets the program of a call that named none. */
  dropAlone(entry: ProgramEntry): void {
    if (entry.alone && entry.threadCount === 0) this.entries.delete(entry);
  }

  /**
   * Adds a finished call to its program's past, once: a call that is reported twice counts once.
   *
   * @returns false when it was charged before.
   */
  charge(call: Call, policy: Policy, { serviceMs, waitingMs, served }: Charge, at: Millis): boolean {
    const entry = call.program;
    if (entry.ended?.has(call.id)) return false;
    entry.serviceMs += serviceMs;
    entry.waitingMs += waitingMs;
    entry.attained = policy.aggregate(entry, call.inherited, served, at);
    entry.pathServiceMs = Math.max(entry.pathServiceMs, call.pathServiceMs + serviceMs);
    entry.pathWaitingMs = Math.max(entry.pathWaitingMs, call.pathWaitingMs + waitingMs);
    entry.endedCalls++;
    entry.lastCompletionAt = at;
    if (call.engine) visited(entry, call.engine.id);
    remember(entry, call.id, call.inherited + served);
    return true;
  }

  /**
   * Drops programs without active calls that nobody has used for `idleMaxMs`; looks at `looksMax` of them, and at two
   * for each that was added since: so the table does not grow, however many come.
   *
   * @param dropped hears of each.
   */
  dropIdle(at: Millis, looksMax: number, dropped: (entry: ProgramEntry) => void): void {
    const max = looksMax + 2 * this.added;
    this.added = 0;
    for (let looks = 0; looks < max; looks++) {
      const entry = this.stale.popDue(at);
      if (!entry) return;
      if (this.entries.get(entry.id) !== entry) continue;
      const dueAt = (entry.threadCount > 0 ? at : entry.lastUse()) + this.idleMaxMs;
      if (dueAt > at) {
        this.stale.push(dueAt, entry);
        continue;
      }
      this.entries.delete(entry);
      dropped(entry);
    }
  }

  private add(entry: ProgramEntry): ProgramEntry {
    this.entries.add(entry);
    this.added++;
    if (!entry.alone) this.stale.push(entry.lastUse() + this.idleMaxMs, entry);
    return entry;
  }
}

function visited(entry: ProgramEntry, engine: EngineId): void {
  if (entry.engines[entry.engines.length - 1] === engine) return;
  entry.engines = [...entry.engines.filter((id) => id !== engine), engine].slice(-ENGINES_MAX);
}

function remember(entry: ProgramEntry, call: CallId, path: number): void {
  if (entry.alone) return;
  entry.ended ??= new Map();
  entry.ended.set(call, path);
  if (entry.ended.size <= ENDED_CALLS_MAX) return;
  for (const oldest of entry.ended.keys()) {
    entry.ended.delete(oldest);
    return;
  }
}

export function saved(entry: ProgramEntry, measures: Policy["measures"]): SavedEntry {
  // Always in this order, whatever the entry was restored from (S6).
  const past: SavedEntry = {
    program: entry.id,
    serviceMs: entry.serviceMs,
    waitingMs: entry.waitingMs,
    attained: entry.attained,
    pathServiceMs: entry.pathServiceMs,
    pathWaitingMs: entry.pathWaitingMs,
    endedCalls: entry.endedCalls,
    endedAt: entry.endedAt,
    ...(entry.cancelled ? { cancelled: true } : {}),
    pin: entry.pin,
    engines: entry.engines,
    arrivedAt: entry.arrivedAt,
    lastArrivalAt: entry.lastArrivalAt,
    lastCompletionAt: entry.lastCompletionAt,
    charged: entry.ended ? [...entry.ended.keys()] : [],
  };
  if (measures === "time") return past;
  const { program, serviceMs, waitingMs, attained, ...rest } = past;
  return { program, serviceMs, waitingMs, attained, measures, ...rest };
}
