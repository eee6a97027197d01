/**
 * Calls whose promotion is due and that wait for a place, in the order of the enqueue numbers that they got when they
 * were due. The first one is found in O(1), however many left before it: a `Map` by itself would step over the holes.
 */
import type { Call } from "./call.ts";

/** What has left is dropped from the arrays when there is so much of it, and it is half of them. */
const LEFT_MAX = 1_024;

export class StarvingRow {
  private readonly orderOf = new Map<Call, number>();
  /** With those that have left since: their order is another one, or none. */
  private calls: Call[] = [];
  private orders: number[] = [];
  private head = 0;
  private isSorted = true;

  get size(): number {
    return this.orderOf.size;
  }

  /** @param order of a call that leaves another row it may be lower than that of others here. */
  add(call: Call, order: number): void {
    const last = this.orders.at(-1);
    if (last !== undefined && last > order) this.isSorted = false;
    this.orderOf.set(call, order);
    this.calls.push(call);
    this.orders.push(order);
  }

  /** @returns the number that the call had; undefined when it was not here. */
  remove(call: Call): number | undefined {
    if (this.orderOf.size === 0) return undefined;
    const order = this.orderOf.get(call);
    if (order !== undefined) this.orderOf.delete(call);
    return order;
  }

  first(): { call: Call; order: number } | undefined {
    if (!this.isSorted) this.sort();
    for (; this.head < this.calls.length; this.head++) {
      const [call, order] = [this.calls[this.head] as Call, this.orders[this.head] as number];
      if (this.orderOf.get(call) !== order) continue;
      this.tidy();
      return { call, order };
    }
    this.tidy();
    return undefined;
  }

  private tidy(): void {
    const { head } = this;
    if (head < LEFT_MAX || 2 * head < this.calls.length) return;
    this.calls = this.calls.slice(head);
    this.orders = this.orders.slice(head);
    this.head = 0;
  }

  private sort(): void {
    const sorted = [...this.orderOf].sort(([, a], [, b]) => a - b);
    this.calls = sorted.map(([call]) => call);
    this.orders = sorted.map(([, order]) => order);
    this.head = 0;
    this.isSorted = true;
  }
}
