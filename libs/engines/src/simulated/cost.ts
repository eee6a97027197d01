/** The cost model: how long a step takes on hardware that is not there. Shared by the live simulated engine and the simulator. */

export interface CostModel {
  /** Reading the weights: the part of a step that does not depend on the batch. */
  stepMs: number;
  /** Computing one prompt token. */
  prefillTokenMs: number;
  /** Reading one token of context from memory, for a sequence that generates. */
  contextTokenMs: number;
  /** Computing one generated token, where that is not hidden behind the weights. Default 0. */
  decodeTokenMs?: number;
  /**
   * Beginning to compute prompt tokens, once in a step that does: a CPU takes another way for many tokens of a sequence
   * than for one. Default 0.
   */
  prefillMs?: number;
  /**
   * Generating beside prompt tokens, once in a step that does both, where the two are computed one after the other
   * (llama.cpp). Default 0.
   */
  mixedMs?: number;
  /**
   * Attention of one prompt token to one token before it, where it is not hidden behind the rest (a CPU, long
   * prompts). Default 0.
   */
  attendedTokenMs?: number;
}

/** Moving KV between engine and host memory. */
export interface SwapCost {
  outBytesPerMs: number;
  inBytesPerMs: number;
  /** Beginning one transfer of a whole context, which was gathered in one buffer. */
  transferMs: number;
  /** Copies that move one block when nothing is gathered: keys and values of each layer lie apart. */
  copiesPerBlock: number;
  /** Beginning one such copy. */
  copyMs: number;
}

/** Tokens of context in a block of KV: vLLM's default. */
export const BLOCK_TOKENS = 16;

/** What a live engine needs to know. */
export interface Preset {
  cost: CostModel;
  batchCallsMax: number;
  residentCallsMax: number;
  /** Of the live engine, which refuses longer calls; the simulator runs any context. */
  contextTokensMax: number;
  kvTokens: number;
  /** Prompt tokens per step of the live engine; a simulated system brings its own. */
  sliceTokens: number;
  /** KV of one token of context. */
  kvTokenBytes: number;
  /** Tokens of context that host memory holds. */
  hostKvTokens: number;
  swap: SwapCost;
}

/** The cost model with the host's part, which the live engine has for real. */
export interface EngineCost extends CostModel {
  decodeTokenMs: number;
  /** Host time of one scheduling pass, in which the engine waits: what multi-step scheduling amortises. */
  planMs: number;
}

/** All that the simulator knows of an engine. */
export interface EnginePreset extends Preset {
  cost: EngineCost;
}

/**
 * Default of `planMs`. vLLM 0.6 spends 1–2 ms of Python on a scheduling pass and the inputs of a batch of some tens of
 * calls; experiments sweep it ×0, ×½ and ×2.
 */
const PLAN_MS = 1.5;
/** PCIe 4.0 ×16, as reached. */
const PCIE_BYTES_PER_MS = 25e6;
/** One cudaMemcpyAsync. */
const COPY_MS = 0.005;
/** Gathering (a copy inside the GPU's memory, 1/60 of the transfer) and its launch. */
const TRANSFER_MS = 0.1;
/** HBM of an A100-80GB: 2.0 TB/s, of which 78 % are reached. */
const HBM_BYTES_PER_MS = 2.0e9 * 0.78;
/** Of the GPU's memory, what vLLM uses: its default. */
const MEMORY_SHARE = 0.9;
const GPU_BYTES = 80e9;
/** An eighth of the host memory of a common 8-GPU machine. */
const HOST_BYTES_PER_GPU = 128e9;
/** Calls in a step: vLLM's default. In the lab KV memory ends batches sooner. */
const VLLM_BATCH_CALLS_MAX = 256;
/** Contexts on an engine: more than its memory holds at ShareGPT's lengths, so memory is the limit. */
const A100_RESIDENT_CALLS_MAX = 2048;

