/** A binary min-heap of (key, value). Equal keys come out in the order they went in, so that a run is a run (S6). */
export class MinHeap<T> {
  readonly #keys: number[] = [];
  readonly #orders: number[] = [];
  readonly #values: T[] = [];
  #nextOrder = 0;

  get size(): number {
    return this.#values.length;
  }

  /** `Infinity` when it is empty. */
  get minKey(): number {
    return this.#keys[0] ?? Number.POSITIVE_INFINITY;
  }

  get min(): T | undefined {
    return this.#values[0];
  }

  push(key: number, value: T): void {
    const keys = this.#keys;
    const orders = this.#orders;
    const values = this.#values;
    const order = this.#nextOrder++;
    let child = values.length;
    keys.push(key);
    orders.push(order);
    values.push(value);
    // A new entry has the highest order: it rises only above greater keys.
    while (child > 0) {
      const parent = (child - 1) >> 1;
      const parentKey = keys[parent] as number;
      if (parentKey <= key) break;
      keys[child] = parentKey;
      orders[child] = orders[parent] as number;
      values[child] = values[parent] as T;
      child = parent;
    }
    keys[child] = key;
    orders[child] = order;
    values[child] = value;
  }

  pop(): T | undefined {
    const keys = this.#keys;
    const values = this.#values;
    const first = values[0];
    const key = keys.pop();
    const order = this.#orders.pop();
    const value = values.pop();
    if (values.length === 0 || key === undefined || order === undefined) return first;
    this.#sink(key, order, value as T);
    return first;
  }

  #sink(key: number, order: number, value: T): void {
    const keys = this.#keys;
    const orders = this.#orders;
    const values = this.#values;
    const size = values.length;
    let parent = 0;
    for (;;) {
      let least = 2 * parent + 1;
      if (least >= size) break;
      if (least + 1 < size && this.#isBefore(least + 1, least)) least++;
      const leastKey = keys[least] as number;
      if (leastKey > key || (leastKey === key && (orders[least] as number) > order)) break;
      keys[parent] = leastKey;
      orders[parent] = orders[least] as number;
      values[parent] = values[least] as T;
      parent = least;
    }
    keys[parent] = key;
    orders[parent] = order;
    values[parent] = value;
  }

  #isBefore(a: number, b: number): boolean {
    const keyA = this.#keys[a] as number;
    const keyB = this.#keys[b] as number;
    return keyA !== keyB ? keyA < keyB : (this.#orders[a] as number) < (this.#orders[b] as number);
  }
}
