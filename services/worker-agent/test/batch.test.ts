import type { Tier } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { arrange, type Candidate, type ContextLimits, type Idle } from "../src/batch.ts";

interface Call extends Candidate {
  name: string;
}

interface Ended extends Idle {
  name: string;
}

const limits: ContextLimits = { batchCallsMax: 4, residentCallsMax: 4, kvBlocks: 100, blockTokens: 10 };
const unnamed = { contextTokens: 0, hostTokens: 0, tier: undefined, swapRefused: false };

function call(name: string, parts: Partial<Candidate> = {}): Call {
  return { name, ready: true, comes: false, stays: false, neededTokens: 10, ...unnamed, ...parts };
}

function ended(name: string, parts: Partial<Idle> = {}): Ended {
  return { name, ...unnamed, ...parts };
}

/** A parked call with so many tokens on the engine. */
const parked = (name: string, contextTokens: number, tier?: Tier) => call(name, { contextTokens, tier });

function choose(
  lists: {
    slots?: number;
    run?: Call[];
    reserve?: Call[];
    keep?: Call[];
    retained?: Ended[];
    fixed?: { contextTokens: number; hostTokens: number }[];
  },
  change: Partial<ContextLimits> = {},
  isWorthMoving = (_tokens: number) => true,
) {
  const { run = [], reserve = [], keep = [], retained = [], fixed = [], slots = run.length } = lists;
  const chosen = arrange<Call, Ended>(
    { slots, run, reserve, keep },
    { retained, fixed },
    { ...limits, ...change },
    isWorthMoving,
  );
  const names = (list: readonly { name: string }[]) => list.map(({ name }) => name);
  return {
    batch: names(chosen.batch),
    drop: names(chosen.drop),
    swapOut: names(chosen.swapOut),
    swapIn: names(chosen.swapIn),
  };
}

describe("the batch of a step", () => {
  it("is what the plan wants to run, in its order", () => {
    expect(choose({ run: [call("a"), call("b")], reserve: [call("c")] }).batch).toEqual(["a", "b"]);
  });

  it("is filled from the reserve when a planned call has ended", () => {
    expect(choose({ slots: 2, run: [call("a")], reserve: [call("c"), call("d")] }).batch).toEqual(["a", "c"]);
  });

  it("is filled from parked calls when the reserve is used up", () => {
    expect(choose({ slots: 3, run: [call("a")], reserve: [call("c")], keep: [call("k"), call("l")] }).batch).toEqual([
      "a",
      "c",
      "k",
    ]);
  });

  it("keeps the slot of a call that is on its way", () => {
    const coming = call("b", { ready: false, comes: true });
    expect(choose({ run: [call("a"), coming], reserve: [call("c")] }).batch).toEqual(["a"]);
  });

  it("gives the slot of a call that is stuck to the next one", () => {
    const stuck = call("b", { ready: false });
    expect(choose({ run: [call("a"), stuck], reserve: [call("c")] }).batch).toEqual(["a", "c"]);
  });

  it("does not wait for a parked call that is not there yet", () => {
    const coming = call("k", { ready: false, comes: true });
    expect(choose({ slots: 1, keep: [coming, call("l")] }).batch).toEqual(["l"]);
  });

  it("is never larger than planned or than the engine takes", () => {
    const five = ["a", "b", "c", "d", "e"].map((name) => call(name));
    expect(choose({ run: five }, { residentCallsMax: 9 }).batch).toHaveLength(4);
    expect(choose({ slots: 0, keep: five }).batch).toEqual([]);
  });

  it("leaves the last call of the batch out when the contexts have grown too large for all", () => {
    const run = [
      call("a", { neededTokens: 700, contextTokens: 699 }),
      call("b", { neededTokens: 400, contextTokens: 399 }),
    ];
    expect(choose({ run })).toMatchObject({ batch: ["a"], drop: ["b"] });
  });

  it("lets a call that fills the whole engine get its last token", () => {
    expect(choose({ run: [call("a", { neededTokens: 1_001 })] }).batch).toEqual(["a"]);
  });

  it("keeps a call that cannot be stopped, wherever the plan has it, and in the place of another", () => {
    const stays = call("s", { stays: true, contextTokens: 20, neededTokens: 21 });
    expect(choose({ run: [call("a"), call("b")], keep: [stays] }).batch).toEqual(["a", "s"]);
    expect(choose({ slots: 0, keep: [stays] }).batch).toEqual(["s"]);
  });

  it("gives such a call its room first", () => {
    const stays = call("s", { stays: true, contextTokens: 600, neededTokens: 601 });
    const large = call("a", { contextTokens: 500, neededTokens: 501 });
    expect(choose({ run: [large], keep: [stays] })).toMatchObject({ batch: ["s"], drop: ["a"] });
  });
});

