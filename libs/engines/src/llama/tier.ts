/** The host tier of a llama context: what its files take, and which engines may read them. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { getModuleVersion, type LlamaContext, type Token } from "node-llama-cpp";
import { HostTier } from "../host-tier.ts";
import type { Seats } from "./seats.ts";

export interface Tier {
  files: HostTier;
  /** A saved context has at most `baseBytes + tokens · tokenBytes`. */
  baseBytes: number;
  tokenBytes: number;
  /** As many blocks as fit even if each is a context of its own. */
  blocks: number;
  blockBytes: number;
}

export interface TierOptions {
  hostKvDir?: string;
  hostKvBytesMax?: number;
  warn?: (sentence: string) => void;
}

/** Two sizes say what a token takes; which token it is does not matter. */
const MEASURED_TOKENS = [1, 17] as const;
const MEASURE_ID = 0 as Token;
/** More than any model's contexts of that many tokens have. */
const MEASURED_BYTES_MAX = 64 * 1024 ** 2;
/** Of the model file, from its beginning and its end. */
const SAMPLE_BYTES = 64 * 1024;

/** Opens the tier and measures what contexts take in it. @returns undefined when there is none. */
export async function openTier(seats: Seats, blockTokens: number, options: TierOptions): Promise<Tier | undefined> {
  const { warn = () => {} } = options;
  const files = await HostTier.open({ dir: options.hostKvDir, bytesMax: options.hostKvBytesMax, warn });
  if (files === undefined) return undefined;
  const [small, large] = [
    await stateBytes(seats, files, MEASURED_TOKENS[0]),
    await stateBytes(seats, files, MEASURED_TOKENS[1]),
  ];
  const blocks = (blockBytes: number) => Math.floor(files.bytesMax / blockBytes);
  if (small !== undefined && large !== undefined) {
    const tokenBytes = Math.ceil((large - small) / (MEASURED_TOKENS[1] - MEASURED_TOKENS[0]));
    const baseBytes = Math.max(0, small - MEASURED_TOKENS[0] * tokenBytes);
    const blockBytes = baseBytes + blockTokens * tokenBytes;
    if (blocks(blockBytes) > 0) return { files, baseBytes, tokenBytes, blocks: blocks(blockBytes), blockBytes };
  }
  warn(
    `There is no host tier for KV: ${files.bytesMax} bytes do not hold one block of this model; raise hostKvBytesMax.`,
  );
  await files.close();
  return undefined;
}

async function stateBytes(seats: Seats, files: HostTier, tokens: number): Promise<number | undefined> {
  const seat = seats.take([]);
  const { sequence } = seat;
  try {
    await sequence.evaluateWithoutGeneratingNewTokens(Array.from({ length: tokens }, () => MEASURE_ID));
    const bytesMax = Math.min(MEASURED_BYTES_MAX, files.bytesMax);
    const file = await files.save(bytesMax, async (path) => (await sequence.saveStateToFile(path)).fileSize);
    if (file !== undefined) await files.remove(file);
    return file?.bytes;
  } finally {
    await seats.giveBack(seat);
  }
}

/** Equal only where a state file of one context can be read by the other: same model, library and shape. */
export async function fingerprintOf(modelFile: string, context: LlamaContext): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(modelFile);
  try {
    const { size } = await file.stat();
    for (const position of [0, Math.max(0, size - SAMPLE_BYTES)]) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(SAMPLE_BYTES), 0, SAMPLE_BYTES, position);
      hash.update(buffer.subarray(0, bytesRead));
    }
    const { totalSequences, contextSize, kvCacheKeyType, kvCacheValueType, flashAttention } = context;
    const shape = [size, totalSequences, contextSize, kvCacheKeyType, kvCacheValueType, flashAttention];
    hash.update([await getModuleVersion(), ...shape].join(" "));
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}
