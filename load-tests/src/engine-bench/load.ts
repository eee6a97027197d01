/** What both arms generate: answers of one length to prompts of one length, sampled as a client's would be. */
import { makePrompt } from "../text.ts";

export interface DecodeLoad {
  /** Calls at once. */
  batch: number;
  promptTokens: number;
  /** Of each answer. */
  tokens: number;
  seed: number;
}

export const TEMPERATURE = 1;
const CHARS_PER_TOKEN = 4.5;
/** More than there are calls in one. */
const SEEDS_PER_MEASUREMENT = 1_009;
const SEED_MAX = 2 ** 31 - 1;

/** Different for each call of each measurement. */
export function seedOf({ seed }: DecodeLoad, index: number): number {
  return (seed * SEEDS_PER_MEASUREMENT + index) % SEED_MAX;
}

export function promptOf(load: DecodeLoad, index: number): string {
  return makePrompt(load.promptTokens, seedOf(load, index), CHARS_PER_TOKEN);
}
