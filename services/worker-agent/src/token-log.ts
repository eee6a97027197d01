/** What one call has generated, kept until its end is delivered: for the result and for gap answers. */
import type { GapAnswer } from "@autellix/protocol";
import { GAP_TEXT_LENGTH_MAX } from "./limits.ts";

export class TokenLog {
  /** Tokens before each piece, and the piece's text; a piece is what one step added. */
  readonly #starts: number[] = [];
  readonly #texts: string[] = [];
  readonly #ids: number[] = [];
  #count = 0;

  /** Tokens generated so far. */
  get count(): number {
    return this.#count;
  }

  /** False when the engine has no ids: then none are sent, and the call cannot be resumed elsewhere. */
  get hasIds(): boolean {
    return this.#ids.length === this.#count;
  }

  add(count: number, text: string, ids: readonly number[]): void {
    this.#starts.push(this.#count);
    this.#texts.push(text);
    this.#ids.push(...ids);
    this.#count += count;
  }

  text(): string {
    return this.#texts.join("");
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
    let length = this.#texts[first]?.length ?? 0;
    while (last + 1 < this.#texts.length) {
      length += this.#texts[last + 1]?.length ?? 0;
      if (length > GAP_TEXT_LENGTH_MAX) break;
      last++;
    }
    const end = this.#starts[last + 1] ?? this.#count;
    return {
      state: "known",
      epoch,
      attempt,
      index: from,
      count: end - from,
      text: this.#texts.slice(first, last + 1).join(""),
      ...(this.hasIds ? { ids: this.#ids.slice(from, end) } : {}),
    };
  }

  /** The first piece that starts at `from`. */
  #pieceAt(from: number): number | undefined {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#starts[middle] ?? 0) < from) low = middle + 1;
      else high = middle;
    }
    return this.#starts[low] === from ? low : undefined;
  }
}
