/** One scenario for each line of Algorithm 1 (paper §4.2.2). */
import { policies } from "../../src/index.ts";
import { coreConfig, ladder } from "../config.ts";
import { type Scenario, scenario } from "./scenario.ts";

const plas = coreConfig(policies.plas);

const arrivals: readonly Scenario[] = [
  scenario(
    "alg1-enter-level",
    "Alg. 1, arrivals: a call enters the level whose half-open range holds its program's service: 0 and 9 Q1, 10 and 29 Q2, 30 and 300 Q3.",
    plas,
    (story) => {
      for (const attained of [0, 9, 10, 29, 30, 300]) {
        story.past(`P${attained}`, attained);
        story.arrive(`c${attained}`, { program: `P${attained}` });
      }
      story.join("e", { batchCallsMax: 1 });
      story.plan();
    },
  ),
  scenario(
    "alg1-fcfs-inside-level",
    "Alg. 1, batch: inside a level first come, first served; how much its program had before counts only for the level.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 2 });
      for (const [name, attained] of [
        ["P", 29],
        ["Q", 10],
        ["R", 20],
      ] as const) {
        story.past(name, attained);
        story.arrive(`${name}0`, { program: name, needs: 3 });
      }
      story.plan();
      story.runAll();
    },
  ),
];

const moves: readonly Scenario[] = [
  scenario(
    "alg1-quantum",
    "Alg. 1, demotion: at 10 of Q1's quantum a call goes to the tail of Q2, behind who waits there; there it has a fresh quantum of 20.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("Q", 10);
      story.arrive("first", { needs: 40 });
      story.plan();
      story.run(5);
      story.arrive("inQ2", { program: "Q", needs: 25 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "alg1-enters-with-whole-quantum",
    "Alg. 1, arrivals: a call that enters Q2 at 25 of [10, 30) has Q2's whole quantum of 20, not what is left of the range.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 25);
      story.arrive("c", { program: "P", needs: 21 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "alg1-last-level",
    "Alg. 1, demotion from QK (gap): the call stays at its place with a fresh quantum, before who came to QK after it.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 30);
      story.past("Q", 30);
      story.arrive("first", { program: "P", needs: 90 });
      story.arrive("second", { program: "Q", needs: 1 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "alg1-finish",
    "Alg. 1, completion: the table gets the call's service and waiting, and the program's next call enters by them: Q1, Q1, Q2, Q3.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.chain("P", [4, 6, 20, 1]);
      story.plan();
      story.runAll();
      story.showTable("P");
    },
  ),
  scenario(
    "alg1-promotion",
    "Alg. 1, promotion when W_p + W_c ≥ β (T_p + T_c): first 5 + 15 = 2 (10 + 0) at 15; then with W_c and T_c from zero, 5 + (5 + 30) = 2 (10 + 10) at 60. `late` enters Q1 after it and runs after it; the table keeps all.",
    coreConfig(policies.plas, ladder, { beta: 2, betaFloorMs: 1 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 10, { waitingMs: 5, pathWaitingMs: 5 });
      story.arrive("P1", { program: "P", needs: 15 });
      for (const call of ["a", "b"]) story.arrive(call, { needs: 10 });
      story.plan();
      story.run(25);
      for (const call of ["c", "d", "f", "g"]) story.arrive(call, { needs: 10 });
      story.run(40);
      story.arrive("late", { needs: 1 });
      story.runAll();
      story.showTable("P");
    },
  ),
  scenario(
    "alg1-promotion-later",
    "Alg. 1, promotion of a call that was served meanwhile: due at 20 by what it arrived with, but 14 < 2 (10 + 6) then; looked at again at 38, when 32 = 2 (10 + 6).",
    coreConfig(policies.plas, ladder, { beta: 2, betaFloorMs: 1 }),
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("P", 10);
      story.arrive("P1", { program: "P", needs: 15 });
      story.plan();
      story.run(5);
      for (const call of ["a", "b", "c", "d", "f"]) story.arrive(call, { needs: 10 });
      story.runAll();
    },
  ),
];

const batches: readonly Scenario[] = [
  scenario(
    "alg1-strict-stop",
    "Alg. 1, batch: the walk stops at the first call that does not fit, though a smaller one behind it would.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 3, kvBlocks: 10 });
      story.arrive("half", { tokens: 49, needs: 1 });
      story.arrive("large", { tokens: 59, needs: 1 });
      story.arrive("small", { tokens: 9, needs: 1 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "alg1-skip",
    "Alg. 1, batch, the option (gap): the walk passes by the call that does not fit; it keeps its place for the next plan.",
    coreConfig(policies.plas, ladder, { misfit: "skip" }),
    (story) => {
      story.join("e", { batchCallsMax: 3, kvBlocks: 10 });
      story.arrive("half", { tokens: 49, needs: 1 });
      story.arrive("large", { tokens: 59, needs: 1 });
      story.arrive("small", { tokens: 9, needs: 1 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "alg1-preemption",
    "Alg. 1, batch: a resident call that is not in the batch is preempted and parked; its context stays while nobody needs the room.",
    plas,
    (story) => {
      story.join("e", { batchCallsMax: 1 });
      story.past("Q", 10);
      story.arrive("long", { program: "Q", needs: 6 });
      story.plan();
      story.run(2);
      story.arrive("short", { needs: 3 });
      story.plan();
      story.runAll();
    },
  ),
  scenario(
    "alg1-reserve",
    "Multi-step scheduling (§4.4): plans come every N = 4 steps; when `a` ends after 1, the reserve `c` fills its slot inside the window.",
    coreConfig(policies.plas, ladder, { windowSteps: 4, reserveCallsMax: 1 }),
    (story) => {
      story.join("e", { batchCallsMax: 2 });
      story.arrive("a", { needs: 1 });
      story.arrive("b", { needs: 8 });
      story.arrive("c", { needs: 7 });
      story.arrive("d", { needs: 4 });
      story.plan();
      story.runAll();
    },
  ),
];

export const algorithm1: readonly Scenario[] = [...arrivals, ...moves, ...batches];
