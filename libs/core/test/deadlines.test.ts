import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Call } from "../src/call.ts";
import { Deadlines } from "../src/deadlines.ts";
import type { CallId } from "../src/index.ts";

/** What the deadlines look at. */
function call(deadlineAt: number, id = String(deadlineAt)): Call {
  return { id, deadlineAt, deadlineBucket: undefined, deadlinePlace: 0 } as unknown as Call;
}

function popAll(deadlines: Deadlines, at: number): CallId[] {
  const out: CallId[] = [];
  for (let due = deadlines.popDue(at); due; due = deadlines.popDue(at)) out.push(due.id);
  return out;
}

describe("deadlines", () => {
  it("come in order, none before its time, whatever was added before or after", () => {
    const deadlines = new Deadlines();
    for (const at of [5_300, 1_200, 90_000, 1_900, 1_100, 0]) deadlines.add(call(at));
    expect(deadlines.nextAt).toBe(0);
    expect(popAll(deadlines, 1_500)).toEqual(["0", "1100", "1200"]);
    expect(deadlines.nextAt).toBe(1_900);
    deadlines.add(call(1_600));
    expect(deadlines.nextAt).toBe(1_600);
    expect(popAll(deadlines, 6_000)).toEqual(["1600", "1900", "5300"]);
    expect(deadlines.nextAt).toBe(90_000);
  });

  it("of calls that ended before take no room and wake nobody", () => {
    const deadlines = new Deadlines();
    const calls = Array.from({ length: 1_000 }, (_, i) => call(10 * i));
    for (const one of calls) deadlines.add(one);
    for (const one of calls) deadlines.remove(one);
    expect([deadlines.size, deadlines.nextAt]).toEqual([0, undefined]);
    deadlines.add(call(7));
    expect([deadlines.size, deadlines.nextAt, popAll(deadlines, 7)]).toEqual([1, 7, ["7"]]);
  });

  it("agree with a sorted list, whatever is added, ended and passes", () => {
    const step = fc.record({ kind: fc.constantFrom("add", "add", "end", "pass"), n: fc.nat({ max: 4_000 }) });
    const property = fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const deadlines = new Deadlines();
      let live: Call[] = [];
      let at = 0;
      for (const [i, { kind, n }] of steps.entries()) {
        if (kind === "add") {
          // Some deadlines have passed before their call is read.
          const added = call(at + n - 500, `c${i}`);
          deadlines.add(added);
          live.push(added);
        } else if (kind === "end") {
          const [ended] = live.splice(n % Math.max(1, live.length), 1);
          if (ended) deadlines.remove(ended);
        } else {
          at += n / 4;
          const due = live.filter(({ deadlineAt }) => deadlineAt <= at);
          const ids = new Set(live.map(({ id }) => id));
          const popped = popAll(deadlines, at).filter((id) => ids.has(id));
          expect(popped.toSorted()).toEqual(due.map(({ id }) => id).toSorted());
          const times = popped.map((id) => due.find((other) => other.id === id)?.deadlineAt ?? 0);
          expect(times).toEqual(times.toSorted((a, b) => a - b));
          live = live.filter(({ deadlineAt }) => deadlineAt > at);
        }
        const first = Math.min(...live.map(({ deadlineAt }) => deadlineAt));
        if (live.length > 0) expect(deadlines.nextAt).toBeLessThanOrEqual(first);
        expect(deadlines.size).toBeGreaterThanOrEqual(live.length);
      }
    });
    fc.assert(property, { numRuns: 500 });
  });
});
