import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Call } from "../src/call.ts";
import { DueHeap } from "../src/heap.ts";
import { byRank, CallList, LevelQueues } from "../src/queues.ts";

/** What a list looks at. */
function call(order: number, { rank = 0, level = 0 } = {}): Call {
  return { id: `c${order}`, order, rank, level, list: undefined } as unknown as Call;
}

const orders = (list: Iterable<Call>) => [...list].map(({ order }) => order);

describe("a list of calls", () => {
  it("is ordered by rank and then by enqueue number, wherever a call is put and whichever leaves", () => {
    const step = fc.record({ inserts: fc.boolean(), rank: fc.nat({ max: 3 }), pick: fc.nat() });
    const property = fc.property(fc.array(step, { maxLength: 1_500, size: "max" }), (steps) => {
      const list = new CallList();
      const expected: Call[] = [];
      for (const [i, { inserts, rank, pick }] of steps.entries()) {
        if (inserts || expected.length === 0) {
          // Mostly later than all others, sometimes back at an old place.
          const added = call(pick % 4 === 0 ? -i : i, { rank });
          list.insert(added);
          expected.push(added);
        } else {
          const [removed] = expected.splice(pick % expected.length, 1);
          if (removed) list.remove(removed);
          expect(removed?.list).toBeUndefined();
        }
        expect(list.size).toBe(expected.length);
      }
      expected.sort(byRank);
      expect(orders(list)).toEqual(orders(expected));
      expect(list.head).toBe(expected[0]);
    });
    fc.assert(property, { numRuns: 100 });
  });

  it("keeps its order beyond the size of one chunk, filled from the middle", () => {
    const list = new CallList();
    const even = Array.from({ length: 1_000 }, (_, i) => call(2 * i));
    const odd = Array.from({ length: 1_000 }, (_, i) => call(2 * i + 1));
    for (const one of [...even, ...odd.toReversed()]) list.insert(one);
    expect(orders(list)).toEqual(Array.from({ length: 2_000 }, (_, i) => i));
    for (const one of even) list.remove(one);
    expect(orders(list)).toEqual(odd.map(({ order }) => order));
  });

  it("is walked until the visitor has seen enough", () => {
    const list = new CallList();
    for (let i = 0; i < 5; i++) list.insert(call(i));
    const seen: number[] = [];
    const visit = (one: Call) => {
      seen.push(one.order);
      return one.order < 2;
    };
    expect(list.walk(visit)).toBe(false);
    expect(seen).toEqual([0, 1, 2]);
    expect(list.walk(() => true)).toBe(true);
  });

  it("takes no call that is in a list, and gives back none that is in another", () => {
    const [first, second] = [new CallList(), new CallList()];
    const one = call(1);
    first.insert(one);
    expect(() => second.insert(one)).toThrow(/in a list already/);
    expect(() => second.remove(one)).toThrow(/not in this list/);
    first.remove(one);
    expect(() => first.remove(one)).toThrow(/not in this list/);
  });
});

describe("queues by level", () => {
  it("are walked and emptied from Q1 to QK", () => {
    const queues = new LevelQueues(3);
    for (const [order, level] of [
      [0, 2],
      [1, 0],
      [2, 1],
      [3, 0],
    ] as const)
      queues.at(level).insert(call(order, { level }));
    expect(queues.size).toBe(4);
    expect(orders(queues)).toEqual([1, 3, 2, 0]);
    const seen: number[] = [];
    queues.walk((one) => {
      seen.push(one.order);
      return seen.length < 3;
    });
    expect(seen).toEqual([1, 3, 2]);
    expect(orders(queues.takeAll())).toEqual([1, 3, 2, 0]);
    expect(queues.size).toBe(0);
    expect(() => queues.at(3)).toThrow(/no level 3/);
  });
});

describe("the heap of due times", () => {
  it("gives equal times in the order they went in", () => {
    const heap = new DueHeap<string>();
    for (const [at, value] of [
      [2, "c"],
      [1, "a"],
      [2, "d"],
      [1, "b"],
      [0, "z"],
    ] as const)
      heap.push(at, value);
    const out: string[] = [];
    for (let value = heap.popDue(2); value !== undefined; value = heap.popDue(2)) out.push(value);
    expect(out).toEqual(["z", "a", "b", "c", "d"]);
  });

  it("gives nothing that is not due", () => {
    const heap = new DueHeap<number>();
    for (let i = 0; i < 100; i++) heap.push((i * 37) % 100, (i * 37) % 100);
    expect(heap.popDue(-1)).toBeUndefined();
    expect(heap.nextAt).toBe(0);
    const out: number[] = [];
    for (let value = heap.popDue(49.5); value !== undefined; value = heap.popDue(49.5)) out.push(value);
    expect(out).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect([heap.size, heap.nextAt]).toEqual([50, 50]);
  });

  it("gives what is wanted in order, whatever is put in, taken out, and dropped because nobody wants it", () => {
    const step = fc.record({ kind: fc.constantFrom("push", "push", "pop", "forget"), at: fc.nat({ max: 20 }) });
    const property = fc.property(fc.array(step, { maxLength: 300, size: "max" }), (steps) => {
      const heap = new DueHeap<number>();
      let wanted: { at: number; value: number }[] = [];
      const isWanted = (value: number) => wanted.some((other) => other.value === value);
      const pop = (at: number) => {
        for (;;) {
          const value = heap.popDue(at);
          if (value === undefined || isWanted(value)) return value;
        }
      };
      for (const [value, { kind, at }] of steps.entries()) {
        if (kind === "push") {
          heap.push(at, value);
          wanted.push({ at, value });
          // Sorting is stable: equal times stay in the order they went in.
          wanted.sort((a, b) => a.at - b.at);
          heap.tidy(isWanted);
        } else if (kind === "forget") wanted = wanted.filter((other) => other.value % 3 !== at % 3);
        else {
          const due = wanted[0] && wanted[0].at <= at ? wanted[0].value : undefined;
          expect(pop(at)).toBe(due);
          wanted = wanted.filter((other) => other.value !== due);
        }
      }
      for (const { value } of wanted) expect(pop(20)).toBe(value);
      expect(pop(20)).toBeUndefined();
      expect(heap.size).toBe(0);
    });
    fc.assert(property, { numRuns: 300 });
  });

  it("is not filled by what nobody wants any more", () => {
    const heap = new DueHeap<number>();
    for (let i = 0; i < 10_000; i++) {
      heap.push(1e9 - i, i);
      heap.tidy((value) => value > i - 100);
    }
    expect(heap.size).toBeLessThanOrEqual(201);
  });
});
