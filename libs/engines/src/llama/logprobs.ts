/** Log probabilities in OpenAI's shape. They are the model's own, after penalties, before temperature and top_p. */
import type { Token } from "node-llama-cpp";

interface TokenWeight {
  token: string;
  logprob: number;
  bytes: number[];
}

export interface TokenLogprob extends TokenWeight {
  top_logprobs: TokenWeight[];
}

export interface Scores {
  /** Ids with their logits, the most likely first. */
  ranked: readonly (readonly [id: Token, logit: number])[];
  /** Sum over the vocabulary of `exp(logit − highest logit)`. */
  totalWeight: number;
}

/** @param alternatives how many to list beside the token itself. */
export function logprobOf(
  id: number,
  scores: Scores,
  alternatives: number,
  bytesOf: (id: number) => readonly number[],
): TokenLogprob {
  const base = (scores.ranked[0]?.[1] ?? 0) + Math.log(scores.totalWeight);
  const weight = ([token, logit]: readonly [number, number]): TokenWeight => {
    const bytes = [...bytesOf(token)];
    return { token: Buffer.from(bytes).toString(), logprob: Math.min(0, logit - base), bytes };
  };
  const own = scores.ranked.find(([token]) => token === id);
  if (own === undefined) throw new Error("the token has no logit");
  return { ...weight(own), top_logprobs: scores.ranked.slice(0, alternatives).map(weight) };
}

/** Holds a token's log probability back as long as its text is. */
export class LogprobQueue {
  readonly #held: { item: TokenLogprob; startByte: number }[] = [];
  #bytes = 0;
  #shownBytes = 0;

  push(item: TokenLogprob): void {
    this.#held.push({ item, startByte: this.#bytes });
    this.#bytes += item.bytes.length;
  }

  /** @param text what is shown now. @param last drop what belongs to no text: a stop sequence, half a character. */
  take(text: string, last: boolean): TokenLogprob[] {
    this.#shownBytes += Buffer.byteLength(text);
    const shown = this.#held.filter(({ item, startByte }) =>
      last ? startByte < this.#shownBytes : startByte + item.bytes.length <= this.#shownBytes,
    );
    this.#held.splice(0, last ? this.#held.length : shown.length);
    return shown.map(({ item }) => item);
  }

  takeAll(): TokenLogprob[] {
    return this.#held.splice(0).map(({ item }) => item);
  }
}
