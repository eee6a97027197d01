/** What one call has generated, kept until its end is delivered: for the result and for gap answers. */
import { type AnswerDelta, type GapAnswer, type MergedAnswer, mergeAnswer, textDelta } from "@autellix/protocol";
import { GAP_TEXT_LENGTH_MAX } from "./limits.ts";

/** What one step added. */
export interface TokenPiece {
  count: number;
  text: string;
  ids: readonly number[];
  /** Set when it is more than text: all of it, in order; `text` is the content among it. */
  deltas?: readonly AnswerDelta[] | undefined;
}

interface KeptPiece {
  /** Tokens before it. */
  start: number;
  text: string;
  deltas: readonly AnswerDelta[] | undefined;
  /** What it takes of a gap answer, in UTF-16 units. */
  length: number;
}

export class TokenLog {
  readonly #pieces: KeptPiece[] = [];
  readonly #ids: number[] = [];
  #count = 0;
  #hasDeltas = false;

  /** Tokens generated so far. */
  get count(): number {
    return this.#count;
  }

  /** False when the engine has no ids: then none are sent, and the call cannot be resumed elsewhere. */
  get hasIds(): boolean {
    return this.#ids.length === this.#count;
  }

  add({ count, text, ids, deltas }: TokenPiece): void {
    const length = deltas === undefined ? text.length : JSON.stringify(deltas).length;
    this.#pieces.push({ start: this.#count, text, deltas, length });
    this.#hasDeltas ||= deltas !== undefined;
    this.#ids.push(...ids);
    this.#count += count;
  }

  /** The whole answer as one message. */
  answer(): MergedAnswer {
    if (this.#hasDeltas) return mergeAnswer(this.#pieces.flatMap(deltasOf));
    const content = this.#pieces.map(({ text }) => text).join("");
    return { message: { role: "assistant", content, refusal: null }, logprobs: null };
  }

  /**
   * What came from token `from` on, up to a limit. `unknown` when `from` is ahead of this log or inside a piece:
   * text cannot be cut at a token.
   */
  since(from: number, epoch: number, attempt: number): GapAnswer {
    if (from === this.#count) return { state: "known", epoch, attempt, index: from, count: 0, text: "" };
    const first = this.#pieceAt(from);
    if (first === undefined) return { state: "unknown" };
    let last = first;
    let length = this.#pieces[first]?.length ?? 0;
    while (last + 1 < this.#pieces.length) {
      length += this.#pieces[last + 1]?.length ?? 0;
      if (length > GAP_TEXT_LENGTH_MAX) break;
      last++;
    }
    const end = this.#pieces[last + 1]?.start ?? this.#count;
    const pieces = this.#pieces.slice(first, last + 1);
    return {
      state: "known",
      epoch,
      attempt,
      index: from,
      count: end - from,
      text: pieces.map(({ text }) => text).join(""),
      ...(this.hasIds ? { ids: this.#ids.slice(from, end) } : {}),
      ...(pieces.some(({ deltas }) => deltas !== undefined) ? { deltas: pieces.flatMap(deltasOf) } : {}),
    };
  }

  /** The first piece that starts at `from`. */
  #pieceAt(from: number): number | undefined {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#pieces[middle]?.start ?? 0) < from) low = middle + 1;
      else high = middle;
    }
    return this.#pieces[low]?.start === from ? low : undefined;
  }
}

/** A piece that is text alone, too, as deltas. */
export function deltasOf({
  text,
  deltas,
}: {
  text: string;
  deltas?: readonly AnswerDelta[] | undefined;
}): readonly AnswerDelta[] {
  return deltas ?? (text === "" ? [] : [textDelta(text)]);
}
