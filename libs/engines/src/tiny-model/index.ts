/**
 * A real model that needs nothing from outside: llama architecture, 2 layers, 512 tokens, random weights. Its text is
 * noise; its answers have varied lengths, end by themselves and hold characters of several bytes. For tests, and for
 * machines that cannot get a trained model.
 */
import { writeFile } from "node:fs/promises";
import { encodeGguf, type GgufValue } from "./gguf.ts";
import { BOS_ID, CHAT_TEMPLATE, EOS_ID, VOCABULARY_TOKENS, vocabulary } from "./vocabulary.ts";
import { SHAPE, weights } from "./weights.ts";

export { byteOf, isPiece, VOCABULARY_TOKENS, vocabulary } from "./vocabulary.ts";

const FILE_TYPE_Q5_1 = 9;

/** The file's bytes; the same for the same seed on every platform. */
export function tinyModel(seed: number): Buffer {
  return encodeGguf(metadata(seed), weights(seed));
}

/** Writes the model (about 0.6 MB) to `path`, replacing what is there. */
export async function writeTinyModel(path: string, options: { seed: number }): Promise<void> {
  await writeFile(path, tinyModel(options.seed));
}

function metadata(seed: number): Record<string, GgufValue> {
  const { tokens, scores, types } = vocabulary();
  const head = SHAPE.embeddingLength / SHAPE.heads;
  return {
    "general.architecture": { type: "string", value: "llama" },
    "general.name": { type: "string", value: `autellix-tiny-${seed}` },
    "general.file_type": uint32(FILE_TYPE_Q5_1),
    "llama.vocab_size": uint32(VOCABULARY_TOKENS),
    "llama.context_length": uint32(SHAPE.contextTokens),
    "llama.embedding_length": uint32(SHAPE.embeddingLength),
    "llama.block_count": uint32(SHAPE.layers),
    "llama.feed_forward_length": uint32(SHAPE.feedForwardLength),
    "llama.attention.head_count": uint32(SHAPE.heads),
    "llama.attention.head_count_kv": uint32(SHAPE.heads),
    "llama.attention.layer_norm_rms_epsilon": { type: "float32", value: 1e-5 },
    "llama.rope.dimension_count": uint32(head),
    "llama.rope.freq_base": { type: "float32", value: SHAPE.ropeBase },
    "tokenizer.ggml.model": { type: "string", value: "llama" },
    "tokenizer.ggml.tokens": { type: "strings", value: tokens },
    "tokenizer.ggml.scores": { type: "float32s", value: scores },
    "tokenizer.ggml.token_type": { type: "int32s", value: types },
    "tokenizer.ggml.bos_token_id": uint32(BOS_ID),
    "tokenizer.ggml.eos_token_id": uint32(EOS_ID),
    "tokenizer.ggml.unknown_token_id": uint32(0),
    "tokenizer.ggml.add_bos_token": { type: "bool", value: true },
    "tokenizer.chat_template": { type: "string", value: CHAT_TEMPLATE },
  };
}

function uint32(value: number): GgufValue {
  return { type: "uint32", value };
}
