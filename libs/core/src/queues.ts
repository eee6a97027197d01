/**
 * Queues of calls: one ordered list per level. A list is a row of short sorted chunks: the tail is O(1), any other
 * place is found by bisection, and a walk reads memory in order.
 */
import type { Call } from "./call.ts";
import { StarvingRow } from "./starving-row.ts";

const CHUNK_CALLS_MAX = 128;

/** Order inside a level: by rank, and first come, first served among equals. */
function before(a: Call, b: Call): boolean {
  return a.rank !== b.rank ? a.rank < b.rank : a.order < b.order;
}

/** A call is in at most one list at a time. */
export class CallList {
  /** None of them is empty. */
  private readonly chunks: Call[][] = [];
  size = 0;

  get head(): Call | undefined {
    return this.chunks[0]?.[0];
  }

  /** Puts a call where its rank and enqueue number belong: mostly the tail. */
  insert(call: Call): void {
    if (call.list) throw new Error(`call ${call.id} is in a list already`);
    call.list = this;
    this.size++;
    const { chunks } = this;
    const lastChunk = chunks[chunks.length - 1];
    const last = lastChunk?.[lastChunk.length - 1];
    if (lastChunk === undefined || last === undefined) chunks.push([call]);
    else if (!before(call, last)) {
      if (lastChunk.length < CHUNK_CALLS_MAX) lastChunk.push(call);
      else chunks.push([call]);
    } else this.insertInside(call);
  }

  remove(call: Call): void {
    if (call.list !== this) throw new Error(`call ${call.id} is not in this list`);
    const at = this.chunkOf(call);
    const chunk = this.chunks[at] as Call[];
    const place = placeIn(chunk, call);
    if (chunk[place] !== call) throw new Error(`call ${call.id} is not at its place`);
    // By hand: `splice` would make an array of what it takes out.
    for (let i = place + 1; i < chunk.length; i++) chunk[i - 1] = chunk[i] as Call;
    chunk.pop();
    if (chunk.length === 0) {
      if (at === 0) this.chunks.shift();
      else this.chunks.splice(at, 1);
    }
    call.list = undefined;
    this.size--;
  }

  /** Calls `visit` in order until it returns false. The list must not change meanwhile. @returns whether it came to the end. */
  walk(visit: (call: Call) => boolean): boolean {
    for (const chunk of this.chunks) {
      for (const call of chunk) if (!visit(call)) return false;
    }
    return true;
  }

  *[Symbol.iterator](): Generator<Call> {
    for (const chunk of this.chunks) yield* chunk;
  }

  private insertInside(call: Call): void {
    const at = this.chunkOf(call);
    const chunk = this.chunks[at] as Call[];
    chunk.splice(placeIn(chunk, call), 0, call);
    if (chunk.length > CHUNK_CALLS_MAX) this.chunks.splice(at + 1, 0, chunk.splice(CHUNK_CALLS_MAX >> 1));
  }

  /** Index of the last chunk whose head is not after the call, or 0. What leaves is mostly near the front. */
  private chunkOf(call: Call): number {
    const { chunks } = this;
    let low = 0;
    let end = 1;
    while (end < chunks.length && this.startsBy(end, call)) {
      low = end;
      end *= 2;
    }
    let high = Math.min(end, chunks.length) - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.startsBy(middle, call)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Whether the head of a chunk is not after the call. */
  private startsBy(chunk: number, call: Call): boolean {
    const head = this.chunks[chunk]?.[0] as Call;
    return head === call || before(head, call);
  }
}

/** Index of the first call that is not before this one. */
function placeIn(chunk: readonly Call[], call: Call): number {
  // What leaves is mostly the head.
  if (chunk[0] === call) return 0;
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before(chunk[middle] as Call, call)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Q1 … QK of one engine, or of the calls that no engine has. */
export class LevelQueues {
  readonly levels: readonly CallList[];
  /** Calls that were promoted and neither ended nor came out of starvation since: so many have places for them. */
  readonly promoted = new Set<Call>();
  /** Calls whose promotion is due and waits for such a place. */
  readonly starving = new StarvingRow();

  constructor(levelCount: number) {
    this.levels = Array.from({ length: levelCount }, () => new CallList());
  }

  get size(): number {
    let size = 0;
    for (const level of this.levels) size += level.size;
    return size;
  }

  at(level: number): CallList {
    const list = this.levels[level];
    if (!list) throw new Error(`no level ${level}`);
    return list;
  }

  /** Q1 … QK, in order inside a level, until `visit` returns false. */
  walk(visit: (call: Call) => boolean): void {
    for (const level of this.levels) if (!level.walk(visit)) return;
  }

  *[Symbol.iterator](): Generator<Call> {
    for (const level of this.levels) yield* level;
  }

  /** The call leaves for other queues, where it is promoted, or due, as it was here. @returns whether it is promoted. */
  handOver(call: Call, to: LevelQueues): boolean {
    const order = this.starving.remove(call);
    if (order !== undefined) to.starving.add(call, order);
    if (!this.promoted.delete(call)) return false;
    to.promoted.add(call);
    return true;
  }

  /** The call will be in no queue any more. @returns whether it leaves a place among the promoted. */
  forget(call: Call): boolean {
    this.starving.remove(call);
    return this.promoted.size > 0 && this.promoted.delete(call);
  }

  /** Takes every call out, in order. */
  takeAll(): Call[] {
    const calls = [...this];
    for (const call of calls) call.list?.remove(call);
    return calls;
  }
}

/** Rank of two calls: Q1 before Q2, then the order inside a level. */
export function byRank(a: Call, b: Call): number {
  return a.level - b.level || a.rank - b.rank || a.order - b.order;
}
