/** What the paper leaves open, with our reading; those rows that a line of Algorithm 1 shows already are there. */
import { policies } from "../../src/index.ts";
import { coreConfig, ladder } from "../config.ts";
import type { Story } from "../story.ts";
import { type Scenario, scenario } from "./scenario.ts";

/** Completed calls of so many steps each; one after the other. */
function completes(story: Story, from: number, needs: readonly number[]): void {
  story.quietly(() => {
    for (const [i, need] of needs.entries()) story.arrive(`c${from + i}`, { needs: need });
    story.plan();
    story.runAll();
  });
}

const repeated = (times: number, needs: readonly number[]) => Array.from({ length: times }, () => needs).flat();

const ladders: readonly Scenario[] = [
  scenario(
    "gap-calibration",
    "Gap, ranges and quanta: Q1 ends at the 25th percentile of completed calls' service, the others double. 32 calls teach first; a change of less than a fifth changes nothing.",
    coreConfig(policies.plas, { first: 100, levels: 7, factor: 2 }),
    (story) => {
      story.join("e", { batchCallsMax: 8, residentCallsMax: 100, heldCallsMax: 100 });
      story.showLadder();
      completes(story, 0, repeated(7, [4, 8, 12, 16]));
      story.say("28 calls have completed");
      story.showLadder();
      completes(story, 28, [4, 8, 12, 16]);
      story.say("32 calls have completed, a quarter of them with less than 8");
      story.showLadder();
      completes(story, 32, repeated(8, [9, 9, 12, 16]));
      story.say("64 calls have completed, a quarter of them with less than 9");
      story.showLadder();
      completes(story, 64, repeated(16, [2, 2, 2, 2]));
      story.say("128 calls have completed, half of them with 2");
      story.showLadder();
    },
  ),
  scenario(
    "gap-ladder-too-high",
    "Gap, ranges and quanta: a ladder far above all service demotes nobody, so PLAS is first come, first served.",
    [
      coreConfig(policies.plas, [
        { lo: 0, hi: 1_000, quantum: 1_000 },
        { lo: 1_000, hi: Number.POSITIVE_INFINITY, quantum: 2_000 },
      ]),
      coreConfig(policies.fcfs),
    ],
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.chain("long", [9, 9]);
      story.chain("short", [1, 1]);
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "gap-ladder-too-low",
    "Gap, ranges and quanta: a ladder far below all service sinks every call into QK before it has ended, and what comes next begins there: first come, first served again, but for each call's first moments.",
    [
      coreConfig(policies.plas, [
        { lo: 0, hi: 1, quantum: 1 },
        { lo: 1, hi: Number.POSITIVE_INFINITY, quantum: 2 },
      ]),
      coreConfig(policies.fcfs),
    ],
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.chain("long", [9, 9]);
      story.chain("short", [3, 3]);
      story.plan();
      story.runAll();
    },
  ),
];

