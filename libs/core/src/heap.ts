/** A binary min-heap of (due time, value). Equal times come out in the order they went in (S6). */
import type { Millis } from "./ids.ts";

interface Node<T> {
  at: Millis;
  order: number;
  value: T;
}

export class DueHeap<T> {
  private readonly nodes: Node<T>[] = [];
  private nextOrder = 0;

  get size(): number {
    return this.nodes.length;
  }

  /** The earliest due time. */
  get nextAt(): Millis | undefined {
    return this.nodes[0]?.at;
  }

  push(at: Millis, value: T): void {
    this.nodes.push({ at, order: this.nextOrder++, value });
    let child = this.nodes.length - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!this.swapIfLater(parent, child)) break;
      child = parent;
    }
  }

  /** Takes the earliest value that is due at `at`. */
  popDue(at: Millis): T | undefined {
    const first = this.nodes[0];
    if (!first || first.at > at) return undefined;
    const last = this.nodes.pop();
    if (last && last !== first) {
      this.nodes[0] = last;
      this.sink();
    }
    return first.value;
  }

  /** Drops what is no longer wanted; O(n), for callers that do it once per n changes. */
  retain(wanted: (value: T) => boolean): void {
    const kept = this.nodes.filter((node) => wanted(node.value)).sort((a, b) => a.at - b.at || a.order - b.order);
    this.nodes.length = 0;
    // A sorted array is a heap.
    for (const node of kept) this.nodes.push(node);
  }

  private sink(): void {
    let parent = 0;
    for (;;) {
      const left = 2 * parent + 1;
      const right = left + 1;
      let least = left;
      if (right < this.nodes.length && this.later(left, right)) least = right;
      if (left >= this.nodes.length || !this.swapIfLater(parent, least)) return;
      parent = least;
    }
  }

  private later(a: number, b: number): boolean {
    const [x, y] = [this.nodes[a], this.nodes[b]];
    if (!x || !y) return false;
    return x.at !== y.at ? x.at > y.at : x.order > y.order;
  }

  private swapIfLater(parent: number, child: number): boolean {
    if (!this.later(parent, child)) return false;
    const [x, y] = [this.nodes[parent], this.nodes[child]];
    if (x && y) {
      this.nodes[parent] = y;
      this.nodes[child] = x;
    }
    return true;
  }
}
