/** The measurements of real engines from end to end, on the tiny model: that they work, never how fast it is. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { readPreset } from "@autellix/engines/preset-file";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { ContextResult } from "../src/engine-bench/contexts.ts";
import { modelFileOf } from "../src/engine-bench/model.ts";
import type { BatchResult } from "../src/engine-bench/report.ts";
import type { MeasuredEngine } from "../src/gpu-bench/measure.ts";
import type { LiveFindings } from "../src/live/bench.ts";

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 16 * 2 ** 20;

let folder: string;
let modelFile: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
  modelFile = await modelFileOf("tiny", {}, new AbortController().signal);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs a script of this package. @returns its standard output. */
async function script(name: string, ...args: string[]): Promise<string> {
  const path = resolve(import.meta.dirname, `../src/${name}.ts`);
  const { stdout } = await run(process.execPath, [path, ...args], { maxBuffer: OUTPUT_BYTES_MAX });
  return stdout;
}

async function reportOf(name: string): Promise<unknown> {
  const [result] = (await readdir(folder)).filter((one) => one.startsWith(`${name}-`));
  const text = await readFile(join(folder, result ?? "", "report.json"), "utf8");
  expect(await readFile(join(folder, result ?? "", "report.txt"), "utf8")).not.toBe("");
  return JSON.parse(text);
}

it("calibrate writes a preset that others read", async () => {
  const file = join(folder, "tiny.json");
  const size = ["--batch", "2", "--contexts-max", "300", "--repeats", "3"];
  const text = await script("calibrate", "--model-file", modelFile, ...size, "--out", file);
  expect(text).toContain("median error");
  const preset = readPreset(file);
  expect(preset).toMatchObject({ batchCallsMax: 2 });
  expect(preset.cost.prefillTokenMs + preset.cost.stepMs).toBeGreaterThan(0);
  expect(preset.kvTokenBytes).toBeGreaterThan(0);
  const table = await script(
    "simulate",
    "--workload",
    "equal",
    "--programs",
    "3",
    "--preset",
    file,
    "--policy",
    "plas",
  );
  expect(table).toContain("plas");
});

it("bench:engine compares both arms, and measures kept contexts", async () => {
  // The tiny model's steps take less than a millisecond: shorter answers would be one message of tokens.
  const size = [
    "--batches",
    "2",
    "--systems",
    "2",
    "--pairs",
    "1",
    "--tokens",
    "200",
    "--context-tokens",
    "300",
    "--repeats",
    "1",
  ];
  await script("engine-bench", "--model-file", modelFile, ...size, "--ratio", "0", "--out", folder).catch(
    // Code 1: a share that this machine did not reach now.
    (error: { code?: unknown }) => expect(error.code).toBe(1),
  );
  const report = (await reportOf("bench-engine")) as { batches: BatchResult[]; contexts: ContextResult };
  expect(report.batches).toMatchObject([{ batch: 2, direct: expect.any(Number), agent: expect.any(Number) }]);
  for (const { pairs, systemShares } of report.batches) expect([pairs.length, systemShares.length]).toEqual([2, 2]);
  for (const { direct, agent } of report.batches) expect(Math.min(direct, agent)).toBeGreaterThan(0);
  expect(report.contexts.cachedTokens).toBeGreaterThan(200);
  expect(report.contexts.swapBytes).toBeGreaterThan(0);
});

it("bench:live runs policies on a real engine, and the simulator plays what they recorded", async () => {
  const load = [
    "--seconds",
    "2",
    "--finite-load",
    "0.8",
    "--steady-load",
    "0",
    "--policies",
    "plas",
    "--tiers",
    "host",
  ];
  await script("live-bench", "--model-file", modelFile, ...load, "--out", folder);
  const report = (await reportOf("bench-live")) as LiveFindings;
  expect(report.missing).toBe(0);
  expect(report.reports).toHaveLength(1);
  for (const one of report.reports) {
    expect(one.arm).toEqual({ protocol: "finite", policy: "plas", hostTier: true });
    expect(one.finished).toBe(one.offered);
    expect(Object.keys(one.byKind).sort()).toEqual(["long", "short"]);
    expect(one.busyMs).toBeGreaterThan(0);
    expect(one.predicted.busyMs).toBeGreaterThan(0);
    expect(one.predicted.programMs).toBeGreaterThan(0);
    expect(one.prefilledTokens).toBeGreaterThan(0);
    // The engine was calibrated again after it.
    expect([one.pace?.before, one.busyErrorOfFirst]).toEqual([1, expect.any(Number)]);
    expect(one.pace?.after).toBeGreaterThan(0);
  }
});

it("bench:gpu does the same on the CPU", async () => {
  const size = ["--batch", "2", "--context-tokens", "1024", "--repeats", "3"];
  const load = [
    "--seconds",
    "2",
    "--finite-load",
    "0.8",
    "--steady-load",
    "0",
    "--policies",
    "fcfs",
    "--tiers",
    "host",
  ];
  const text = await script("gpu-bench", "--cpu", "--model-file", modelFile, ...size, ...load, "--out", folder);
  expect(text).toContain("in pieces of");
  const report = (await reportOf("bench-gpu")) as { engine: MeasuredEngine; live: LiveFindings };
  expect(report.engine.swaps?.piecesMs).toBeGreaterThan(0);
  expect(report.live.reports).toHaveLength(1);
  expect(report.live.reports[0]?.finished).toBe(report.live.reports[0]?.offered);
});
