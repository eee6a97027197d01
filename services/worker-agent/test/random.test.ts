import { describe, expect, it } from "vitest";
import { World } from "./support/world.ts";

const SEEDS = 150;
const TEST_MS_MAX = 30_000;
const EVENTS = 250;
const CALLS = 12;
const CALM_EVENTS_MAX = 4_000;

function live(seed: number): World {
  const world = new World(seed);
  for (let i = 0; i < CALLS; i++) world.calls.set(`t/c${i}${i % 3 === 0 ? "i" : "f"}`, { attempt: 1, fence: 0 });
  for (let i = 0; i < EVENTS; i++) world.next();
  world.calm = true;
  for (let i = 0; i < CALM_EVENTS_MAX; i++) {
    const open = [...world.calls.keys()].filter((key) => !world.terminal(key));
    if (open.length === 0 && world.idle) return world;
    if (i % 40 === 0) world.plan();
    else if (world.idle || i % 7 === 0) world.wait();
    else world.next();
  }
  const open = [...world.calls.keys()].filter((key) => !world.terminal(key));
  throw new Error(`not at rest; without outcome: ${open.join(", ")}`);
}

describe("whatever order plans, answers and silences come in", () => {
  it(
    "one step of planned calls runs at a time, contexts stay within their limits, no token is skipped, and each call ends once",
    () => {
      const counts = { outs: 0, ins: 0, cached: 0 };
      for (let seed = 1; seed <= SEEDS; seed++) {
        try {
          const world = live(seed);
          const report = world.rig.report();
          expect(report.calls).toEqual([]);
          expect(report.kv).toEqual({ running: 0, parked: 0, retained: 0, host: 0 });
          for (const name of ["outs", "ins", "cached"] as const) counts[name] += world.engine.counts[name];
        } catch (cause) {
          throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
        }
      }
      // It was about something: contexts went out, came back, and were gone on from.
      expect(counts.ins).toBeGreaterThan(SEEDS);
      expect(counts.outs).toBeGreaterThan(counts.ins);
      expect(counts.cached).toBeGreaterThan(SEEDS);
    },
    TEST_MS_MAX,
  );
});
