import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { canonical, keyOf } from "../src/paper/spec.ts";
import { RunStore } from "../src/paper/store.ts";
import { fakeRun, fakeSpec } from "./paper-fakes.ts";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "paper-store-"));
  path = join(folder, "below", "runs.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true }));

function stored(seed: number) {
  const spec = fakeSpec({ seed });
  return { key: keyOf(spec, "frozen"), code: "code", spec, result: fakeRun([0.1 * seed]) };
}

describe("stored runs", () => {
  test("survive the process", () => {
    const store = new RunStore(path);
    store.append(stored(1));
    store.append(stored(2));
    const again = new RunStore(path);
    expect(again.size).toBe(2);
    expect(again.get(stored(2).key)).toEqual(stored(2));
    expect(again.get("another")).toBeUndefined();
  });

  test("a last line that was torn is cut off, and the next one is whole", () => {
    const store = new RunStore(path);
    store.append(stored(1));
    appendFileSync(path, JSON.stringify(stored(2)).slice(0, 40));
    const again = new RunStore(path);
    expect(again.size).toBe(1);
    again.append(stored(3));
    expect(new RunStore(path).size).toBe(2);
    expect(readFileSync(path, "utf8").trimEnd().split("\n")).toHaveLength(2);
  });

  test.each<[string, object]>([
    ["something else", { nonsense: 1 }],
    ["a run without results", { ...stored(2), result: {} }],
    ["a run without its tenths", { ...stored(2), result: { ...stored(2).result, deciles: null } }],
    ["a run without its engine", { ...stored(2), result: { ...stored(2).result, engine: undefined } }],
  ])("a line that is %s is an error that names it", (_what, value) => {
    new RunStore(path).append(stored(1));
    appendFileSync(path, `${JSON.stringify(value)}\n`);
    expect(() => new RunStore(path)).toThrow(/runs\.jsonl:2 is no stored run/);
  });
});

describe("what a run is known by", () => {
  test("does not depend on the order of its fields, nor on absent ones", () => {
    const spec = fakeSpec({ seed: 1 });
    const turned = Object.fromEntries(Object.entries(spec).reverse());
    expect(canonical(turned)).toBe(canonical(spec));
    expect(canonical({ a: undefined, b: 1 })).toBe(canonical({ b: 1 }));
  });

  test("changes with every part of the specification, and with the frozen configuration", () => {
    const keys = [
      keyOf(fakeSpec({ seed: 1 }), "a"),
      keyOf(fakeSpec({ seed: 2 }), "a"),
      keyOf(fakeSpec({ seed: 1, ratePerS: 2 }), "a"),
      keyOf(fakeSpec({ seed: 1, changes: { beta: "never" } }), "a"),
      keyOf(fakeSpec({ seed: 1, changes: { beta: 8 } }), "a"),
      keyOf(fakeSpec({ seed: 1 }), "b"),
    ];
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("a number that JSON would turn into null is refused", () => {
    expect(() => canonical({ beta: Number.POSITIVE_INFINITY })).toThrow(/Infinity/);
  });
});
