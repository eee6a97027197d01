/** llama.cpp in this process, by node-llama-cpp. Loads native code: import it only where a llama engine is opened. */
import { AutellixError } from "@autellix/protocol";
import type { LlamaContext, LlamaModel, Token } from "node-llama-cpp";
import { Contexts } from "./contexts.ts";
import { BatchCounter, LlamaEngine } from "./engine.ts";
import { type Log, loadModel, logsArrived, messageOf, useLlama } from "./library.ts";
import { CallMaker } from "./make-call.ts";
import { freeSamplers } from "./samplers.ts";
import { Seats } from "./seats.ts";
import { CPU_SLICE_TOKENS_MAX, GPU_SLICE_TOKENS_MAX, measureSlice } from "./slice.ts";
import { fingerprintOf, openTier, type Tier } from "./tier.ts";

export type { LlamaEngine } from "./engine.ts";
export type { Log, LogLevel } from "./library.ts";

export interface LlamaOptions {
  /** A GGUF file. */
  modelFile: string;
  /** Names under which it is offered; the first is its own. */
  models: string[];
  /** Default false: CPU only. "auto" needs the binaries of node-llama-cpp for the GPU. */
  gpu?: "auto" | false;
  /** Default 1: llama.cpp's threads spin, and on a busy machine two of them are slower than one. */
  threads?: number;
  batchCallsMax?: number;
  residentCallsMax?: number;
  heldCallsMax?: number;
  /** Per call, prompt and answer; capped by what the model was trained for. */
  contextTokensMax?: number;
  stepMsMax?: number;
  /**
   * Size of prompt slices; default: measured at the start. With quantised weights on the CPU it changes no text up to
   * 32. Elsewhere engines must have the same size to give the same text.
   */
  sliceTokens?: number;
  /**
   * Where the host tier is: a file system in memory. Default `/dev/shm`; where there is none, there is no tier either.
   */
  hostKvDir?: string;
  /** Default: 1 GiB, or half of what that file system has free. 0: no host tier. */
  hostKvBytesMax?: number;
  /** Lines of llama.cpp. They hold no prompt. */
  log?: Log;
  /** What the operator should know: there is no host tier, or a smaller one than wanted, and what to do. */
  warn?: (sentence: string) => void;
}

const DEFAULT = {
  threads: 1,
  batchCallsMax: 4,
  residentCallsMax: 8,
  heldCallsMax: 64,
  contextTokensMax: 2048,
  stepMsMax: 150,
};
const BLOCK_TOKENS = 16;
/** llama.cpp's own limit. */
const SEQUENCES_MAX = 256;
/**
 * Each position's attention is computed alone, whatever is beside it in the batch: with quantised weights the CPU then
 * gives the same bits for every slicing and every batch. Without it, cutting a prompt elsewhere moved logits by 0.3.
 */
const FLASH_ATTENTION = true;
/** In every vocabulary; which token it is does not matter. */
const MEASURE_ID = 0 as Token;

/**
 * Loads the model, takes memory for `residentCallsMax` contexts and measures the prompt slice.
 * @throws AutellixError `engine_error` with one sentence that says what to do.
 */
export async function openLlamaEngine(options: LlamaOptions): Promise<LlamaEngine> {
  const limits = { ...DEFAULT, ...options };
  if (limits.residentCallsMax < limits.batchCallsMax || limits.residentCallsMax > SEQUENCES_MAX) {
    throw new AutellixError(
      "engine_error",
      `residentCallsMax must be from batchCallsMax (${limits.batchCallsMax}) to ${SEQUENCES_MAX}.`,
    );
  }
  const errors: string[] = [];
  const use = await useLlama(options.gpu ?? false, (level, message) => {
    if (level === "error") errors.push(message);
    options.log?.(level, message);
  });
  let model: LlamaModel | undefined;
  let tier: Tier | undefined;
  try {
    model = await loadModel(use, options.modelFile, errors);
    const contextTokensMax = blocksOf(Math.min(limits.contextTokensMax, model.trainContextSize)) * BLOCK_TOKENS;
    const sliceTokensMax =
      options.sliceTokens ?? (use.llama.gpu === false ? CPU_SLICE_TOKENS_MAX : GPU_SLICE_TOKENS_MAX);
    const sized = { ...limits, contextTokensMax, sliceTokensMax: Math.min(sliceTokensMax, contextTokensMax) };
    const batches = new BatchCounter();
    const context = await makeContext(model, batches, sized);
    const seats = new Seats(context);
    const sliceTokens = options.sliceTokens ?? (await measure(seats, sized));
    tier = await openTier(seats, BLOCK_TOKENS, options);
    batches.reset();
    const loaded = model;
    return new LlamaEngine({
      info: {
        kind: "llama",
        models: options.models,
        preemption: tier === undefined ? "recompute" : "swap",
        batchCallsMax: limits.batchCallsMax,
        residentCallsMax: limits.residentCallsMax,
        heldCallsMax: limits.heldCallsMax,
        kvBlocks: limits.residentCallsMax * blocksOf(contextTokensMax),
        blockTokens: BLOCK_TOKENS,
        contextTokensMax,
        hostBlocks: tier?.blocks ?? 0,
        retains: true,
      },
      calls: new CallMaker(model, contextTokensMax),
      contexts: new Contexts(seats, tier, await fingerprintOf(options.modelFile, context)),
      sliceTokens,
      hostBlockBytes: tier?.blockBytes,
      batches,
      dispose: async () => {
        await context.dispose();
        freeSamplers(loaded);
        await loaded.dispose();
        await use.release();
      },
    });
  } catch (error) {
    await tier?.files.close();
    if (model !== undefined) freeSamplers(model);
    await model?.dispose();
    await use.release();
    throw error;
  }
}

async function makeContext(
  model: LlamaModel,
  batches: BatchCounter,
  limits: {
    contextTokensMax: number;
    residentCallsMax: number;
    batchCallsMax: number;
    threads: number;
    sliceTokensMax: number;
  },
): Promise<LlamaContext> {
  try {
    return await model.createContext({
      contextSize: limits.contextTokensMax,
      sequences: limits.residentCallsMax,
      batchSize: Math.max(limits.sliceTokensMax, limits.batchCallsMax),
      threads: limits.threads,
      flashAttention: FLASH_ATTENTION,
      failedCreationRemedy: false,
      batching: { itemPrioritizationStrategy: batches.strategy },
    });
  } catch (cause) {
    await logsArrived();
    throw new AutellixError(
      "engine_error",
      `No memory for ${limits.residentCallsMax} contexts of ${limits.contextTokensMax} tokens (${messageOf(cause)}): ` +
        "lower residentCallsMax or contextTokensMax, or take a smaller model.",
      { cause },
    );
  }
}

async function measure(
  seats: Seats,
  limits: { stepMsMax: number; batchCallsMax: number; sliceTokensMax: number },
): Promise<number> {
  const seat = seats.take([]);
  const { sequence } = seat;
  try {
    return await measureSlice({
      evaluate: async (tokens) => {
        await sequence.clearHistory();
        await sequence.evaluateWithoutGeneratingNewTokens(Array.from({ length: tokens }, () => MEASURE_ID));
      },
      nowMs: () => performance.now(),
      stepMsMax: limits.stepMsMax,
      neighbours: limits.batchCallsMax - 1,
      sliceTokensMax: limits.sliceTokensMax,
    });
  } finally {
    await seats.giveBack(seat);
  }
}

function blocksOf(tokens: number): number {
  return Math.max(1, Math.floor(tokens / BLOCK_TOKENS));
}