/** LLaMA-3.1-8B: 32 layers, 8 KV heads of 128, keys and values, 2 bytes. */
const KV_8B_BYTES = 32 * 8 * 128 * 2 * 2;
/** LLaMA-3.1-70B: 80 layers of the same. */
const KV_70B_BYTES = 80 * 8 * 128 * 2 * 2;
const WEIGHTS_70B_BYTES = 140e9;
const GPUS_70B = 4;
/** Two all-reduces per layer, 20 µs each over NVLink at the sizes of a decode step. */
const ALL_REDUCE_70B_MS = 80 * 2 * 0.02;

/** SmolLM2-135M: 30 layers, 3 KV heads of 64, keys and values, 2 bytes: 46 MB for 2,000 tokens, as measured. */
const KV_SMOLLM2_BYTES = 30 * 3 * 64 * 2 * 2;

/** No memory is moved and nothing waits. */
const FREE_SWAP: SwapCost = {
  outBytesPerMs: Number.POSITIVE_INFINITY,
  inBytesPerMs: Number.POSITIVE_INFINITY,
  transferMs: 0,
  copiesPerBlock: 0,
  copyMs: 0,
};

export const presets = {
  /** No time at all: what remains is the cost of the path around the engine. */
  zero: {
    cost: { stepMs: 0, prefillTokenMs: 0, contextTokenMs: 0, decodeTokenMs: 0, planMs: 0 },
    batchCallsMax: 64,
    residentCallsMax: 256,
    contextTokensMax: 32_768,
    kvTokens: 256 * 32_768,
    sliceTokens: 8192,
    kvTokenBytes: 0,
    hostKvTokens: 256 * 32_768,
    swap: FREE_SWAP,
  },
  /** LLaMA-3.1-8B on one A100-80GB (`paper.md` §5). */
  "a100-8b": {
    cost: {
      stepMs: 7.9,
      prefillTokenMs: 0.093,
      contextTokenMs: KV_8B_BYTES / HBM_BYTES_PER_MS,
      decodeTokenMs: 0,
      planMs: PLAN_MS,
    },
    batchCallsMax: VLLM_BATCH_CALLS_MAX,
    residentCallsMax: A100_RESIDENT_CALLS_MAX,
    contextTokensMax: 8192,
    kvTokens: 427_000,
    sliceTokens: 512,
    kvTokenBytes: KV_8B_BYTES,
    hostKvTokens: Math.floor(HOST_BYTES_PER_GPU / KV_8B_BYTES),
    swap: {
      outBytesPerMs: PCIE_BYTES_PER_MS,
      inBytesPerMs: PCIE_BYTES_PER_MS,
      transferMs: TRANSFER_MS,
      copiesPerBlock: 2 * 32,
      copyMs: COPY_MS,
    },
  },
  /**
   * LLaMA-3.1-70B on four A100-80GB, tensor parallel. Not measured but derived: each GPU reads a quarter of the weights
   * and of the KV; prefill as the 8B model's, by parameters (70.6 / 8.03) over four GPUs, and a tenth more for the
   * all-reduces of its activations; memory as the 8B preset's (0.9 of it, less the weights). Each GPU moves its quarter of a context
   * over its own link.
   */
  "a100x4-70b": {
    cost: {
      stepMs: WEIGHTS_70B_BYTES / (GPUS_70B * HBM_BYTES_PER_MS) + ALL_REDUCE_70B_MS,
      prefillTokenMs: ((0.093 * 70.6) / 8.03 / GPUS_70B) * 1.1,
      contextTokenMs: KV_70B_BYTES / (GPUS_70B * HBM_BYTES_PER_MS),
      decodeTokenMs: 0,
      planMs: PLAN_MS,
    },
    batchCallsMax: VLLM_BATCH_CALLS_MAX,
    residentCallsMax: A100_RESIDENT_CALLS_MAX,
    contextTokensMax: 8192,
    kvTokens: Math.floor((GPUS_70B * GPU_BYTES * MEMORY_SHARE - WEIGHTS_70B_BYTES) / KV_70B_BYTES),
    sliceTokens: 512,
    kvTokenBytes: KV_70B_BYTES,
    hostKvTokens: Math.floor((GPUS_70B * HOST_BYTES_PER_GPU) / KV_70B_BYTES),
    swap: {
      outBytesPerMs: GPUS_70B * PCIE_BYTES_PER_MS,
      inBytesPerMs: GPUS_70B * PCIE_BYTES_PER_MS,
      transferMs: TRANSFER_MS,
      copiesPerBlock: 2 * 80,
      copyMs: COPY_MS,
    },
  },
  /**
   * SmolLM2-135M (Q4_1) on llama.cpp with one thread, as measured: 90 tokens/s at batch 1, 4 and 8 alike, so a
   * CPU pays per token and nothing per step; 160 prompt tokens/s; 2,000 tokens out of the context in 23 ms, back in 12 ms.
   */
  "smollm2-cpu": {
    cost: { stepMs: 0, prefillTokenMs: 1_000 / 160, contextTokenMs: 0, decodeTokenMs: 1_000 / 90, planMs: 0 },
    batchCallsMax: 8,
    residentCallsMax: 8,
    contextTokensMax: 8192,
    kvTokens: 8 * 8192,
    sliceTokens: 16,
    kvTokenBytes: KV_SMOLLM2_BYTES,
    hostKvTokens: Math.floor(1e9 / KV_SMOLLM2_BYTES),
    swap: {
      outBytesPerMs: (2_000 * KV_SMOLLM2_BYTES) / 23,
      inBytesPerMs: (2_000 * KV_SMOLLM2_BYTES) / 12,
      transferMs: 0,
      copiesPerBlock: 0,
      copyMs: 0,
    },
  },
} as const satisfies Record<string, EnginePreset>;

