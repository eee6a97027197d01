import { describe, expect, it } from "vitest";
import { bestPlace, passesOf } from "../src/llama/seats.ts";

describe("seats of a llama context", () => {
  it.each([
    [[], 0],
    [[3], 1],
    [[0, 1, 2, 3], 1],
    [[2, 0, 1], 1],
    [[0, 2, 3], 2],
    [[0, 2, 4, 6], 4],
  ])("a batch at the places %j takes %i passes", (places, passes) => {
    expect(passesOf(places)).toBe(passes);
  });

  it.each([
    { free: [], places: [0], best: undefined },
    { free: [4, 7], places: [], best: 4 },
    { free: [0, 1, 5, 7], places: [4], best: 5 },
    { free: [0, 3, 6], places: [2, 4], best: 3 },
    { free: [0, 7], places: [3], best: 0 },
  ])("of the free places $free beside $places it takes $best", ({ free, places, best }) => {
    expect(bestPlace(free, places)).toBe(best);
  });
});
