/**
 * The order of one call's tokens (S2): each once, none missing, none of a superseded attempt. It keeps the ids, which
 * a resumed attempt is forced to repeat; what the client was shown is in `ShownAnswer`.
 */
import { type AnswerDelta, type AnswerMessage, ShownAnswer } from "@autellix/protocol";

/** Some consecutive tokens, from a token message or from the answer to a gap question. */
export interface TokenPiece {
  engine: string;
  epoch: number;
  attempt: number;
  index: number;
  count: number;
  text: string;
  ids?: readonly number[] | undefined;
  /** All that the piece says, where that is more than text. */
  deltas?: readonly AnswerDelta[] | undefined;
}

/** What a client is shown: text, or a delta that is more than text. */
export type Showing = string | AnswerDelta;

export class TokenStream {
  /** Tokens received without a gap; the index of the next one. */
  next = 0;
  /** Ids of these; undefined once a piece came without. */
  ids: number[] | undefined = [];
  /** Who sent last. */
  engine: string | undefined;
  /** The end of the furthest piece of this attempt that was announced, received or not. */
  #seen = 0;
  #attempt = 0;
  #epoch = 0;
  readonly #shown = new ShownAnswer();
  readonly #held = new Map<number, TokenPiece>();
  readonly #heldMax: number;

  constructor(heldMax: number) {
    this.#heldMax = heldMax;
  }

  /** Whether tokens are known to exist that have not come. */
  get behind(): boolean {
    return this.#seen > this.next;
  }

  get attempt(): number {
    return this.#attempt;
  }

  /**
   * Attempts rise over epochs, because each has a marker (S3); the epoch orders two leaders that gave the same number.
   * So the attempt is compared first: a stale attempt whose agent has adopted a newer epoch stays stale.
   *
   * @returns false when (attempt, epoch) is older than what was accepted; raises it otherwise.
   */
  admit(engine: string, attempt: number, epoch: number): boolean {
    if (attempt < this.#attempt || (attempt === this.#attempt && epoch < this.#epoch)) return false;
    if (attempt > this.#attempt) {
      // It goes on from what this frontend has; what an older attempt had ahead of that is void.
      this.#held.clear();
      this.#seen = this.next;
    }
    this.#attempt = attempt;
    this.#epoch = epoch;
    this.engine = engine;
    return true;
  }

  /** @returns what became deliverable, in order; undefined when no token did. */
  take(piece: TokenPiece): Showing[] | undefined {
    // A piece without tokens could not be told from its own repetition; what it says comes with the end.
    if (piece.count === 0 || !this.admit(piece.engine, piece.attempt, piece.epoch)) return undefined;
    this.#announce(piece);
    if (piece.index > this.next && this.#held.size < this.#heldMax) this.#held.set(piece.index, piece);
    if (piece.index !== this.next) return undefined;
    const showings: Showing[] = [];
    for (let due: TokenPiece | undefined = piece; due; due = this.#held.get(this.next)) {
      this.#held.delete(due.index);
      this.#append(due);
      for (const showing of due.deltas ?? [due.text]) showings.push(showing);
    }
    for (const index of this.#held.keys()) if (index < this.next) this.#held.delete(index);
    return showings;
  }

  /** Notes that the piece exists without taking it: its client has no room now. */
  skip(piece: TokenPiece): void {
    if (this.admit(piece.engine, piece.attempt, piece.epoch)) this.#announce(piece);
  }

  /** Notes what went out although its tokens have not come: the rest of a stored answer. */
  sent(showing: Showing): void {
    if (typeof showing === "string") this.#shown.addText(showing);
    else this.#shown.add(showing);
  }

  /** @returns what of the whole answer has not been sent; undefined when it does not begin with what was sent. */
  restOf(message: AnswerMessage, logprobs: unknown): Showing[] | undefined {
    return this.#shown.restOf(message, logprobs)?.map(asText);
  }

  #announce({ index, count }: TokenPiece): void {
    this.#seen = Math.max(this.#seen, index + count);
  }

  #append({ count, ids, text, deltas }: TokenPiece): void {
    this.next += count;
    if (this.ids && ids?.length === count) for (const id of ids) this.ids.push(id);
    else this.ids = undefined;
    for (const showing of deltas ?? [text]) this.sent(showing);
  }
}

/** Most deltas of a rest are text and nothing else, which is written faster. */
function asText(delta: AnswerDelta): Showing {
  const { content, ...others } = delta.delta;
  const isText = typeof content === "string" && Object.keys(others).length === 0 && delta.logprobs === undefined;
  return isText ? content : delta;
}
