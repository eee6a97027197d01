/** One scenario for each line of Algorithm 2 (paper §4.3). */
import { balancers, policies } from "../../src/index.ts";
import { coreConfig, ladder } from "../config.ts";
import type { Story } from "../story.ts";
import { type Scenario, scenario } from "./scenario.ts";

const locality = coreConfig(policies.plas, ladder, { balancer: balancers.locality });

function twoEngines(story: Story): void {
  for (const engine of ["e1", "e2"]) story.join(engine, { kvBlocks: 10_000 });
}

export const algorithm2: readonly Scenario[] = [
  scenario(
    "alg2-short",
    "Alg. 2: calls of up to 2048 prompt tokens go to the engine with the fewest calls, the first of equals, and pin nothing.",
    locality,
    (story) => {
      twoEngines(story);
      for (const i of [0, 1, 2]) story.arrive(`P${i}`, { program: "P", tokens: 2048, needs: i === 1 ? 1 : 5 });
      story.showTable("P");
      story.plan();
      story.run();
      story.arrive("Q0", { program: "Q", tokens: 1 });
    },
  ),
  scenario(
    "alg2-long",
    "Alg. 2: the first call of more than 2048 prompt tokens pins its program to the least used engine; later long ones follow, short ones do not.",
    locality,
    (story) => {
      twoEngines(story);
      story.arrive("other");
      story.arrive("P0", { program: "P", tokens: 2049 });
      story.showTable("P");
      story.arrive("P1", { program: "P", tokens: 5_000 });
      story.arrive("P2", { program: "P", tokens: 2048 });
      story.arrive("P3", { program: "P", tokens: 2049 });
      story.showTable("P");
    },
  ),
  scenario(
    "alg2-pin-dropped",
    "Alg. 2: a pin ends with its engine, also when that comes back under its name: the next long call pins anew, to the least used one.",
    locality,
    (story) => {
      twoEngines(story);
      story.arrive("P0", { program: "P", tokens: 2049, needs: 1 });
      story.plan();
      story.run();
      story.showTable("P");
      story.lose("e1", "silence");
      story.showTable("P");
      story.arrive("x");
      story.join("e1", { kvBlocks: 10_000 }, "e1.2");
      story.arrive("y");
      story.arrive("P1", { program: "P", tokens: 2049 });
      story.showTable("P");
    },
  ),
  scenario(
    "alg2-pin-follows-loss",
    "Alg. 2: the running long call of a lost engine goes on elsewhere behind its marker, and that engine is its program's pin now.",
    locality,
    (story) => {
      twoEngines(story);
      story.arrive("P0", { program: "P", tokens: 2049, needs: 3 });
      story.plan();
      story.run();
      story.lose("e1", "crash");
      story.plan();
      story.runAll();
      story.showTable("P");
    },
  ),
  scenario(
    "alg2-sticky",
    "The balancer `sticky`: pinned from the first call, however short its prompt and however used its engine.",
    coreConfig(policies.plas, ladder, { balancer: balancers.sticky }),
    (story) => {
      twoEngines(story);
      for (const i of [0, 1, 2]) story.arrive(`P${i}`, { program: "P" });
      story.arrive("Q0", { program: "Q" });
      story.showTable("P");
      story.showTable("Q");
    },
  ),
  scenario(
    "alg2-round-robin",
    "The balancer `round-robin`: engines in turn, whatever is on them.",
    coreConfig(policies.plas, ladder, { balancer: balancers["round-robin"] }),
    (story) => {
      twoEngines(story);
      story.arrive("P0", { needs: 1 });
      story.plan();
      story.run();
      for (const i of [1, 2, 3]) story.arrive(`P${i}`);
    },
  ),
];