describe("contexts of other calls", () => {
  it("stay where they are while there is room, whatever tier the plan would give them", () => {
    const keep = [parked("k", 100, "engine"), parked("l", 100, "host"), parked("m", 100, "none")];
    const moved = choose({ run: [call("a")], keep }, { hostBlocks: 100 });
    expect(moved).toEqual({ batch: ["a"], drop: [], swapOut: [], swapIn: [] });
  });

  it("are dropped from the tail when there are too many", () => {
    const keep = [parked("k", 30), parked("l", 30), parked("m", 30)];
    expect(choose({ run: [call("a"), call("b")], keep })).toMatchObject({ batch: ["a", "b"], drop: ["m"] });
  });

  it("are dropped from the tail when their blocks are needed", () => {
    const run = [call("a", { neededTokens: 600 })];
    expect(choose({ run, keep: [parked("k", 300), parked("l", 300)] })).toMatchObject({ batch: ["a"], drop: ["l"] });
  });

  it("leave in the order: ended ones that no plan names, ended ones from the tail, parked ones from the tail, reserve", () => {
    const contexts = {
      reserve: [parked("r", 100)],
      keep: [parked("k", 100, "engine"), parked("l", 100, "engine")],
      retained: [
        ended("x", { contextTokens: 100, tier: "engine" }),
        ended("y", { contextTokens: 100, tier: "engine" }),
        ended("new", { contextTokens: 100 }),
      ],
    };
    const order = ["new", "y", "x", "l", "k", "r"];
    for (let gone = 0; gone <= order.length; gone++) {
      const run = [call("a", { neededTokens: 400 + 100 * gone })];
      const chosen = choose({ run, ...contexts }, { residentCallsMax: 99 });
      expect(chosen).toMatchObject({ batch: ["a"], drop: order.slice(0, gone) });
    }
  });

  it("that are being taken over by a call which is opened keep their room", () => {
    const fixed = [{ contextTokens: 500, hostTokens: 0 }];
    expect(choose({ run: [call("a", { neededTokens: 600 })], fixed }).batch).toEqual([]);
    expect(choose({ run: [call("a", { neededTokens: 500 })], fixed }).batch).toEqual(["a"]);
  });
});

describe("the host tier", () => {
  const hostBlocks = 30;
  const run = [call("a", { neededTokens: 800 })];

  it("takes what has to leave the engine", () => {
    const chosen = choose({ run, keep: [parked("k", 200), parked("l", 200)] }, { hostBlocks });
    expect(chosen).toMatchObject({ drop: [], swapOut: ["l"] });
  });

  it.each<[string, Parameters<typeof choose>]>([
    ["has none", [{ run, keep: [parked("k", 300)] }]],
    ["says so", [{ run, keep: [parked("k", 300, "none")] }, { hostBlocks }]],
    ["costs more to move it than to recompute it", [{ run, keep: [parked("k", 300)] }, { hostBlocks }, () => false]],
    ["refused it", [{ run, keep: [call("k", { contextTokens: 300, swapRefused: true })] }, { hostBlocks }]],
    ["is too small for it", [{ run, keep: [parked("k", 310)] }, { hostBlocks }]],
  ])("does not take a context when the plan or the engine %s", (_why, given) => {
    expect(choose(...given)).toMatchObject({ batch: ["a"], drop: ["k"], swapOut: [] });
  });

  it("drops its least valuable contexts for a more valuable one", () => {
    const keep = [
      parked("k", 200),
      call("l", { hostTokens: 100 }),
      call("m", { hostTokens: 100 }),
      call("n", { hostTokens: 100 }),
    ];
    const chosen = choose({ run: [call("a", { neededTokens: 900 })], keep }, { hostBlocks });
    expect(chosen).toMatchObject({ swapOut: ["k"], drop: ["m", "n"] });
  });

  it("does not drop a more valuable context for a less valuable one", () => {
    const chosen = choose(
      { run: [call("a", { neededTokens: 900 })], keep: [call("k", { hostTokens: 200 }), parked("l", 200)] },
      { hostBlocks },
    );
    expect(chosen).toMatchObject({ swapOut: [], drop: ["l"] });
  });

  it("counts what is on its way back until it is there", () => {
    const back = call("a", { hostTokens: 200, neededTokens: 900 });
    const chosen = choose({ run: [back], keep: [parked("k", 200)] }, { hostBlocks });
    expect(chosen).toMatchObject({ batch: ["a"], swapIn: ["a"], drop: ["k"], swapOut: [] });
  });

  it("gives back the contexts of the batch, and of calls that come next as far as there is room", () => {
    const chosen = choose(
      {
        run: [call("a"), call("b", { hostTokens: 20, neededTokens: 21 })],
        reserve: [call("r", { hostTokens: 30, neededTokens: 31 }), call("s", { hostTokens: 40, neededTokens: 41 })],
        keep: [call("k", { hostTokens: 50, neededTokens: 51 })],
      },
      { hostBlocks, residentCallsMax: 3 },
    );
    expect(chosen).toMatchObject({ batch: ["a", "b"], swapIn: ["b", "r"] });
  });

  it("gives none back in the place of a context that the plan has on the engine", () => {
    const reserve = [call("r", { hostTokens: 200, neededTokens: 201 })];
    const keep = (tier: Tier) => [parked("k", 100, tier)];
    expect(choose({ run, reserve, keep: keep("engine") }, { hostBlocks })).toMatchObject({ swapIn: [] });
    const more = { hostBlocks: 40, residentCallsMax: 9, kvBlocks: 101 };
    expect(choose({ run, reserve, keep: keep("host") }, more)).toMatchObject({ swapIn: ["r"], swapOut: ["k"] });
  });
});
