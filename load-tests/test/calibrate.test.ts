import { openSimulatedEngine } from "@autellix/engines";
import { type EnginePreset, presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { fit } from "../src/calibrate/fit.ts";
import { fitRelative } from "../src/calibrate/least-squares.ts";
import { parseCalibrateOptions } from "../src/calibrate/options.ts";
import { fitText, presetOf } from "../src/calibrate/preset.ts";
import { sample } from "../src/calibrate/samples.ts";
import { UsageError } from "../src/options.ts";

describe("a fit", () => {
  const rows = Array.from({ length: 40 }, (_, i) => [1, i, (i * i) % 17]);
  const targets = rows.map(([, a = 0, b = 0]) => 5 + 2 * a + 0.5 * b);

  it("finds the coefficients, also when some times were disturbed", () => {
    const disturbed = targets.map((target, i) => (i % 7 === 3 ? target * 3 : target));
    for (const some of [targets, disturbed]) {
      const [a, b, c] = fitRelative(rows, some);
      expect(a).toBeCloseTo(5, 2);
      expect(b).toBeCloseTo(2, 2);
      expect(c).toBeCloseTo(0.5, 2);
    }
  });

  it("has no negative coefficient", () => {
    const falling = rows.map(([, , c = 0]) => 40 - c);
    const coefficients = fitRelative(rows, falling);
    expect(Math.min(...coefficients)).toBeGreaterThanOrEqual(0);
    expect(coefficients[0]).toBeGreaterThan(20);
  });

  it("says when points are too few, or leave a coefficient open", () => {
    expect(() => fitRelative([[1, 2, 3]], [1])).toThrow("too few to fit 3");
    const twins = rows.map(([, a = 0]) => [1, a, 2 * a]);
    const [, b = 0, c = 0] = fitRelative(
      twins,
      rows.map(([, a = 0]) => 1 + 2 * a),
    );
    expect(b + 2 * c).toBeCloseTo(2, 6);
  });
});

describe("calibrating", () => {
  async function calibrated(preset: EnginePreset, batchCallsMax: number) {
    const clock = { sleepMs: async () => {} };
    const engine = openSimulatedEngine({ models: ["sim"], preset, clock, batchCallsMax, contextTokensMax: 2_048 });
    const samples = await sample(engine, { batches: [1, 2, batchCallsMax], levels: [64, 500, 1_500], repeats: 3 });
    expect(engine.counters()).toMatchObject({ residentCalls: 0, hostBytes: 0 });
    const fitted = fit(samples);
    return { preset: presetOf(engine.info, samples, fitted), fitted, samples };
  }

  it.each<[string, EnginePreset, number]>([
    ["a100-8b", presets["a100-8b"], 16],
    ["smollm2-cpu", presets["smollm2-cpu"], 4],
    [
      "a CPU whose attention shows",
      {
        ...presets["smollm2-cpu"],
        cost: {
          ...presets["smollm2-cpu"].cost,
          stepMs: 1,
          prefillMs: 5,
          mixedMs: 3,
          contextTokenMs: 0.007,
          attendedTokenMs: 0.006,
        },
      },
      4,
    ],
  ])("the simulated engine gives its preset back: %s", async (_, preset, batch) => {
    const { preset: found, fitted } = await calibrated(preset, batch);
    const cost = { attendedTokenMs: 0, mixedMs: 0, prefillMs: 0, ...preset.cost, planMs: 0 };
    for (const [name, value] of Object.entries(cost))
      expect([name, found.cost[name as keyof typeof found.cost]]).toEqual([name, expect.closeTo(value, 4)]);
    expect(found.swap.outBytesPerMs / preset.swap.outBytesPerMs).toBeCloseTo(1, 3);
    expect(found.swap.inBytesPerMs / preset.swap.inBytesPerMs).toBeCloseTo(1, 3);
    expect(found.swap.transferMs).toBeCloseTo(preset.swap.transferMs, 3);
    expect(found).toMatchObject({ batchCallsMax: batch, contextTokensMax: 2_048 });
    expect(found.kvTokenBytes / preset.kvTokenBytes).toBeCloseTo(1, 1);
    expect(fitted.errors.steps.p95).toBeLessThan(1e-3);
    expect(fitted.errors.swapOut.p95).toBeLessThan(1e-3);
    expect(fitText(fitted)).toContain("0.0 %");
  });

  it("goes on from shorter contexts, and generates at every batch size", async () => {
    const { samples } = await calibrated(presets["a100-8b"], 4);
    const decodes = samples.steps.filter(({ kind }) => kind === "decode");
    expect(new Set(decodes.map(({ decodeTokens }) => decodeTokens))).toEqual(new Set([1, 2, 4]));
    expect(samples.steps.some(({ kind }) => kind === "mixed")).toBe(true);
    const swaps = samples.swaps.map(({ tokens }) => tokens);
    expect(Math.max(...swaps)).toBeGreaterThan(1_400);
  });

  it("takes a server's calls from their beginning to their end", async () => {
    const preset = { ...presets["smollm2-cpu"], cost: { ...presets.zero.cost, stepMs: 0.01 } };
    const simulated = openSimulatedEngine({ models: ["sim"], preset, batchCallsMax: 2 });
    const engine = new Proxy(simulated, {
      get(target, key) {
        if (key === "info") return { ...target.info, forwards: true };
        const value: unknown = Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const { steps, swaps } = await sample(engine, { batches: [1, 2], levels: [32, 100], repeats: 2 });
    expect(simulated.counters()).toMatchObject({ residentCalls: 0 });
    await simulated.shutdown();
    expect([steps.length, swaps.length]).toEqual([2 * 2 * 2 * 2, 0]);
    const sizes = steps.map(({ passes, decodeTokens }) => [passes, decodeTokens]);
    expect(sizes.slice(0, 4)).toEqual([
      [4, 3],
      [64, 63],
      [4, 6],
      [64, 126],
    ]);
    const [first, , both] = steps;
    expect((both?.prefillTokens ?? 0) / (first?.prefillTokens ?? 1)).toBeCloseTo(2, 1);
    // 63 tokens behind the prompt and the first one, which grow from 1 to 63.
    const prompt = steps[1]?.prefillTokens ?? 0;
    expect(steps[1]?.contextTokens).toBeCloseTo(63 * (prompt + 31.5), 6);
    for (const { durationMs } of steps) expect(durationMs).toBeGreaterThan(0);
  });

  it("does without a host tier", async () => {
    const { preset, fitted } = await calibrated({ ...presets["a100-8b"], hostKvTokens: 0 }, 2);
    expect([preset.hostKvTokens, fitted.swap]).toEqual([0, undefined]);
    expect(fitText(fitted)).toContain("no host tier");
  });
});

describe("the command line of calibrate", () => {
  it("names an engine", () => {
    expect(parseCalibrateOptions(["--model-file", "m.gguf", "--batch", "8"])).toMatchObject({
      engine: { kind: "llama", modelFile: "m.gguf", gpu: false, batchCallsMax: 8 },
      contextsMax: undefined,
      out: undefined,
    });
    expect(parseCalibrateOptions(["--help"])).toBeUndefined();
  });

  it.each<[string[], string]>([
    [[], "--engine llama needs a --model-file"],
    [["--engine", "http"], "--engine http needs a --url"],
    [["--engine", "tpu"], "--engine must be one of"],
    [["--engine", "simulated", "--preset", "h100"], "--preset must be one of"],
    [["--model-file", "a", "--gpu", "yes"], "--gpu must be auto or false"],
    [["--model-file", "a", "--batch", "0"], "--batch"],
    [["--model-file", "a", "--out", ""], "--out needs a file"],
  ])("refuses %j", (args, message) => {
    expect(() => parseCalibrateOptions(args)).toThrow(UsageError);
    expect(() => parseCalibrateOptions(args)).toThrow(message);
  });
});
