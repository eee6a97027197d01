import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Token } from "node-llama-cpp";
import { afterAll, expect, it } from "vitest";
import { openLlamaEngine } from "../src/llama/index.ts";
import { loadModel, useLlama } from "../src/llama/library.ts";
import { freeSamplers } from "../src/llama/samplers.ts";
import { writeTinyModel } from "../src/tiny-model/index.ts";
import { advance, chat, open } from "./contract.ts";

const folder = await mkdtemp(join(tmpdir(), "autellix-samplers-"));
const modelFile = join(folder, "tiny.gguf");
await writeTinyModel(modelFile, { seed: 1 });
afterAll(() => rm(folder, { recursive: true }));

it("has as many native samplers as calls that ever sampled at once, however many tokens they made", async () => {
  const use = await useLlama(false, () => {});
  const model = await loadModel(use, modelFile, []);
  const context = await model.createContext({ contextSize: 256, sequences: 3, threads: 1 });
  const sequences = [context.getSequence(), context.getSequence(), context.getSequence()];
  const sample = { generateNext: { token: true, options: { temperature: 0 } } } as const;
  for (let i = 0; i < 20; i++)
    await Promise.all(sequences.map((sequence) => sequence.controlledEvaluate([[(i + 1) as Token, sample]])));
  await context.dispose();
  expect(freeSamplers(model)).toBe(3);
  expect(freeSamplers(model)).toBe(0);
  await model.dispose();
  await use.release();
});

it("lets nothing of one call's parameters reach another call", async () => {
  const parameters = [
    { temperature: 0 },
    { temperature: 0, frequencyPenalty: 2 },
    { temperature: 1, seed: 7 },
    { temperature: 1, seed: 7, presencePenalty: 2 },
    { temperature: 0.7, topP: 0.5, seed: 7, logprobs: 3 },
    { temperature: 0, frequencyPenalty: -2 },
  ];
  const calls = parameters.map((one) =>
    chat("Say something, and then more of it.", { ...one, completionTokensMax: 60 }),
  );
  const alone: string[] = [];
  for (const call of calls) {
    const engine = await openLlamaEngine({ modelFile, models: ["m"], batchCallsMax: 1 });
    alone.push(...(await advance(engine, [await open(engine, call)])).map(({ text }) => text));
    await engine.shutdown();
  }
  const engine = await openLlamaEngine({ modelFile, models: ["m"], batchCallsMax: calls.length });
  for (const order of [calls, calls.toReversed()]) {
    const opened = await Promise.all(order.map((call) => open(engine, call)));
    const together = (await advance(engine, opened)).map(({ text }) => text);
    expect(order === calls ? together : together.toReversed()).toEqual(alone);
    await Promise.all(opened.map((call) => engine.close(call)));
  }
  await engine.shutdown();
  // Otherwise the parameters did nothing, and the comparison would say nothing.
  expect(new Set(alone).size).toBeGreaterThan(4);
});
