/**
 * Golden texts: what the core decides in small scenarios, line by line. After a change that is meant, run
 * `npx vitest run --project unit libs/core/test/golden.test.ts -u` and review the diff of `golden/`. Where `CI` is set,
 * a text that is missing is a failure.
 */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { policies } from "../src/index.ts";
import { coreConfig } from "./config.ts";
import { scenarios } from "./scenarios/index.ts";
import { criticalPathFirst, criticalPathLast, fig2Ladder, playFig2, playFig9 } from "./scenarios/paper.ts";
import { Story } from "./story.ts";

describe("a golden text", () => {
  it.each(scenarios.map((scenario) => [scenario.name, scenario] as const))("%s", async (name, scenario) => {
    await expect(scenario.text()).toMatchFileSnapshot(`golden/${name}.txt`);
  });

  it("belongs to a scenario, whose name is its own", () => {
    const names = scenarios.map(({ name }) => `${name}.txt`);
    expect(new Set(names).size).toBe(names.length);
    const texts = readdirSync(fileURLToPath(new URL("golden", import.meta.url)));
    expect(texts.filter((text) => !names.includes(text))).toEqual([]);
  });
});

// The paper's own numbers, which no rewriting of the texts can change.
describe("the paper's examples", () => {
  function fig2(policy: keyof typeof policies): Story {
    const story = new Story(coreConfig(policies[policy], fig2Ladder));
    playFig2(story);
    return story;
  }

  it("Fig. 2: the programs wait 18 under FCFS, 12 under PLAS and ATLAS, and longer than that under MLFQ", () => {
    expect(fig2("fcfs").finishes()).toEqual({ A: 12, B: 14, C: 10, D: 8 });
    expect(fig2("fcfs").waiting()).toBe(18);
    for (const policy of ["plas", "atlas", "atlas-dag"] as const) {
      expect(fig2(policy).finishes()).toEqual({ A: 12, B: 14, C: 5, D: 7 });
      expect(fig2(policy).waiting()).toBe(12);
    }
    expect(fig2("mlfq").waiting()).toBeGreaterThan(12);
  });

  it.each(["atlas", "atlas-dag"] as const)(
    "Fig. 9 under %s: 11 when the critical path goes first, 14 when it goes last",
    (policy) => {
      for (const [siblings, makespan] of [
        [criticalPathFirst, 11],
        [criticalPathLast, 14],
      ] as const) {
        const story = new Story(
          coreConfig(policies[policy], [
            { lo: 0, hi: 100, quantum: 100 },
            { lo: 100, hi: Number.POSITIVE_INFINITY, quantum: 100 },
          ]),
        );
        playFig9(story, siblings);
        expect(story.finishes()).toEqual({ P: makespan });
      }
    },
  );
});
