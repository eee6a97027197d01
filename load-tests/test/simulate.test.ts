import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { balancers, policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { CALL_TRACE_VERSION, formatTraceLine, type TracedCall } from "@autellix/protocol/call-trace";
import {
  type ProgramSpec,
  type SimulationResult,
  simulate,
  systems,
  workloadNames,
  workloads,
} from "@autellix/simulation";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { UsageError } from "../src/options.ts";
import { HELP, parseSimulateOptions } from "../src/simulate/options.ts";
import { simulationText } from "../src/simulate/table.ts";

const SCRIPT = join(import.meta.dirname, "../src/simulate.ts");

describe("the command line of simulate", () => {
  test("has defaults", () => {
    const rest = { rateScale: 1, policies: ["fcfs", "plas"], balancer: undefined, preset: "a100-8b", engines: 1 };
    expect(parseSimulateOptions(["--trace", "a", "--trace", "b"])).toEqual({
      traffic: { kind: "trace", files: ["a", "b"], isOpenLoop: false },
      ...rest,
    });
    expect(parseSimulateOptions(["--workload", "lats"])).toEqual({
      traffic: { kind: "workload", name: "lats", programs: 1_000, ratePerS: 1, seed: 1, arrivals: "poisson" },
      ...rest,
    });
  });

  test("names in its help all that can be chosen, and takes it", () => {
    const known = [...Object.keys(policies), ...workloadNames, ...Object.keys(balancers), ...Object.keys(presets)];
    for (const name of [...known, ...Object.keys(systems)]) expect(HELP).toContain(name);
    for (const name of [...Object.keys(policies), ...Object.keys(systems)])
      expect(parseSimulateOptions(["--workload", "bfcl", "--policy", name])?.policies).toEqual([name]);
    expect(parseSimulateOptions(["--help"])).toBeUndefined();
  });

  test.each([
    [[], "name a --trace or a --workload"],
    [["--trace", "a", "--workload", "bfcl"], "name a --trace or a --workload"],
    [["--trace", ""], "--trace needs a file"],
    [["--trace", "a", "--rate", "2"], "--rate is for --workload"],
    [["--trace", "a", "--seed", "2"], "--seed is for --workload"],
    [["--workload", "bfcl", "--open-loop"], "--open-loop is for --trace"],
    [["--workload", "chess"], 'not "chess"'],
    [["--trace", "a", "--policy", "plas,best"], 'not "best"'],
    [["--trace", "a", "--policy", ""], "--policy must be one of"],
    [["--trace", "a", "--preset", "abacus"], 'not "abacus"'],
    [["--trace", "a", "--balancer", "toString"], 'not "toString"'],
    [["--trace", "a", "--engines", "1.5"], "--engines must be a whole number"],
    [["--trace", "a", "--engines", "0"], "--engines must be a number from 1 to"],
    [["--trace", "a", "--rate-scale", "0"], "--rate-scale must be a number from"],
    [["--trace", "a", "--bogus"], "Unknown option"],
  ])("refuses %j", (args, message) => {
    expect(() => parseSimulateOptions(args)).toThrow(UsageError);
    expect(() => parseSimulateOptions(args)).toThrow(message);
  });
});

/** Ten programs of one call each, 100 tokens more than the last; response = 1 s a hundred tokens. */
function fake(): { programs: ProgramSpec[]; result: SimulationResult } {
  const programs = Array.from({ length: 10 }, (_, index): ProgramSpec => {
    const tokens = 100 * (index + 1);
    const call = { parents: [], gapMs: 0, extends: undefined, newPromptTokens: tokens - 1, decodeTokens: 1 };
    const own = { sharedPrompt: "", sharedPromptTokens: 0, calls: [call] };
    return { id: `${index}`, workload: "fake", arrivesAtMs: 0, ...own };
  });
  const engine = {
    ...{ steps: 1, windows: 1, busyMs: 1, idleMs: 0, batchMean: 1, batchMax: 1, hostHitTokens: 150, swapTransfers: 0 },
    ...{
      prefilledTokens: 250,
      cachedTokens: 600,
      swapOuts: 3,
      swapIns: 2,
      swapBytes: 0,
      swapMs: 0,
      planMs: 0,
      ...{ kvBlocksMax: 1, decodedTokens: 1, outgrown: 0 },
    },
  };
  const result: SimulationResult = {
    programs: programs.map((_, index) => ({
      ...{ index, workload: "fake", calls: 1, arrivedAtMs: 0, endedAtMs: index === 9 ? undefined : 1, aloneMs: 1 },
      ...{ decodeTokens: 10, promptTokens: 0, cachedTokens: 0, serviceMs: 100, waitingMs: 300 },
      ...{ responseMs: 1_000 * (index + 1), pathServiceMs: 0, pathWaitingMs: 0 },
    })),
    ...{ endedAtMs: 12_000, offeredTokens: 1_000, completedTokens: 400, engine: [engine, engine] },
    ...{ promotions: 0, demotions: 0, preemptions: 17, callsInEngineMean: 1, waitingCallsMean: 1 },
  };
  return { programs, result };
}

describe("the table", () => {
  const { programs, result } = fake();
  const lines = simulationText(programs, [{ policy: "plas", result }]).split("\n");
  const cellsOf = (start: string) =>
    lines
      .find((line) => line.trim().startsWith(start))
      ?.trim()
      .split(/\s{2,}/);

  test("adds up a run, and says how much of it was done", () => {
    const head = cellsOf("policy");
    const row = cellsOf("plas");
    const cell = (name: string) => row?.[head?.indexOf(name) ?? -1];
    expect(cell("programs")).toBe("9 of 10");
    expect(cell("mean s")).toBe("5");
    expect(cell("P95 s")).toBe("8.60");
    expect(cell("s/token")).toBe("0.5000");
    expect(cell("waiting %")).toBe("75");
    expect(cell("preemptions")).toBe("17");
    expect(cell("swaps")).toBe("10");
    expect(cell("hit %")).toBe("75");
    expect(cell("makespan s")).toBe("12");
    expect(cell("work done %")).toBe("40");
  });

  test("shows the mean of each tenth by size; of what did not end there is none", () => {
    expect(cellsOf("100 ")).toEqual(["100", "1", "1"]);
    expect(cellsOf("900 ")).toEqual(["900", "1", "9"]);
    expect(cellsOf("1000 ")).toEqual(["1000", "1", "–"]);
  });

  test("is that of a simulation, whose sums agree with each other", () => {
    const offered = workloads.bfcl({ programs: 30, ratePerS: 0.5, seed: 1 });
    const real = simulate({ programs: offered, engines: 1, preset: presets["a100-8b"], system: systems.plas });
    const text = simulationText(offered, [{ policy: "plas", result: real }]);
    expect(text).toMatch(/^plas +30 /m);
    expect(text).toMatch(/ 100$/m);
    expect(real.completedTokens).toBe(real.offeredTokens);
  });
});

describe("npm run simulate", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "autellix-test-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const header = formatTraceLine({ trace: "autellix-calls", version: CALL_TRACE_VERSION, startedAtMs: 0 });
  const call = (index: number, fields: Partial<TracedCall> = {}) =>
    formatTraceLine({
      ...{ call: `c${index}`, program: `p${index % 3}`, model: "m", status: "completed" },
      ...{ arrivedAtMs: 1_000 * index, endedAtMs: 1_000 * index + 500, promptTokens: 50, completionTokens: 20 },
      ...fields,
    });
  const file = (name: string, ...lines: string[]) => {
    const path = join(folder, name);
    writeFileSync(path, lines.join(""));
    return path;
  };
  const run = (...args: string[]) => spawnSync(process.execPath, [SCRIPT, ...args], { encoding: "utf8" });

  test("plays the files of several frontends under each policy", () => {
    const one = file("one.jsonl", header, call(0), call(1), call(2));
    const two = file("two.jsonl", header, call(3), call(4), call(5, { completionTokens: 0 }));
    const { status, stdout, stderr } = run("--trace", one, "--trace", two, "--policy", "fcfs,atlas-dag,srpt");
    expect(stderr).toContain("5 calls of 3 programs, without 1 calls that generated nothing");
    for (const policy of ["fcfs", "atlas-dag", "srpt"])
      expect(stdout).toMatch(new RegExp(`^${policy} +3 .* 100$`, "m"));
    expect(status).toBe(0);
  });

  test("names the file and the line of what is no trace, with a stable code and exit code 2", () => {
    const one = file("good.jsonl", header, call(0));
    const bad = file("bad.jsonl", header, call(1), call(2, { endedAtMs: 1 }));
    const { status, stdout, stderr } = run("--trace", one, "--trace", bad);
    expect(stderr).toBe(`trace_line_invalid: ${bad} line 3: endedAtMs: must not be before arrivedAtMs\n`);
    expect([status, stdout]).toEqual([2, ""]);
    expect(run("--trace", file("empty.jsonl"))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^not_a_trace:/),
    });
    const idle = file("idle.jsonl", header, call(0, { completionTokens: 0 }));
    expect(run("--trace", idle)).toMatchObject({ status: 2, stderr: expect.stringMatching(/^trace_empty:/) });
    expect(run("--trace", join(folder, "none"))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^ENOENT:/),
    });
    const long = file("long.jsonl", header, call(0, { promptTokens: 1_000_000 }));
    expect(run("--trace", long)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(
        /^a call comes to 1000020 tokens of context, and an engine of a100-8b holds 427000;/,
      ),
    });
    expect(run("--trace")).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/see npm run simulate -- --help\n$/),
    });
    // Six processes, one after the other.
  }, 30_000);
});
