/** The toy examples of the paper: Fig. 2 and Fig. 9. */
import { type Ladder, policies } from "../../src/index.ts";
import { coreConfig } from "../config.ts";
import type { Node, Story } from "../story.ts";
import { type Scenario, scenario } from "./scenario.ts";

/** Fig. 2: batch 2, all programs arrive at 0; decode steps per call. */
export const fig2Programs: Readonly<Record<string, readonly number[]>> = {
  A: [4, 3, 1, 1],
  B: [3, 3, 4],
  C: [1, 2],
  D: [4],
};

/** The levels under which PLAS waits 12: demotions come before the calls that completions release. */
export const fig2Ladder: Ladder = [
  { lo: 0, hi: 2, quantum: 2 },
  { lo: 2, hi: 3, quantum: 1 },
  { lo: 3, hi: Number.POSITIVE_INFINITY, quantum: Number.POSITIVE_INFINITY },
];

export function playFig2(story: Story): void {
  story.join("e", { batchCallsMax: 2 });
  for (const [name, needs] of Object.entries(fig2Programs)) story.chain(name, needs);
  story.plan();
  story.runAll();
  const finishes = Object.entries(story.finishes()).map(([name, at]) => `${name} ${at}`);
  story.say(`finishes ${finishes.join(", ")}; waiting in total ${story.waiting()}`);
}

/** Fig. 9: a root, four siblings in the given order, the call that joins two of them, and the last one. */
function fig9(siblings: readonly string[]): Node[] {
  const needs: Record<string, number> = { one: 1, fourA: 4, two: 2, five: 5 };
  return [
    { call: "root", needs: 2 },
    ...siblings.map((call) => ({ call, needs: needs[call] ?? 0, after: ["root"] })),
    { call: "fourB", needs: 4, after: ["one", "fourA"] },
    { call: "last", needs: 1, after: ["fourB", "two", "five"] },
  ];
}

export function playFig9(story: Story, siblings: readonly string[]): void {
  story.join("e", { batchCallsMax: 2 });
  story.program("P", fig9(siblings));
  story.plan();
  story.runAll();
  story.say(`makespan ${story.finishes().P}`);
}

export const criticalPathFirst = ["fourA", "one", "two", "five"];
export const criticalPathLast = ["five", "two", "one", "fourA"];
/** No sibling is demoted before it ends: only their order decides. */
const wide: Ladder = [
  { lo: 0, hi: 10, quantum: 10 },
  { lo: 10, hi: Number.POSITIVE_INFINITY, quantum: 20 },
];
const dagPolicies = [policies.atlas, policies["atlas-dag"]].map((policy) => coreConfig(policy, wide));

export const paperScenarios: readonly Scenario[] = [
  scenario("fig2-fcfs", "Fig. 2: under FCFS the programs wait 18 in total.", coreConfig(policies.fcfs), playFig2),
  scenario(
    "fig2-plas",
    "Fig. 2: under PLAS the programs wait 12 in total, and the short ones finish first.",
    coreConfig(policies.plas, fig2Ladder),
    playFig2,
  ),
  scenario(
    "fig2-mlfq",
    "Fig. 2: under call-level MLFQ the programs wait longer than under PLAS: each new call of a long program begins in Q1.",
    coreConfig(policies.mlfq, fig2Ladder),
    playFig2,
  ),
  scenario(
    "fig9-critical-path-first",
    "Fig. 9: the siblings tie under eq. 2 and run in the order of their arrival; with the critical path first the makespan is 11.",
    dagPolicies,
    (story) => playFig9(story, criticalPathFirst),
  ),
  scenario(
    "fig9-critical-path-last",
    "Fig. 9: the same DAG, with the siblings arriving in the opposite order: the makespan is 14.",
    dagPolicies,
    (story) => playFig9(story, criticalPathLast),
  ),
];
