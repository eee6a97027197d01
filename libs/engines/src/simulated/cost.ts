/** The cost model: how long a step takes on hardware that is not there. */

export interface CostModel {
  /** Reading the weights: the part of a step that does not depend on the batch. */
  stepMs: number;
  /** Computing one prompt token. */
  prefillTokenMs: number;
  /** Reading one token of context from memory, for a sequence that generates. */
  contextTokenMs: number;
}

export interface Preset {
  cost: CostModel;
  batchCallsMax: number;
  residentCallsMax: number;
  contextTokensMax: number;
  kvTokens: number;
  /** Prompt tokens per step. */
  sliceTokens: number;
}

const KV_TOKEN_BYTES = 128 * 1024;
/** 2.0 TB/s, of which 78 % are reached. */
const MEMORY_BYTES_PER_MS = 2.0e9 * 0.78;
const A100_KV_TOKENS = 427_000;
const A100_CONTEXT_TOKENS = 8192;

export const presets = {
  /** No time at all: what remains is the cost of the path around the engine. */
  zero: {
    cost: { stepMs: 0, prefillTokenMs: 0, contextTokenMs: 0 },
    batchCallsMax: 64,
    residentCallsMax: 256,
    contextTokensMax: 32_768,
    kvTokens: 256 * 32_768,
    sliceTokens: 8192,
  },
  /** LLaMA-3.1-8B on one A100-80GB (`paper.md` §5). */
  "a100-8b": {
    cost: { stepMs: 7.9, prefillTokenMs: 0.093, contextTokenMs: KV_TOKEN_BYTES / MEMORY_BYTES_PER_MS },
    batchCallsMax: 64,
    residentCallsMax: 256,
    contextTokensMax: A100_CONTEXT_TOKENS,
    kvTokens: A100_KV_TOKENS,
    sliceTokens: 512,
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof presets;

export interface StepLoad {
  prefillTokens: number;
  /** Sum of the contexts of the sequences that generate. */
  contextTokens: number;
}

/** @returns ms */
export function stepCost(cost: CostModel, load: StepLoad): number {
  return cost.stepMs + load.prefillTokens * cost.prefillTokenMs + load.contextTokens * cost.contextTokenMs;
}
