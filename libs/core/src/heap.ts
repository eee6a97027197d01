/**
 * A binary min-heap of (due time, value). Equal times come out in the order they went in (S6). Times, orders and
 * values lie in arrays of their own: three numbers per entry and no object.
 */
import type { Millis } from "./ids.ts";

export class DueHeap<T> {
  private readonly ats: Millis[] = [];
  private readonly orders: number[] = [];
  private readonly values: T[] = [];
  private nextOrder = 0;
  private nextLook = 0;

  get size(): number {
    return this.values.length;
  }

  get first(): T | undefined {
    return this.values[0];
  }

  /** The earliest due time. */
  get nextAt(): Millis | undefined {
    return this.ats[0];
  }

  push(at: Millis, value: T): void {
    this.ats.push(at);
    this.orders.push(this.nextOrder++);
    this.values.push(value);
    this.rise(this.values.length - 1);
  }

  /** Takes the earliest value that is due at `at`. */
  popDue(at: Millis): T | undefined {
    const first = this.values[0];
    if (first === undefined || (this.ats[0] as Millis) > at) return undefined;
    this.removeAt(0);
    return first;
  }

  /**
   * Looks at the next few entries, in turn, and drops those that are no longer wanted. Called once per push with two
   * looks it keeps the unwanted ones below the wanted, at a cost that does not come in one piece.
   */
  tidy(wanted: (value: T) => boolean, looks = 2): void {
    for (let i = 0; i < looks; i++) {
      if (this.nextLook >= this.values.length) this.nextLook = 0;
      const value = this.values[this.nextLook];
      if (value === undefined) return;
      if (wanted(value)) this.nextLook++;
      else this.removeAt(this.nextLook);
    }
  }

  private removeAt(place: number): void {
    const last = this.values.length - 1;
    this.swap(place, last);
    this.ats.pop();
    this.orders.pop();
    this.values.pop();
    if (place >= last) return;
    this.rise(place);
    this.sink(place);
  }

  private rise(from: number): void {
    let child = from;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!this.later(parent, child)) return;
      this.swap(parent, child);
      child = parent;
    }
  }

  private sink(from: number): void {
    const size = this.values.length;
    let parent = from;
    for (;;) {
      let least = 2 * parent + 1;
      if (least >= size) return;
      if (least + 1 < size && this.later(least, least + 1)) least++;
      if (!this.later(parent, least)) return;
      this.swap(parent, least);
      parent = least;
    }
  }

  private later(a: number, b: number): boolean {
    const x = this.ats[a] as number;
    const y = this.ats[b] as number;
    return x !== y ? x > y : (this.orders[a] as number) > (this.orders[b] as number);
  }

  private swap(a: number, b: number): void {
    const { ats, orders, values } = this;
    const [at, order, value] = [ats[a] as number, orders[a] as number, values[a] as T];
    ats[a] = ats[b] as number;
    orders[a] = orders[b] as number;
    values[a] = values[b] as T;
    ats[b] = at;
    orders[b] = order;
    values[b] = value;
  }
}
