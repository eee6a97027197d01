import { describe, expect, it } from "vitest";
import type { Call } from "../src/call.ts";
import { IN_NO_ROW, StarvingRow } from "../src/starving-row.ts";

const call = (id: number) => ({ id, starvingOrder: IN_NO_ROW }) as unknown as Call;

function taken(row: StarvingRow): number[] {
  const orders: number[] = [];
  for (let first = row.first(); first; first = row.first()) {
    orders.push(first.starvingOrder);
    row.remove(first);
  }
  return orders;
}

describe("the row of starving calls", () => {
  it("is in the order of their numbers, whatever came and left in between", () => {
    const row = new StarvingRow();
    const calls = Array.from({ length: 5_000 }, (_, id) => call(id));
    for (const [order, each] of calls.entries()) row.add(each, 1 + order);
    for (const each of calls.slice(100, 4_000)) expect(row.remove(each)).toBeDefined();
    expect(row.first()?.starvingOrder).toBe(1);
    for (const each of calls.slice(0, 50)) row.remove(each);
    // From another row: due before all that are here.
    row.add(call(-1), 0);
    row.add(call(5_001), 5_001);
    expect(row.size).toBe(50 + 1_000 + 2);
    const left = [...Array(50).keys()].map((i) => 51 + i);
    const late = [...Array(1_000).keys()].map((i) => 4_001 + i);
    expect(taken(row)).toEqual([0, ...left, ...late, 5_001]);
    expect([row.size, row.first(), row.remove(call(7))]).toEqual([0, undefined, undefined]);
  });

  it("takes a call again that has left", () => {
    const row = new StarvingRow();
    const [a, b] = [call(1), call(2)];
    row.add(a, 1);
    row.add(b, 2);
    row.remove(a);
    row.add(a, 3);
    expect(taken(row)).toEqual([2, 3]);
  });

  it("is the only one that a call is in", () => {
    const [row, other] = [new StarvingRow(), new StarvingRow()];
    const a = call(1);
    row.add(a, 1);
    expect(() => other.add(a, 2)).toThrow("is in a row already");
    expect(() => other.remove(a)).toThrow("is in another row");
    expect(row.remove(a)).toBe(1);
    expect([a.starvingOrder, a.starvingBefore, a.starvingAfter]).toEqual([IN_NO_ROW, undefined, undefined]);
  });
});