export type PresetName = keyof typeof presets;

export function isPresetName(text: string): text is PresetName {
  return Object.hasOwn(presets, text);
}

export interface StepLoad {
  prefillTokens: number;
  /** Sequences that generate a token each. */
  decodeTokens: number;
  /** Sum of their contexts. */
  contextTokens: number;
  /** Sum over the prompt tokens of the tokens that each attends to. Default 0. */
  attendedTokens?: number;
}

/** @returns ms. */
export function stepCost(cost: CostModel, load: StepLoad): number {
  return (
    cost.stepMs +
    (load.prefillTokens > 0 ? (cost.prefillMs ?? 0) : 0) +
    (load.prefillTokens > 0 && load.decodeTokens > 0 ? (cost.mixedMs ?? 0) : 0) +
    load.prefillTokens * cost.prefillTokenMs +
    load.contextTokens * cost.contextTokenMs +
    load.decodeTokens * (cost.decodeTokenMs ?? 0) +
    (load.attendedTokens ?? 0) * (cost.attendedTokenMs ?? 0)
  );
}

/** @returns `StepLoad.attendedTokens` of a slice that is computed behind this context. */
export function attendedBy(sliceTokens: number, contextTokens: number): number {
  return sliceTokens * (contextTokens + sliceTokens / 2);
}

/**
 * Several decode steps one after the other: each context grows by a token per step, so the sum is that of an
 * arithmetic series.
 *
 * @param load of the first of the steps; it has no prompt tokens.
 * @returns ms
 */
export function decodeStepsCost(cost: CostModel, load: Omit<StepLoad, "prefillTokens">, steps: number): number {
  const { decodeTokens, contextTokens } = load;
  const contexts = steps * contextTokens + (decodeTokens * steps * (steps - 1)) / 2;
  return steps * (cost.stepMs + decodeTokens * (cost.decodeTokenMs ?? 0)) + contexts * cost.contextTokenMs;
}

/** @param per one transfer for the whole context, or one for each block with its copies. @returns ms */
export function swapTime(
  swap: SwapCost,
  direction: "out" | "in",
  per: "call" | "block",
  moved: { bytes: number; blocks: number },
): number {
  const overheadMs = per === "call" ? swap.transferMs : moved.blocks * swap.copiesPerBlock * swap.copyMs;
  return moved.bytes / (direction === "out" ? swap.outBytesPerMs : swap.inBytesPerMs) + overheadMs;
}
