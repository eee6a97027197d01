/** Which batch sizes and context lengths are measured. */
import type { EngineInfo } from "@autellix/protocol";
import type { SampleOptions } from "./samples.ts";

/** Context lengths, as shares of the longest: short ones show what a step costs without attention. */
const LEVELS = [1 / 32, 1 / 8, 1 / 4, 1 / 2, 1];
/** Left for the answer, and for prompts that come out longer than estimated. */
const PROMPT_SHARE = 0.9;
const LEVEL_TOKENS_MIN = 32;

/** @param contextsMax tokens; default: what the engine holds. */
export function samplePlan(info: EngineInfo, contextsMax: number | undefined, repeats: number): SampleOptions {
  const longest = Math.min(contextsMax ?? Number.POSITIVE_INFINITY, Math.floor(info.contextTokensMax * PROMPT_SHARE));
  const levels = LEVELS.map((share) => Math.max(LEVEL_TOKENS_MIN, Math.floor(longest * share)));
  const batches: number[] = [];
  for (let batch = 1; batch < info.batchCallsMax; batch *= 2) batches.push(batch);
  return { batches: [...batches, info.batchCallsMax], levels: [...new Set(levels)], repeats };
}
