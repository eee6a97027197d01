import { describe, expect, it } from "vitest";
import { type BatchLimits, type Candidate, chooseBatch } from "../src/batch.ts";

interface Call extends Candidate {
  name: string;
}

const limits: BatchLimits = { batchCallsMax: 4, residentCallsMax: 4, kvBlocks: 100, blockTokens: 10 };

function call(name: string, parts: Partial<Candidate> = {}): Call {
  return { name, ready: true, comes: false, contextTokens: 0, neededTokens: 10, ...parts };
}

function choose(
  lists: { slots?: number; run?: Call[]; reserve?: Call[]; keep?: Call[] },
  change: Partial<BatchLimits> = {},
) {
  const run = lists.run ?? [];
  const chosen = chooseBatch(
    { slots: lists.slots ?? run.length, run, reserve: lists.reserve ?? [], keep: lists.keep ?? [] },
    { ...limits, ...change },
  );
  return { batch: chosen.batch.map((c) => c.name), evict: chosen.evict.map((c) => c.name) };
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

  it("evicts parked contexts from the tail when there are too many", () => {
    const keep = [call("k", { contextTokens: 30 }), call("l", { contextTokens: 30 }), call("m", { contextTokens: 30 })];
    expect(choose({ run: [call("a"), call("b")], keep })).toEqual({ batch: ["a", "b"], evict: ["m"] });
  });

  it("evicts parked contexts from the tail when their blocks are needed", () => {
    const run = [call("a", { neededTokens: 600 })];
    const keep = [call("k", { contextTokens: 300 }), call("l", { contextTokens: 300 })];
    expect(choose({ run, keep })).toEqual({ batch: ["a"], evict: ["l"] });
  });

  it("evicts the reserve after what is kept", () => {
    const parts = { run: [call("a", { neededTokens: 900 })], reserve: [call("r", { contextTokens: 300 })] };
    expect(choose({ ...parts, keep: [call("k", { contextTokens: 300 })] }).evict).toEqual(["k", "r"]);
  });

  it("leaves the last call of the batch out when the contexts have grown too large for all", () => {
    const run = [
      call("a", { neededTokens: 700, contextTokens: 699 }),
      call("b", { neededTokens: 400, contextTokens: 399 }),
    ];
    expect(choose({ run })).toEqual({ batch: ["a"], evict: ["b"] });
  });

  it("lets a call that fills the whole engine get its last token", () => {
    expect(choose({ run: [call("a", { neededTokens: 1_001 })] }).batch).toEqual(["a"]);
  });
});
