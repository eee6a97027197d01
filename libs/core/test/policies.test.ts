/** One test per policy: what its record says, seen in the order in which calls are served. */
import { describe, expect, it } from "vitest";
import { type ArrivedCall, type CoreConfig, isPolicyName, type PolicyName, policies } from "../src/index.ts";
import { HALF_LIFE_MS } from "../src/policies.ts";
import { coreConfig, ladder } from "./config.ts";
import { Story } from "./story.ts";

/** An engine that serves one call at a time. */
function engine(policy: PolicyName, over: Partial<CoreConfig> = {}): Story {
  const story = new Story(coreConfig(policies[policy], ladder, over));
  story.join("e", { batchCallsMax: 1 });
  return story;
}

/** A turn is a run of windows with the same batch. */
function turns(story: Story): string[] {
  story.plan();
  story.runAll();
  return story.batches.filter((batch, i) => batch !== story.batches[i - 1]);
}

const tests: Readonly<Record<PolicyName, { serves: string; test: () => void }>> = {
  fcfs: {
    serves: "the call that came first, to its end, whatever its program had",
    test: () => {
      const story = engine("fcfs");
      story.past("P", 1_000);
      story.arrive("P1", { program: "P", needs: 100 });
      story.arrive("Q0", { program: "Q", needs: 1 });
      expect(turns(story)).toEqual(["P1", "Q0"]);
    },
  },
  "program-fcfs": {
    serves: "the calls of the program that arrived first, before calls that came earlier",
    test: () => {
      const story = engine("program-fcfs");
      story.chain("P", [5, 5]);
      story.wait(1);
      story.chain("Q", [5, 5]);
      expect(turns(story)).toEqual(["P0", "P1", "Q0", "Q1"]);
    },
  },
  "round-robin": {
    serves: "each call for a second, and then the next",
    test: () => {
      const story = engine("round-robin");
      for (const call of ["a", "b", "c"]) story.arrive(call, { needs: 2_000 });
      expect(turns(story)).toEqual(["a", "b", "c", "a", "b", "c"]);
      expect(story.at).toBe(6_000);
    },
  },
  mlfq: {
    serves: "each new call first, also of a program that had much",
    test: () => {
      const story = engine("mlfq");
      story.arrive("Q0", { program: "Q", needs: 20 });
      story.plan();
      story.run(10);
      story.past("P", 1_000);
      story.arrive("P1", { program: "P", needs: 5 });
      expect(turns(story)).toEqual(["Q0", "P1", "Q0"]);
    },
  },
  plas: {
    serves: "the program with the least service so far, as the sum over its calls",
    test: () => {
      const story = engine("plas");
      story.program("P", [
        { call: "p0", needs: 6 },
        { call: "p1", needs: 6 },
        { call: "p2", needs: 1, after: ["p0", "p1"] },
      ]);
      story.past("R", 9);
      story.plan();
      story.run(11);
      story.arrive("R1", { program: "R", needs: 1 });
      // 6 + 6 is Q2, 9 is Q1.
      expect(turns(story)).toEqual(["p0", "p1", "R1", "p2"]);
    },
  },
  atlas: {
    serves: "the program whose longest chain of service is the shortest",
    test: () => {
      const story = engine("atlas");
      story.program("P", [
        { call: "p0", needs: 6 },
        { call: "p1", needs: 6 },
        { call: "p2", needs: 1, after: ["p0", "p1"] },
      ]);
      story.past("R", 10);
      story.plan();
      story.run(11);
      story.arrive("R1", { program: "R", needs: 1 });
      // The longest chain is 6: Q1; 10 is Q2.
      expect(turns(story)).toEqual(["p0", "p1", "p2", "R1"]);
    },
  },
  "atlas-dag": {
    serves: "the call whose own parents' chain is the shortest",
    test: () => {
      const story = engine("atlas-dag");
      story.past("R", 9);
      story.arrive("long", { program: "P", needs: 20 });
      story.arrive("short", { program: "P", needs: 3 });
      story.plan();
      story.run(23);
      story.arrive("R1", { program: "R", needs: 1 });
      story.arrive("afterLong", { program: "P", needs: 1, after: ["long"] });
      story.arrive("afterShort", { program: "P", needs: 1, after: ["short"] });
      expect(turns(story).slice(-3)).toEqual(["R1", "afterShort", "afterLong"]);
    },
  },
  "plas-in-order": {
    serves: "levels as plas does, and inside one the program that arrived first",
    test: () => {
      const story = engine("plas-in-order");
      story.chain("P", [6, 6, 6, 6]);
      story.wait(1);
      story.chain("Q", [6, 6, 6, 6]);
      // Two calls each are 12: Q2. Under plas they would take turns.
      expect(turns(story)).toEqual(["P0", "P1", "Q0", "Q1", "P2", "P3", "Q2", "Q3"]);
    },
  },
  "atlas-in-order": {
    serves: "levels as atlas does, and inside one the program that arrived first",
    test: () => {
      const story = engine("atlas-in-order");
      story.program("P", [
        { call: "p0", needs: 6 },
        { call: "p1", needs: 6 },
        { call: "p2", needs: 1, after: ["p0", "p1"] },
      ]);
      story.wait(1);
      story.arrive("R0", { program: "R", needs: 1 });
      // The longest chain is 6: Q1, where P was before R.
      expect(turns(story)).toEqual(["p0", "p1", "p2", "R0"]);
    },
  },
  "las-decay": {
    serves: "the program with the fewest tokens so far, of which each minute forgets half",
    test: () => {
      const story = engine("las-decay");
      story.arrive("P0", { program: "P", tokens: 25, needs: 10 });
      turns(story);
      // 35 tokens: Q3 now, 17.5 a minute later: Q2, 8.75 after two: Q1.
      const levels = [0, 1, 2].map((minute) => {
        story.wait(minute * HALF_LIFE_MS - story.at + 10);
        story.arrive(`P${minute + 1}`, { program: "P" });
        return story.scheduler.threads("P" as never, story.at).at(-1)?.level;
      });
      expect(levels).toEqual([2, 1, 0]);
    },
  },
};

