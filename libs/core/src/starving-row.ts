/**
 * Calls whose promotion is due and that wait for a place, in the order of the enqueue numbers that they got when they
 * were due. A call is in at most one row at a time; its links are its own fields, so that all is O(1) and nothing is
 * made or kept: most calls come into a row in overload, and leave it from the middle, since they run from the level
 * where they are.
 */
import type { Call } from "./call.ts";

/** The number of a call that is in no row. */
export const IN_NO_ROW = -1;

export class StarvingRow {
  size = 0;
  private head: Call | undefined;
  private tail: Call | undefined;
  private isSorted = true;

  /** @param order from 0 on; of a call that comes from another row it may be lower than that of others here. */
  add(call: Call, order: number): void {
    if (call.starvingOrder !== IN_NO_ROW) throw new Error(`call ${call.id} is in a row already`);
    if (this.tail !== undefined && this.tail.starvingOrder > order) this.isSorted = false;
    call.starvingOrder = order;
    this.size++;
    this.append(call);
  }

  /** @returns the number that the call had; undefined when it was in no row. */
  remove(call: Call): number | undefined {
    const order = call.starvingOrder;
    if (order === IN_NO_ROW) return undefined;
    const { starvingBefore: before, starvingAfter: after } = call;
    if ((!before && this.head !== call) || (!after && this.tail !== call))
      throw new Error(`call ${call.id} is in another row`);
    if (before) before.starvingAfter = after;
    else this.head = after;
    if (after) after.starvingBefore = before;
    else this.tail = before;
    call.starvingBefore = undefined;
    call.starvingAfter = undefined;
    call.starvingOrder = IN_NO_ROW;
    this.size--;
    return order;
  }

  first(): Call | undefined {
    if (!this.isSorted) this.sort();
    return this.head;
  }

  *[Symbol.iterator](): Generator<Call> {
    for (let call = this.head; call; call = call.starvingAfter) yield call;
  }

  private append(call: Call): void {
    call.starvingBefore = this.tail;
    call.starvingAfter = undefined;
    if (this.tail) this.tail.starvingAfter = call;
    else this.head = call;
    this.tail = call;
  }

  private sort(): void {
    const calls = [...this].sort((a, b) => a.starvingOrder - b.starvingOrder);
    this.head = undefined;
    this.tail = undefined;
    for (const call of calls) this.append(call);
    this.isSorted = true;
  }
}
