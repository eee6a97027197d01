import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { callSpanIdOf, isSampled, parseTraceparent, rootIdOf, rootSpan, spanIdBelow, traceIdOf } from "../src/index.ts";

const PROGRAMS = 20_000;

describe("ids of spans", () => {
  it("are derived: the same names give the same ids, of the lengths that W3C wants", () => {
    expect(traceIdOf("default", "p")).toMatch(/^[0-9a-f]{32}$/);
    expect(rootIdOf("default", "p")).toMatch(/^[0-9a-f]{16}$/);
    expect(callSpanIdOf({ pool: "m", tenant: "default", callId: "c" })).toMatch(/^[0-9a-f]{16}$/);
    expect(traceIdOf("default", "p")).toBe(traceIdOf("default", "p"));
    // Kept: a service of another version derives the same.
    expect(traceIdOf("default", "p")).toBe("5091e9f92dda8950c9eadf70f4ff526f");
    expect(callSpanIdOf({ pool: "m", tenant: "default", callId: "c" })).toBe("12fe1cf0b4d71866");
  });

  it("differ where names differ, also where they are cut elsewhere", () => {
    const ids = [
      rootIdOf("a", "bc"),
      rootIdOf("ab", "c"),
      callSpanIdOf({ pool: "a", tenant: "b", callId: "c" }),
      callSpanIdOf({ pool: "a", tenant: "c", callId: "b" }),
      spanIdBelow("x", "stay", "e1", 1, 0),
      spanIdBelow("x", "stay", "e1", 1, 1),
      spanIdBelow("x", "stay", "e1", 2, 0),
      spanIdBelow("x", "parked", "e1", 1, 0),
    ];
    expect(new Set(ids).size).toBe(ids.length);
  });
});

describe("sampling", () => {
  it("takes about the share that it is told, of programs, and all or none at the ends", () => {
    const traces = Array.from({ length: PROGRAMS }, (_, index) => traceIdOf("default", `p${index}`));
    const share = (ratio: number) => traces.filter((id) => isSampled(id, ratio)).length / PROGRAMS;
    expect(share(0)).toBe(0);
    expect(share(1)).toBe(1);
    expect(share(0.25)).toBeGreaterThan(0.24);
    expect(share(0.25)).toBeLessThan(0.26);
  });

  it("at a higher share takes all that a lower one takes", () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.string(), share, share, (program, a, b) => {
        const id = traceIdOf("default", program);
        return !isSampled(id, Math.min(a, b)) || isSampled(id, Math.max(a, b));
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
