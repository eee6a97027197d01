/**
 * Queues of calls: one FIFO per level, linked through the calls themselves, so that every move is O(1).
 */
import type { Call } from "./call.ts";

/** A FIFO ordered by enqueue number. A call is in at most one list at a time. */
export class CallList {
  head: Call | undefined;
  tail: Call | undefined;
  size = 0;

  push(call: Call): void {
    this.insertAfter(this.tail, call);
  }

  /** Puts a call back where its enqueue number belongs; calls that come back are old, so the walk is short. */
  restore(call: Call): void {
    let place: Call | undefined;
    for (let next = this.head; next && next.order < call.order; next = next.next) place = next;
    this.insertAfter(place, call);
  }

  /** Merges calls that are sorted by enqueue number, in one pass. */
  merge(sorted: readonly Call[]): void {
    let place: Call | undefined;
    let next = this.head;
    for (const call of sorted) {
      while (next && next.order < call.order) {
        place = next;
        next = next.next;
      }
      this.insertAfter(place, call);
      place = call;
    }
  }

  remove(call: Call): void {
    if (call.list !== this) throw new Error(`call ${call.id} is not in this list`);
    if (call.previous) call.previous.next = call.next;
    else this.head = call.next;
    if (call.next) call.next.previous = call.previous;
    else this.tail = call.previous;
    call.list = undefined;
    call.previous = undefined;
    call.next = undefined;
    this.size--;
  }

  private insertAfter(place: Call | undefined, call: Call): void {
    if (call.list) throw new Error(`call ${call.id} is in a list already`);
    const next = place ? place.next : this.head;
    call.list = this;
    call.previous = place;
    call.next = next;
    if (place) place.next = call;
    else this.head = call;
    if (next) next.previous = call;
    else this.tail = call;
    this.size++;
  }
}

/** Q1 … QK of one engine, or of the calls that no engine has. */
export class LevelQueues {
  readonly levels: readonly CallList[];

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

  /** Q1 … QK, FCFS inside a level. Removing the call at hand while walking is allowed. */
  *walk(): Generator<Call> {
    for (const level of this.levels) {
      for (let call = level.head; call; ) {
        const next: Call | undefined = call.next;
        yield call;
        call = next;
      }
    }
  }

  /** Takes every call out, in order. */
  takeAll(): Call[] {
    const calls = [...this.walk()];
    for (const call of calls) call.list?.remove(call);
    return calls;
  }
}

/** Rank of two calls: Q1 before Q2, older before younger. */
export function byRank(a: Call, b: Call): number {
  return a.level - b.level || a.order - b.order;
}
