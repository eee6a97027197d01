/** One call on the llama engine: its ids, its text, and where how much of its context lies. */
import { randomInt } from "node:crypto";
import type { AnswerDelta, ChatCall } from "@autellix/protocol";
import type { HostFile } from "../host-tier.ts";
import type { EngineCall } from "../port.ts";
import type { Answer, Pushed } from "./answer.ts";
import type { Seat } from "./seats.ts";

const SEED_MAX = 0x7fffffff;

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
  readonly chat: ChatCall;
  readonly answer: Answer;
  readonly forcedText: string;
  /** What the forced ids were, where it was more than text. */
  readonly forcedDeltas: readonly AnswerDelta[];
  /** Of its random numbers. Drawn here where the caller gave none: then a later attempt goes on with others. */
  readonly seed: number;
  readonly #prompt: readonly number[];
  seat: Seat | undefined;
  /** Tokens whose KV is in `seat`. */
  contextTokens = 0;
  host: HostFile | undefined;
  /** Tokens whose KV is in `host`. */
  hostTokens = 0;
  /** As many of them are this call's; the rest was another's, and goes when they are read. */
  hostKeepTokens = 0;
  cachedTokens = 0;
  /** Whether `cachedTokens` are in the engine's counters. */
  counted = false;
  /** It has ended; only its context is still wanted. */
  retained = false;
  closed = false;

  constructor(key: string, chat: ChatCall, prompt: readonly number[], answer: Answer, forced: Required<Pushed>) {
    this.key = key;
    this.chat = chat;
    this.#prompt = prompt;
    this.answer = answer;
    this.forcedText = forced.text;
    this.forcedDeltas = forced.deltas;
    this.seed = chat.seed ?? randomInt(SEED_MAX);
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

  /** Always: its whole state is its ids, and each token's randomness has a seed of its own. */
  get preemptible(): boolean {
    return true;
  }

  /** Ids of prompt and answer. */
  get allIds(): readonly number[] {
    return [...this.#prompt, ...this.ids];
  }

  /** How many tokens of such a context this call can go on from; it must evaluate one itself to have a next token. */
  commonTokens(contextIds: readonly number[]): number {
    const ids = this.allIds;
    const most = Math.min(contextIds.length, ids.length - 1);
    let common = 0;
    while (common < most && ids[common] === contextIds[common]) common++;
    return common;
  }

  /**
   * What comes next. Slices end on a grid that depends on the call alone: the prompt from 0 on, then the generated ids
   * from the prompt's end on. So a recomputed prompt has the same numbers, bit for bit.
   */
  nextPass(sliceTokens: number): Pass {
    const { contextTokens, promptTokens } = this;
    const end = promptTokens + this.ids.length;
    if (contextTokens === end - 1 && contextTokens >= promptTokens) {
      return { ids: this.ids.slice(-1), prefill: false, samples: true };
    }
    const [part, offset] = contextTokens < promptTokens ? [this.#prompt, 0] : [this.ids, promptTokens];
    const from = contextTokens - offset;
    const ids = part.slice(from, (Math.floor(from / sliceTokens) + 1) * sliceTokens);
    return { ids, prefill: true, samples: contextTokens + ids.length === end };
  }
}
