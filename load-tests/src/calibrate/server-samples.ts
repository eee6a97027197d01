/**
 * Points of an engine that is a server: it computes by itself what it was given, so a point is a batch of calls from
 * their beginning to their end. Prompts and answers of several lengths tell the model's parts apart.
 */
import type { Engine } from "@autellix/engines";
import { attendedBy } from "@autellix/engines/cost";
import { chatOf } from "./chat.ts";
import type { SampleOptions, Samples, StepPoint } from "./samples.ts";

/** Mostly prompt, and mostly generation. */
const ANSWERS_TOKENS = [4, 64];

/** @throws when the engine fails, or `signal` is aborted. */
export async function sampleServer(engine: Engine, options: SampleOptions, charsPerToken: number): Promise<Samples> {
  const { batches, levels, repeats, onProgress } = options;
  const steps: StepPoint[] = [];
  // Each prompt is new: the server's own cache would find a known one.
  let index = 0;
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const promptTokens of levels) {
      onProgress?.(`round ${repeat + 1} of ${repeats}, prompts of ${promptTokens} tokens`);
      for (const batch of batches) {
        for (const completionTokens of ANSWERS_TOKENS) {
          options.signal?.throwIfAborted();
          const sizes = Array.from({ length: batch }, () => ({
            index: index++,
            promptTokens,
            completionTokens,
            charsPerToken,
          }));
          steps.push(await run(engine, sizes));
        }
      }
    }
  }
  return { steps, swaps: [] };
}

async function run(engine: Engine, sizes: readonly Parameters<typeof chatOf>[0][]): Promise<StepPoint> {
  const calls = await Promise.all(
    sizes.map((size) => engine.open({ key: `calibrate/${size.index}`, forcedIds: [], ...chatOf(size) })),
  );
  const startMs = performance.now();
  let live = calls;
  while (live.length > 0) {
    const { calls: steps } = await engine.step(live);
    for (const { error } of steps) if (error !== undefined) throw error;
    live = live.filter((call) => steps.some((step) => step.call === call && step.finish === undefined));
  }
  const durationMs = performance.now() - startMs;
  const point: StepPoint = {
    kind: "mixed",
    passes: 1,
    prefillTokens: 0,
    decodeTokens: 0,
    contextTokens: 0,
    attendedTokens: 0,
    durationMs,
  };
  for (const { promptTokens, completionTokens, cachedTokens } of calls) {
    // The prompt's pass brings the first token.
    const generated = Math.max(0, completionTokens - 1);
    point.passes = Math.max(point.passes, completionTokens);
    point.prefillTokens += promptTokens - cachedTokens;
    point.attendedTokens += attendedBy(promptTokens - cachedTokens, cachedTokens);
    point.decodeTokens += generated;
    point.contextTokens += generated * (promptTokens + generated / 2);
  }
  await Promise.all(calls.map((call) => engine.close(call)));
  return point;
}
