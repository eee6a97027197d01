import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { IdTable } from "../src/id-table.ts";

interface Named {
  readonly id: string;
}

const ids = (values: Iterable<Named>) => [...values].map(({ id }) => id).sort();

/** The inverse of an odd number, modulo 2³². */
function inverse(odd: number): number {
  let found = odd;
  for (let i = 0; i < 5; i++) found = Math.imul(found, 2 - Math.imul(odd, found));
  return found;
}

const MULTIPLIER = 0x9e3779b1;

/** Ids of eight characters whose last four are chosen so that all have one hash, as somebody could who reads the code. */
function sameHash(count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const first = String(1_000 + i);
    const word = [...first].reduce((sum, char, at) => sum | (char.charCodeAt(0) << (8 * at)), 0);
    const before = Math.imul(8 ^ word, MULTIPLIER) ^ (8 >>> 13);
    const second = before ^ Math.imul(0x12345678 ^ (before >>> 13), inverse(MULTIPLIER));
    return first + String.fromCharCode(...[0, 8, 16, 24].map((shift) => (second >>> shift) & 255));
  });
}

describe("the table of values by id", () => {
  it("finds, drops and lists what a Map would, whatever is put in and taken out", () => {
    const step = fc.record({ key: fc.integer({ min: 0, max: 2_000 }), adds: fc.integer({ min: 0, max: 2 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 4_000, size: "max" }), (steps) => {
        const table = new IdTable<Named>();
        const model = new Map<string, Named>();
        for (const { key, adds } of steps) {
          const id = `t/${key}`;
          const known = model.get(id);
          expect(table.get(id)).toBe(known);
          if (known === undefined) {
            const value = { id };
            table.add(value);
            model.set(id, value);
          } else if (adds === 0) {
            expect(table.delete(known)).toBe(true);
            model.delete(id);
          }
          expect(table.size).toBe(model.size);
        }
        expect(ids(table.values())).toEqual([...model.keys()].sort());
        for (const [id, value] of model) expect(table.get(id)).toBe(value);
      }),
      { numRuns: 30 },
    );
  });

  it("does not take another value of the same id for the one that is there", () => {
    const table = new IdTable<Named>();
    const value = { id: "t/a" };
    table.add(value);
    expect(table.delete({ id: "t/a" })).toBe(false);
    expect(table.get("t/a")).toBe(value);
    expect(table.delete(value)).toBe(true);
    expect(table.delete(value)).toBe(false);
    expect(table.size).toBe(0);
  });

  it("holds ids of any characters and lengths apart", () => {
    const table = new IdTable<Named>();
    const names = [
      "",
      "a",
      "ab",
      "ba",
      "abcd",
      "abcde",
      "ü/€",
      "ü/€€",
      "😀",
      "\u0000",
      "\u0000\u0000",
      "a".repeat(500),
    ];
    for (const id of names) table.add({ id });
    for (const id of names) expect(table.get(id)?.id).toBe(id);
    expect(table.get("abc")).toBeUndefined();
    expect(ids(table.values())).toEqual([...names].sort());
  });

  it("stays whole when somebody chooses many ids of one hash", () => {
    const names = sameHash(500);
    const table = new IdTable<Named>();
    const values = names.map((id) => ({ id }));
    for (const value of values) table.add(value);
    // More than a look-up visits: this many do have one hash.
    expect(table.crowdedCount).toBeGreaterThan(400);
    for (const value of values) expect(table.get(value.id)).toBe(value);
    for (const value of values.filter((_, i) => i % 3 !== 0)) expect(table.delete(value)).toBe(true);
    for (const [i, value] of values.entries()) expect(table.get(value.id)).toBe(i % 3 === 0 ? value : undefined);
    expect(table.size).toBe(167);
    for (let i = 0; i < 20_000; i++) table.add({ id: `t/${i}` });
    expect([...table.values()]).toHaveLength(20_167);
    for (const value of values.filter((_, i) => i % 3 === 0)) expect(table.get(value.id)).toBe(value);
  });

  it("shows page after page each value that stays, once, whatever else comes and goes", () => {
    const step = fc.record({ max: fc.integer({ min: 1, max: 40 }), key: fc.integer({ min: 0, max: 400 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 200 }), fc.boolean(), (steps, isCrowded) => {
        const table = new IdTable<Named>();
        const staying = isCrowded ? sameHash(150) : Array.from({ length: 300 }, (_, i) => `s/${i}`);
        for (const id of staying) table.add({ id });
        const passing = new Map<string, Named>();
        const seen: string[] = [];
        let from: string | undefined;
        for (let turn = 0; ; turn++) {
          const { max, key } = steps[turn % steps.length] as { max: number; key: number };
          const { values, next } = table.page(from, max);
          expect(values.length).toBeLessThanOrEqual(max);
          seen.push(...ids(values).filter((id) => !id.startsWith("p/")));
          if (next === undefined) break;
          from = next;
          const id = `p/${key}`;
          const known = passing.get(id);
          if (known) table.delete(known);
          else table.add({ id });
          if (known) passing.delete(id);
          else passing.set(id, table.get(id) as Named);
        }
        expect(seen.sort()).toEqual([...staying].sort());
      }),
      { numRuns: 60 },
    );
  });
});
