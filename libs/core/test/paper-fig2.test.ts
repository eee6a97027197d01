import { expect, test } from "vitest";
import { policies } from "../src/index.ts";
import { coreConfig, runPrograms } from "./drive.ts";

// Autellix Fig. 2: batch 2, all programs arrive at 0; decode steps per call.
const programs = [
  { name: "A", steps: [4, 3, 1, 1] },
  { name: "B", steps: [3, 3, 4] },
  { name: "C", steps: [1, 2] },
  { name: "D", steps: [4] },
];
/** The levels under which PLAS waits 12: demotions come before the calls that completions release. */
const ladder = [
  { lo: 0, hi: 2, quantumMs: 2 },
  { lo: 2, hi: 3, quantumMs: 1 },
  { lo: 3, hi: Number.POSITIVE_INFINITY, quantumMs: Number.POSITIVE_INFINITY },
];

test("Fig. 2: under FCFS the programs wait 18 in total", () => {
  const trace = runPrograms(coreConfig(policies.fcfs, ladder), 2, programs);
  expect(trace.finishes).toEqual({ A: 12, B: 14, C: 10, D: 8 });
  expect(trace.waiting).toBe(18);
});

test("Fig. 2: under PLAS they wait 12, and the short ones finish first", () => {
  const trace = runPrograms(coreConfig(policies.plas, ladder), 2, programs);
  expect(trace.finishes).toEqual({ A: 12, B: 14, C: 5, D: 7 });
  expect(trace.waiting).toBe(12);
  expect(trace.lines).toMatchInlineSnapshot(`
    [
      "0: A0 B0",
      "1: A0 B0",
      "2: C0 D0",
      "3: D0 C1",
      "4: C1 A0",
      "5: B0 D0",
      "6: A0 D0",
      "7: B1 A1",
      "8: B1 A1",
      "9: B1 A1",
      "10: B2 A2",
      "11: B2 A3",
      "12: B2",
      "13: B2",
    ]
  `);
});

test("on chains ATLAS gives the very batches of PLAS", () => {
  const plas = runPrograms(coreConfig(policies.plas, ladder), 2, programs);
  const atlas = runPrograms(coreConfig(policies.atlas, ladder), 2, programs);
  expect(atlas.lines).toEqual(plas.lines);
});
