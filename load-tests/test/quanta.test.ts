import { describe, expect, test } from "vitest";
import { Quanta } from "../src/preemption/quanta.ts";

const STEP_MS = 10;
const WINDOW = 8;

/** Plays windows of equal steps. @param stepsIn per window, of each call. */
function played(quantumMs: number, windows: readonly Record<string, number>[], isContended = true): Quanta {
  const quanta = new Quanta(quantumMs);
  const service = new Map<string, number>();
  let steps = 0;
  for (const window of windows) {
    steps += WINDOW;
    for (const [call, count] of Object.entries(window)) service.set(call, (service.get(call) ?? 0) + count * STEP_MS);
    const calls = [...service].map(([call, serviceMs]) => ({
      ...{ call: `t/${call}`, attempt: 1, state: "running" as const, serviceMs },
      ...{ contextTokens: 1, promptTokens: 1, completionTokens: 1 },
    }));
    const counters = { steps, stepCalls: steps, busyMs: steps * STEP_MS, tokens: steps, batchMax: 1 };
    quanta.report({ calls, counters }, isContended);
  }
  return quanta;
}

describe("steps behind a quantum", () => {
  test("are those to the end of the window in which it was used up, and those of the next ones", () => {
    // 30 steps of 10 ms: used up with the 6th step of the 4th window, so 2 follow in it.
    expect(played(300, [{ a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }, { a: 0 }]).left).toEqual([
      { call: "t/a", stepsLate: 2 },
    ]);
    expect(played(300, [{ a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }, { a: 1 }]).left).toEqual([
      { call: "t/a", stepsLate: 3 },
    ]);
    expect(played(300, [{ a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }, { a: 0 }]).left).toEqual([
      { call: "t/a", stepsLate: 10 },
    ]);
  });

  test("are counted from a window that the call joined late", () => {
    expect(played(30, [{ a: 4 }, { a: 0 }]).left).toEqual([{ call: "t/a", stepsLate: 1 }]);
  });

  test("are nothing of calls that nobody waits behind, or that have not left", () => {
    expect(played(300, [{ a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }, { a: 0 }], false).left).toEqual([]);
    expect(played(300, [{ a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }, { a: 8 }]).left).toEqual([]);
  });
});
