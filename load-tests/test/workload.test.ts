import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRandom } from "../src/random.ts";
import { makePrompt } from "../src/text.ts";
import { formatTrace, generateWorkload, type ProgramSpec, parseTrace, workloadNames } from "../src/workload.ts";

describe("a generated workload", () => {
  test("is the same for the same seed, and another for another", () => {
    const options = { workload: "mixed", rate: 5, durationMs: 20_000, seed: 7 } as const;
    expect(generateWorkload(options)).toEqual(generateWorkload(options));
    expect(generateWorkload(options)).not.toEqual(generateWorkload({ ...options, seed: 8 }));
  });

  test("arrives at the asked rate, spread as a Poisson process is", () => {
    const programs = generateWorkload({ workload: "single", rate: 50, durationMs: 200_000, seed: 3 });
    expect(programs.length / 200).toBeGreaterThan(47);
    expect(programs.length / 200).toBeLessThan(53);
    const gaps = programs.slice(1).map((program, index) => program.arrivalMs - (programs[index]?.arrivalMs ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    // Of an exponential distribution the deviation is the mean.
    expect(Math.sqrt(variance) / mean).toBeCloseTo(1, 1);
  });

  test("holds programs whose calls only follow earlier ones, in order of arrival", () => {
    fc.assert(
      fc.property(fc.constantFrom(...workloadNames), fc.integer({ min: 0, max: 1e6 }), (workload, seed) => {
        const programs = generateWorkload({ workload, rate: 20, durationMs: 5_000, seed });
        let lastMs = 0;
        for (const { arrivalMs, calls } of programs) {
          expect(arrivalMs).toBeGreaterThanOrEqual(lastMs);
          lastMs = arrivalMs;
          expect(calls.length).toBeGreaterThan(0);
          for (const [index, call] of calls.entries()) {
            expect(call.parents.every((parent) => parent >= 0 && parent < index)).toBe(true);
            expect(call.promptTokens).toBeGreaterThan(0);
            expect(call.completionTokens).toBeGreaterThan(0);
          }
        }
      }),
    );
  });

  test("stops at its limit of programs", () => {
    const options = { workload: "single", rate: 1_000, durationMs: 10_000, seed: 1, programsMax: 12 } as const;
    expect(generateWorkload(options)).toHaveLength(12);
  });

  test("has fan programs that fork and join", () => {
    const [program] = generateWorkload({ workload: "fan", rate: 10, durationMs: 10_000, seed: 1 });
    const calls = program?.calls ?? [];
    const branches = calls.slice(1, -1);
    expect(branches.length).toBeGreaterThan(1);
    expect(new Set(branches.map((call) => call.thread)).size).toBe(branches.length);
    expect(branches.every((call) => call.parents[0] === 0)).toBe(true);
    expect(calls.at(-1)?.parents).toHaveLength(branches.length);
  });
});

describe("a trace", () => {
  test("of a generated workload reads back as the same programs", () => {
    const programs = generateWorkload({ workload: "mixed", rate: 5, durationMs: 20_000, seed: 5 });
    expect(parseTrace(formatTrace(programs))).toEqual(programs);
  });

  test("fills in what is left out: thread main, no gap, and the call before as parent", () => {
    const call = { promptTokens: 5, completionTokens: 6 };
    const line = { arrivalMs: 3, calls: [call, call, { ...call, thread: "b" }, { ...call, thread: "b" }, call] };
    const [program] = parseTrace(`\n${JSON.stringify(line)}\n`) as [ProgramSpec];
    expect(program.kind).toBe("program");
    expect(program.calls.map((spec) => [spec.thread, spec.parents, spec.gapMs])).toEqual([
      ["main", [], 0],
      ["main", [0], 0],
      ["b", [1], 0],
      ["b", [2], 0],
      ["main", [1], 0],
    ]);
  });

  test("is sorted by arrival", () => {
    const line = (arrivalMs: number) =>
      JSON.stringify({ arrivalMs, calls: [{ promptTokens: 1, completionTokens: 1 }] });
    expect(parseTrace(`${line(9)}\n${line(2)}`).map((program) => program.arrivalMs)).toEqual([2, 9]);
  });

  test.each([
    ["no json", "line 1 of the trace is no JSON"],
    ['{"arrivalMs":-1,"calls":[]}', "line 1 of the trace: arrivalMs"],
    ['{"arrivalMs":1,"calls":[{"promptTokens":1}]}', "calls.0.completionTokens"],
    ['{"arrivalMs":1,"calls":[{"promptTokens":1,"completionTokens":1,"parents":[0]}]}', "names parent 0"],
    ['{"arrivalMs":1,"calls":[{"promptTokens":1,"completionTokens":1,"x":1}]}', "line 1"],
  ])("that is wrong is refused by line and field: %s", (text, message) => {
    expect(() => parseTrace(text)).toThrow(message);
  });
});

test("random numbers keep their means", () => {
  const random = createRandom(11);
  const mean = (draw: () => number) => Array.from({ length: 50_000 }, draw).reduce((a, b) => a + b, 0) / 50_000;
  expect(mean(() => random.exponential(10))).toBeCloseTo(10, 0);
  expect(mean(() => random.logNormal(100, 0.8)) / 100).toBeCloseTo(1, 1);
  expect(mean(() => random.geometric(7))).toBeCloseTo(7, 0);
  expect(random.geometric(1)).toBe(1);
});

test("a prompt has about the asked length and repeats for its seed", () => {
  expect(makePrompt(200, 4, 4.5)).toBe(makePrompt(200, 4, 4.5));
  expect(makePrompt(200, 4, 4.5)).toHaveLength(900);
  expect(makePrompt(1, 4, 4.5).length).toBeGreaterThan(0);
});
