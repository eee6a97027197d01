/**
 * `AUTELLIX_ENGINE_MODEL=<GGUF file>` runs it on that model, `AUTELLIX_EQUALITY_SEED=<n>` with other calls,
 * `AUTELLIX_EQUALITY_CALLS=<n>` with as many.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type LlamaEngine, openLlamaEngine } from "../src/llama/index.ts";
import { writeTinyModel } from "../src/tiny-model/index.ts";
import { equality } from "./equality.ts";

const folder = await mkdtemp(join(tmpdir(), "autellix-equality-"));
const named = process.env.AUTELLIX_ENGINE_MODEL;
const seed = Number(process.env.AUTELLIX_EQUALITY_SEED ?? 1);
const calls = Number(process.env.AUTELLIX_EQUALITY_CALLS ?? 200);
const DURATION_MS_MAX = named === undefined ? 100_000 : 3_600_000;
let engines: [LlamaEngine, LlamaEngine];

beforeAll(async () => {
  const modelFile = named ?? join(folder, "tiny.gguf");
  if (named === undefined) await writeTinyModel(modelFile, { seed: 1 });
  const options = { modelFile, models: ["m"], contextTokensMax: 512, sliceTokens: 16, hostKvDir: folder };
  engines = [await openLlamaEngine(options), await openLlamaEngine(options)];
});
afterAll(async () => {
  for (const engine of engines) await engine.shutdown();
  await rm(folder, { recursive: true });
});

it("gives the same text whatever interrupts a call", { timeout: DURATION_MS_MAX + 60_000 }, async () => {
  const result = await equality({
    engines,
    calls,
    seed,
    promptWordsMax: named === undefined ? 40 : 120,
    completionTokensMax: named === undefined ? 50 : 40,
    durationMsMax: DURATION_MS_MAX,
  });
  console.info(`seed ${seed}:`, { ...result, differences: result.differences.length });
  expect(result.differences, `seed ${seed}`).toEqual([]);
  // With this model, these slices and flash attention on the CPU, recomputing gives the same bits.
  if (named === undefined) expect(result.recomputedDifferences, `seed ${seed}`).toEqual([]);
  expect(result.calls).toBeGreaterThanOrEqual(Math.min(calls, 50));
  for (const count of Object.values(result.interruptions)) expect(count).toBeGreaterThan(result.calls / 4);
  expect(result.inPrefill).toBeGreaterThan(result.calls / 10);
  expect(result.takenOver).toBeGreaterThan(result.interruptions.move / 2);
  for (const engine of engines) {
    expect(engine.counters()).toMatchObject({ residentCalls: 0, contextTokens: 0, hostBytes: 0 });
  }
});
