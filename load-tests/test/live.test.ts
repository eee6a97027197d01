import { openSimulatedEngine } from "@autellix/engines";
import { presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { type Samples, sample } from "../src/calibrate/samples.ts";
import { parseLiveOptions } from "../src/live/options.ts";
import { paceOf, presetAround } from "../src/live/pace.ts";
import { liveWorkload, programsAtOnce, workOf } from "../src/live/workload.ts";
import { UsageError } from "../src/options.ts";

const cpu = { ...presets["smollm2-cpu"], batchCallsMax: 4 };

describe("the programs of bench:live", () => {
  const load = { load: 1.3, seconds: 100, seed: 1 };

  it("are as much work as was asked for, three quarters of it in few long ones", () => {
    const { programs, workMs } = liveWorkload(load, cpu);
    expect(workMs / 130_000).toBeGreaterThan(1);
    expect(workMs / 130_000).toBeLessThan(1.06);
    const total = (kind: string) =>
      programs.filter((one) => one.kind === kind).reduce((sum, one) => sum + workOf(one.calls, cpu), 0);
    expect(total("long") / workMs).toBeGreaterThan(0.72);
    expect(total("long") / workMs).toBeLessThan(0.8);
    const long = programs.filter(({ kind }) => kind === "long").length;
    expect(long).toBeLessThan(programs.length / 3);
    const arrivals = programs.map(({ arrivalMs }) => arrivalMs);
    expect(arrivals).toEqual([...arrivals].sort((a, b) => a - b));
    expect(arrivals.at(-1)).toBeLessThan(100_000);
  });

  it("are the same for the same seed", () => {
    expect(liveWorkload(load, cpu)).toEqual(liveWorkload(load, cpu));
    expect(liveWorkload({ ...load, seed: 2 }, cpu)).not.toEqual(liveWorkload(load, cpu));
  });

  it("are larger on a fast engine, not too many, and fit its context", () => {
    const gpu = presets["a100-8b"];
    const { programs } = liveWorkload(load, gpu);
    const tokens = programs.map(({ calls }) => calls.reduce((sum, c) => sum + c.promptTokens + c.completionTokens, 0));
    expect(Math.max(...tokens)).toBeGreaterThan(2_000);
    expect(Math.max(...tokens)).toBeLessThan(gpu.contextTokensMax);
  });

  it("have a history's attention and its growth in their work", () => {
    const call = { promptTokens: 100, completionTokens: 11, gapMs: 0, thread: "main", parents: [] };
    const cost = {
      stepMs: 0,
      prefillTokenMs: 1,
      contextTokenMs: 0.01,
      decodeTokenMs: 2,
      attendedTokenMs: 0.001,
      planMs: 0,
    };
    const engine = { ...cpu, cost };
    // 100 prompt tokens, their attention, 10 steps that read 100 … 109 tokens.
    expect(workOf([call], engine)).toBeCloseTo(100 + 0.001 * 5_000 + 10 * 2 + 0.01 * 1_045, 6);
    expect(workOf([call, call], engine)).toBeGreaterThan(2 * workOf([call], engine));
  });

  it("are under way together as the simulator says", () => {
    const call = { promptTokens: 16, completionTokens: 90, gapMs: 0, thread: "main", parents: [] };
    const at = (arrivalMs: number) => ({ kind: "short", arrivalMs, calls: [call] });
    // A second and a tenth each, alone.
    expect(programsAtOnce([at(0), at(2_000), at(4_000)], cpu)).toBe(1);
    expect(programsAtOnce([at(0), at(10), at(20), at(30), at(40), at(10_000)], cpu)).toBe(5);
  });
});

describe("the speed of the machine around a run", () => {
  const slower = (samples: Samples, factor: number): Samples => ({
    steps: samples.steps.map((point) => ({ ...point, durationMs: factor * point.durationMs })),
    swaps: samples.swaps.map((swap) => ({ ...swap, durationMs: factor * swap.durationMs })),
  });

  it("is that of the steps which are measured again, and the costs are those of both times", async () => {
    const engine = openSimulatedEngine({ models: ["sim"], preset: cpu, clock: { sleepMs: async () => {} } });
    const first = await sample(engine, { batches: [1, 2, 4], levels: [64, 500], repeats: 3 });
    expect(paceOf(first, slower(first, 1.2))).toBeCloseTo(1.2, 6);
    const { cost, swap, kvTokens } = presetAround(cpu, slower(first, 1.1), slower(first, 1.1));
    expect(cost.decodeTokenMs).toBeCloseTo(1.1 * (cpu.cost.decodeTokenMs ?? 0), 3);
    expect(swap.outBytesPerMs).toBeCloseTo(cpu.swap.outBytesPerMs / 1.1, -3);
    expect(kvTokens).toBe(cpu.kvTokens);
    const between = presetAround(cpu, first, slower(first, 1.2));
    expect(between.cost.prefillTokenMs).toBeCloseTo(1.1 * cpu.cost.prefillTokenMs, 3);
    expect(between.swap.inBytesPerMs).toBeCloseTo(cpu.swap.inBytesPerMs / 1.1, -3);
    expect(() => paceOf(first, { steps: [], swaps: [] })).toThrow("no step was measured both times");
  });
});

describe("the command line of bench:live", () => {
  it("has defaults", () => {
    expect(parseLiveOptions([])).toMatchObject({
      policies: ["fcfs", "plas"],
      finiteLoad: 1.3,
      steadyLoad: 0.9,
      tiers: [true, false],
      batchCallsMax: 4,
      minutes: 25,
      preset: undefined,
    });
    expect(parseLiveOptions(["--help"])).toBeUndefined();
  });

  it.each<[string[], string]>([
    [["--policies", "fcfs,best"], "--policies must be one of"],
    [["--preset", "h100"], "--preset must be one of"],
    [["--tiers", "disk"], "--tiers must be one of both, host, none"],
    [["--batch", "8", "--resident", "4"], "--resident"],
    [["--seconds", "0"], "--seconds"],
  ])("refuses %j", (args, message) => {
    expect(() => parseLiveOptions(args)).toThrow(UsageError);
    expect(() => parseLiveOptions(args)).toThrow(message);
  });
});
