import { describe, expect, it } from "vitest";
import { measureSlice } from "../src/llama/slice.ts";

/** A machine on which a slice takes `fixedMs + tokens · tokenMs`. */
function machine(fixedMs: number, tokenMs: number, fields: { neighbours?: number; sliceTokensMax?: number } = {}) {
  let nowMs = 0;
  const evaluated: number[] = [];
  const measured = measureSlice({
    evaluate: async (tokens) => {
      evaluated.push(tokens);
      nowMs += fixedMs + tokens * tokenMs;
    },
    nowMs: () => nowMs,
    stepMsMax: 150,
    neighbours: fields.neighbours ?? 3,
    sliceTokensMax: fields.sliceTokensMax ?? 32,
  });
  return { measured, evaluated };
}

describe("the prompt slice", () => {
  it("is large on a fast machine and small on a slow one", async () => {
    expect(await machine(0, 0.05).measured).toBe(32);
    expect(await machine(0, 0.05, { sliceTokensMax: 512 }).measured).toBe(512);
    expect(await machine(0, 5).measured).toBe(8);
    expect(await machine(0, 15).measured).toBe(2);
  });

  it("is one token where even that takes too long", async () => {
    expect(await machine(0, 200).measured).toBe(1);
  });

  it("leaves time for the tokens of the neighbours in the same step", async () => {
    expect(await machine(5, 5, { neighbours: 0 }).measured).toBe(16);
    expect(await machine(5, 5, { neighbours: 3 }).measured).toBe(8);
  });

  it("does not try sizes that a slow machine would be busy with for minutes", async () => {
    const { measured, evaluated } = machine(0, 100);
    await measured;
    expect(Math.max(...evaluated)).toBe(2);
  });
});