const ratios: readonly Scenario[] = [
  scenario(
    "gap-ratio-floor",
    "Gap, ratio with little or no service: below the floor it counts as the floor, so the call is promoted after β · floor = 2 · 30, not after 2 · 10.",
    coreConfig(policies.plas, ladder, { beta: 2, betaFloorMs: 30 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 10);
      story.arrive("P1", { program: "P", needs: 1 });
      for (const call of ["a", "b", "c", "d", "f", "g", "h"]) story.arrive(call, { needs: 9 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "gap-no-storm",
    "Gap, W_p and T_p change at completion only: a promoted call that still waits in Q1 is not promoted again at every pass, whatever its ratio; only after its next demotion.",
    coreConfig(policies.plas, ladder, { beta: 1, betaFloorMs: 1 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 10, { waitingMs: 1_000, pathWaitingMs: 1_000 });
      story.arrive("a", { needs: 9 });
      story.arrive("P1", { program: "P", needs: 12 });
      story.plan();
      story.run(3);
      for (const call of ["b", "c"]) story.arrive(call, { needs: 9 });
      story.runAll();
    },
  ),
  scenario(
    "gap-places-of-promoted",
    "Gap, all calls starve in deep overload, and all in Q1 is FCFS again: an engine has places for so many promoted calls (here 1), and who starves longest gets the next one. `old` keeps its place after its demotion at 30, since it starves still; `one` leaves it at 65 to `two`.",
    coreConfig(policies.plas, ladder, { beta: 2, betaFloorMs: 1, promotedShare: 0.05 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 10);
      story.past("Q", 10, { waitingMs: 100, pathWaitingMs: 100 });
      story.past("R", 10);
      for (const [call, program] of Object.entries({ one: "P", old: "Q", two: "R" }))
        story.arrive(call, { program, needs: 15 });
      for (const call of ["a", "b"]) story.arrive(call, { needs: 10 });
      story.plan();
      story.run(25);
      for (const call of ["c", "d"]) story.arrive(call, { needs: 10 });
      story.runAll();
    },
  ),
  scenario(
    "gap-critical-path-waiting",
    "Gap, W_p under wide fan-outs: threads that waited 0, 10, 20 and 30 make W_p 30 and not 60, since T_p is a maximum, too. So `join` is promoted at 30 + 10 = β T_p = 4 · 10, and not at once.",
    coreConfig(policies.atlas, ladder, { beta: 4, betaFloorMs: 1 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      const branches = ["a", "b", "c", "d"].map((call) => ({ call, needs: 10, thread: call }));
      story.program("P", [...branches, { call: "join", needs: 1, after: ["a", "b", "c", "d"] }]);
      story.plan();
      story.run(35);
      story.showTable("P");
      for (const call of ["x", "y"]) story.arrive(call, { needs: 8 });
      story.runAll();
      story.showTable("P");
    },
  ),
  scenario(
    "gap-two-counters",
    "Gap, promotion zeroes the model time that the table still needs: the call's 25 steps are in the table, though 10 of them came before its promotion.",
    coreConfig(policies.mlfq, ladder, { beta: 1, betaFloorMs: 1 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.arrive("long", { program: "P", needs: 25 });
      story.plan();
      story.run(9);
      for (const call of ["a", "b"]) story.arrive(call, { needs: 9 });
      story.runAll();
      story.showTable("P");
    },
  ),
];

const orders: readonly Scenario[] = [
  scenario(
    "gap-order-of-a-pass",
    "Gap, order inside a pass: demote, finish, admit. At 10 `a` comes to Q2's tail before `P1`, which `P0`'s completion releases into Q2 in the same moment.",
    coreConfig(policies.plas),
    (story) => {
      story.join("e", { batchCallsMax: 2 });
      story.arrive("a", { needs: 12 });
      story.chain("P", [10, 5]);
      story.plan();
      story.run(5);
      for (const call of ["x", "y"]) story.arrive(call, { needs: 6 });
      story.runAll();
    },
  ),
  scenario(
    "gap-service-under-batching",
    "Gap, unit of service: wall time on the engine. Two calls that share a batch for 4 steps are charged 4 each, prefill included.",
    coreConfig(policies.plas),
    (story) => {
      story.join("e", { batchCallsMax: 2 });
      story.arrive("a", { needs: 4, tokens: 300 });
      story.arrive("b", { needs: 4 });
      story.plan();
      story.runAll();
    },
  ),
  ...(["arrival", "late"] as const).map((binding) =>
    scenario(
      `gap-binding-${binding}`,
      binding === "arrival"
        ? "Gap, binding: Alg. 2 gives a call its engine when it arrives, so `d` waits for `b` on e2 while e1 has nothing to do."
        : "Gap, binding, the option: the same calls, taken from the pool's queue by the engine that has room.",
      coreConfig(policies.plas, ladder, { binding }),
      (story) => {
        for (const engine of ["e1", "e2"]) story.join(engine, { batchCallsMax: 1 });
        for (const [call, needs] of [
          ["a", 2],
          ["b", 9],
          ["c", 2],
          ["d", 2],
        ] as const)
          story.arrive(call, { needs });
        story.plan();
        story.runAll();
      },
    ),
  ),
];

const graphs: readonly Scenario[] = [
  scenario(
    "gap-scalar-or-graph",
    "Gap, eq. 2: under `atlas` the child of the short branch inherits the program's longest chain, 20: Q2; under `atlas-dag` that of its own parent, 3: Q1. A parent that the table does not know stands for the whole past.",
    [coreConfig(policies.atlas), coreConfig(policies["atlas-dag"])],
    (story) => {
      story.join("e", { batchCallsMax: 2 });
      story.arrive("long", { program: "P", needs: 20 });
      story.arrive("short", { program: "P", needs: 3 });
      story.plan();
      story.runAll();
      story.arrive("child", { program: "P", needs: 2, after: ["short"] });
      story.arrive("unknown", { program: "P", needs: 1, after: ["short", "never-seen"] });
      story.plan();
      story.runAll();
      story.arrive("grandchild", { program: "P", after: ["child"] });
      story.showTable("P");
    },
  ),
  scenario(
    "gap-redelivery",
    "Gap, the sum of PLAS is not idempotent: updates are keyed by the call, so one that is read, run and reported a second time counts once.",
    coreConfig(policies.plas),
    (story) => {
      story.join("e");
      for (const _ of ["first", "again"]) {
        story.arrive("P0", { program: "P", needs: 7 });
        story.plan();
        story.runAll();
        story.showTable("P");
      }
    },
  ),
];

export const gaps: readonly Scenario[] = [...ladders, ...ratios, ...orders, ...graphs];