describe("decay", () => {
  const past = { attained: 64, endedCalls: 1, arrivedAt: 0, pathTo: () => undefined };
  const inherited = (lastCompletionAt: number | undefined, at: number) =>
    policies["las-decay"].inherits({ ...past, lastCompletionAt }, {} as ArrivedCall, at);

  it("forgets half at each boundary between the last end and now, and nothing in between", () => {
    const minutes = [0, 0.99, 1, 1.5, 3].map((minute) => inherited(10, minute * HALF_LIFE_MS));
    expect(minutes).toEqual([64, 64, 32, 32, 8]);
    expect(inherited(5.5 * HALF_LIFE_MS, 6.5 * HALF_LIFE_MS)).toBe(32);
    expect(inherited(undefined, 100 * HALF_LIFE_MS)).toBe(64);
  });

  it("leaves nothing after a long time", () => {
    expect(inherited(0, 50 * HALF_LIFE_MS)).toBe(64 / 2 ** 50);
    expect([51, 1e9].map((minutes) => inherited(0, minutes * HALF_LIFE_MS))).toEqual([0, 0]);
  });
});

describe("policy", () => {
  it.each(Object.entries(tests))("%s serves $serves", (_name, { test }) => test());

  it("has a test for each of its records, whose name is its own", () => {
    expect(Object.keys(tests)).toEqual(Object.keys(policies));
    for (const [name, { name: own }] of Object.entries(policies)) expect(own).toBe(name);
    expect([isPolicyName("plas"), isPolicyName("lifo"), isPolicyName("toString")]).toEqual([true, false, false]);
  });
});
