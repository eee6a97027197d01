/** Where contexts lie: the KV budget of an engine and of its host tier (paper §4.4, S7). Blocks of 10 tokens. */
import { policies } from "../../src/index.ts";
import { coreConfig } from "../config.ts";
import type { Story } from "../story.ts";
import { type Scenario, scenario } from "./scenario.ts";

const plas = coreConfig(policies.plas);

/** `low` and `lower` are parked by calls that enter above them; then one needs their room. */
function parks(story: Story): void {
  story.past("L", 10);
  story.past("M", 30);
  story.arrive("low", { program: "L", tokens: 38, needs: 5 });
  story.arrive("lower", { program: "M", tokens: 28, needs: 5 });
  story.plan();
  story.run(1);
  for (const call of ["a", "b"]) story.arrive(call, { tokens: 8, needs: 3 });
  story.plan();
  story.run(1);
  story.arrive("large", { tokens: 48, needs: 4 });
  story.runAll();
}

const parked: readonly Scenario[] = [
  scenario(
    "kv-lazy-swap",
    "Parked contexts stay on the engine while there is room; then the one that would run last goes to host memory, and it comes back only to run.",
    plas,
    (story) => {
      story.join("e", { kvBlocks: 10, hostBlocks: 20 });
      parks(story);
    },
  ),
  scenario(
    "kv-host-full",
    "What does not fit into the host tier is dropped, and its call is recomputed when it resumes.",
    plas,
    (story) => {
      story.join("e", { kvBlocks: 10, hostBlocks: 3 });
      parks(story);
    },
  ),
  scenario(
    "kv-recompute",
    "An engine that does not swap drops a parked context whose room is needed.",
    plas,
    (story) => {
      story.join("e", { kvBlocks: 10, preemption: "recompute" });
      parks(story);
    },
  ),
];

/** Two programs' contexts are retained; then a large call needs the room of one. */
function retains(story: Story): void {
  story.past("L", 30);
  story.arrive("S0", { program: "S", tokens: 28, needs: 2 });
  story.arrive("L0", { program: "L", tokens: 26, needs: 3 });
  story.plan();
  story.runAll();
  story.arrive("large", { tokens: 55, needs: 1 });
  story.plan();
  story.runAll();
  story.arrive("S1", { program: "S", tokens: 40, needs: 1 });
  story.arrive("L1", { program: "L", tokens: 40, needs: 1 });
  story.plan();
  story.runAll();
}

const retained: readonly Scenario[] = [
  scenario(
    "kv-retained",
    "Contexts of ended calls stay for their programs' next calls, which go on from them (`S1←S0`). Who would run last goes first: L's, in Q3.",
    plas,
    (story) => {
      story.join("e", { kvBlocks: 10, hostBlocks: 4, retains: true });
      retains(story);
    },
  ),
  scenario(
    "kv-retained-last-used",
    "The same under fcfs, without a host tier: the context that was used longest ago is dropped, S's.",
    coreConfig(policies.fcfs),
    (story) => {
      story.join("e", { kvBlocks: 10, retains: true });
      retains(story);
    },
  ),
  scenario(
    "kv-retained-threads",
    "A context belongs to a thread: the next call of the same thread goes on from it; a retained one gives way to a later one of its thread.",
    plas,
    (story) => {
      story.join("e", { retains: true });
      for (const thread of ["x", "y"]) story.arrive(`${thread}0`, { program: "P", thread, tokens: 20, needs: 1 });
      story.plan();
      story.runAll();
      for (const thread of ["y", "z"]) story.arrive(`${thread}1`, { program: "P", thread, tokens: 30, needs: 1 });
      story.plan();
      story.runAll();
    },
  ),
];

export const memory: readonly Scenario[] = [...parked, ...retained];
