/** One call on the llama engine: its ids, its text, and how far its context has been evaluated. */
import { randomInt } from "node:crypto";
import type { ChatCall } from "@autellix/protocol";
import type { LlamaContextSequence } from "node-llama-cpp";
import { hash } from "../hash.ts";
import type { EngineCall } from "../port.ts";
import type { AnswerText } from "../text.ts";

/** llama.cpp takes 2^32 − 1 for "random"; 31 bits keep clear of it. */
const SEED_MAX = 0x7fffffff;
/**
 * llama.cpp's own default. OpenAI's API has no such parameter, and without it the long tail of a small model's
 * vocabulary makes every few words nonsense.
 */
const TOP_K = 40;

export interface Sampling {
  temperature: number;
  topK: number;
  topP: number;
  seed: number;
}

/** Tokens that one forward pass evaluates for this call. */
export interface Pass {
  ids: number[];
  /** False for one generated token at the end of the context: such passes share one llama batch. */
  prefill: boolean;
  /** Whether the pass ends with a new token. */
  samples: boolean;
}

export class LlamaCall implements EngineCall {
  readonly key: string;
  readonly answer: AnswerText;
  readonly #prompt: readonly number[];
  readonly #chat: ChatCall;
  readonly #seed: number;
  sequence: LlamaContextSequence | undefined;
  /** Tokens whose KV is in `sequence`. */
  contextTokens = 0;
  closed = false;

  readonly forcedText: string;

  constructor(key: string, chat: ChatCall, prompt: readonly number[], answer: AnswerText, forcedText: string) {
    this.key = key;
    this.forcedText = forcedText;
    this.#chat = chat;
    this.#prompt = prompt;
    this.answer = answer;
    this.#seed = chat.seed ?? randomInt(SEED_MAX);
  }

  get promptTokens(): number {
    return this.#prompt.length;
  }

  get completionTokens(): number {
    return this.answer.ids.length;
  }

  get ids(): readonly number[] {
    return this.answer.ids;
  }

  /**
   * What comes next. Slices lie on a grid that depends on the call alone: the prompt from 0 on, then the generated ids
   * from the prompt's end on. So a recomputed prompt has the same numbers, bit for bit.
   */
  nextPass(sliceTokens: number): Pass {
    const { contextTokens, promptTokens } = this;
    const end = promptTokens + this.ids.length;
    const inPrompt = contextTokens < promptTokens;
    if (!inPrompt && contextTokens === end - 1) return { ids: this.ids.slice(-1), prefill: false, samples: true };
    if (inPrompt) {
      const to = Math.min(promptTokens, contextTokens + sliceTokens);
      return { ids: this.#prompt.slice(contextTokens, to), prefill: true, samples: to === end };
    }
    const from = contextTokens - promptTokens;
    const ids = this.ids.slice(from, from + sliceTokens);
    return { ids, prefill: true, samples: contextTokens + ids.length === end };
  }

  /**
   * Sampling of the next token. Each has a seed of its own made of the call's seed and the token's index: random state
   * inside the library would not survive a move to another context.
   */
  sampling(): Sampling {
    const { temperature, topP } = this.#chat;
    return { temperature, topP, topK: TOP_K, seed: hash(this.#seed, this.ids.length) & SEED_MAX };
  }
}
