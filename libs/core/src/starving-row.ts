/**
 * Calls whose promotion is due and that wait for a place, in the order of the enqueue numbers that they got when they
 * were due. All is O(1), and nothing of a call is kept that has left: most leave from the middle, since they run from
 * the level where they are. (A `Map` alone would step over the holes of those that left before its first one.)
 */
import type { Call } from "./call.ts";

interface Place {
  readonly call: Call;
  readonly order: number;
  before: Place | undefined;
  after: Place | undefined;
}

export class StarvingRow {
  private readonly placeOf = new Map<Call, Place>();
  private head: Place | undefined;
  private tail: Place | undefined;
  private isSorted = true;

  get size(): number {
    return this.placeOf.size;
  }

  /** @param order of a call that comes from another row it may be lower than that of others here. */
  add(call: Call, order: number): void {
    if (this.tail !== undefined && this.tail.order > order) this.isSorted = false;
    this.append({ call, order, before: undefined, after: undefined });
  }

  /** @returns the number that the call had; undefined when it was not here. */
  remove(call: Call): number | undefined {
    if (this.placeOf.size === 0) return undefined;
    const place = this.placeOf.get(call);
    if (place === undefined) return undefined;
    const { before, after, order } = place;
    this.placeOf.delete(call);
    if (before) before.after = after;
    else this.head = after;
    if (after) after.before = before;
    else this.tail = before;
    return order;
  }

  first(): { readonly call: Call; readonly order: number } | undefined {
    if (!this.isSorted) this.sort();
    return this.head;
  }

  private append(place: Place): void {
    place.before = this.tail;
    place.after = undefined;
    if (this.tail) this.tail.after = place;
    else this.head = place;
    this.tail = place;
    this.placeOf.set(place.call, place);
  }

  private sort(): void {
    const places = [...this.placeOf.values()].sort((a, b) => a.order - b.order);
    this.head = undefined;
    this.tail = undefined;
    for (const place of places) this.append(place);
    this.isSorted = true;
  }
}
