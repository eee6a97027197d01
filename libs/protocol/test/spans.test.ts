import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { callSpanIdOf, isSampled, parseTraceparent, rootIdOf, rootSpan, spanIdBelow, traceIdOf } from "../src/index.ts";

const PROGRAMS = 20_000;
const PARENTS = 1_000;

describe("ids of spans", () => {
  it("are derived: the same names give the same ids, of the lengths that W3C wants", () => {
    expect(traceIdOf("default", "p")).toMatch(/^[0-9a-f]{32}$/);
    expect(rootIdOf(traceIdOf("default", "p"))).toMatch(/^[0-9a-f]{16}$/);
    expect(callSpanIdOf(traceIdOf("default", "p"), { pool: "m", tenant: "default", callId: "c" })).toMatch(
      /^[0-9a-f]{16}$/,
    );
    expect(traceIdOf("default", "p")).toBe(traceIdOf("default", "p"));
    // Kept: a service of another version derives the same.
    expect(traceIdOf("default", "p")).toBe("5091e9f92dda8950c9eadf70f4ff526f");
    expect(callSpanIdOf(traceIdOf("default", "p"), { pool: "m", tenant: "default", callId: "c" })).toBe(
      "18c8b1f205ccd788",
    );
  });

  it("differ where names differ, also where they are cut elsewhere", () => {
    const ids = [
      rootIdOf(traceIdOf("a", "bc")),
      rootIdOf(traceIdOf("ab", "c")),
      callSpanIdOf(traceIdOf("b", "p"), { pool: "a", tenant: "b", callId: "c" }),
      callSpanIdOf(traceIdOf("b", "p"), { pool: "c", tenant: "b", callId: "a" }),
      spanIdBelow("x", "stay", "e1", 1, 0),
      spanIdBelow("x", "stay", "e1", 1, 1),
      spanIdBelow("x", "stay", "e1", 2, 0),
      spanIdBelow("x", "parked", "e1", 1, 0),
    ];
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("below one parent and below many are spread over all 64 bits, however alike the names are", () => {
    const ids: string[] = [];
    for (let parent = 0; parent < PARENTS; parent++) {
      const parentId = parent.toString(16).padStart(16, "0");
      for (const kind of ["stay", "parked"])
        for (const engine of ["e1", "e2", "1e"])
          for (let number = 0; number < 20; number++) ids.push(spanIdBelow(parentId, kind, engine, number % 3, number));
    }
    expect(ids.filter((id) => !/^[0-9a-f]{16}$/.test(id))).toEqual([]);
    expect(new Set(ids).size).toBe(ids.length);
    // Each digit takes each of 16 values as often as chance would have it, within six deviations.
    const mean = ids.length / 16;
    for (let digit = 0; digit < 16; digit++) {
      const counts = new Map<string, number>();
      for (const id of ids) counts.set(id.charAt(digit), (counts.get(id.charAt(digit)) ?? 0) + 1);
      expect(counts.size).toBe(16);
      for (const count of counts.values()) expect(Math.abs(count - mean)).toBeLessThan(6 * Math.sqrt(mean));
    }
    // Either half alone repeats about n² / 2³³ times.
    for (const from of [0, 8]) {
      const halves = new Set(ids.map((id) => id.slice(from, from + 8)));
      expect(ids.length - halves.size).toBeLessThan(10 * (1 + ids.length ** 2 / 2 ** 33));
    }
  });
});

describe("sampling", () => {
  it("takes about the share that it is told, of programs, and all or none at the ends", () => {
    const programs = Array.from({ length: PROGRAMS }, (_, index) => `p${index}`);
    const share = (ratio: number) =>
      programs.filter((program) => isSampled("default", program, ratio)).length / PROGRAMS;
    expect(share(0)).toBe(0);
    expect(share(1)).toBe(1);
    expect(share(0.25)).toBeGreaterThan(0.24);
    expect(share(0.25)).toBeLessThan(0.26);
  });

  it("at a higher share takes all that a lower one takes", () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.string(), share, share, (program, a, b) => {
        const isIn = (ratio: number) => isSampled("default", program, ratio);
        return !isIn(Math.min(a, b)) || isIn(Math.max(a, b));
      }),
    );
  });
});

describe("a traceparent", () => {
  it("gives its trace and span", () => {
    expect(parseTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).toEqual({
      traceId: "0af7651916cd43dd8448eb211c80319c",
      spanId: "b7ad6b7169203331",
    });
  });

  it.each([
    undefined,
    "",
    "garbage",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
  ])("%s is none", (text) => expect(parseTraceparent(text)).toBeUndefined());
});

it("a root is equal whoever sends it", () => {
  expect(rootSpan("default", "p", 1_700_000_000_000.25)).toEqual(rootSpan("default", "p", 1_700_000_000_000.25));
});
