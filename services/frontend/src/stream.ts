/**
 * The order of one call's tokens (S2): each once, none missing, none of a superseded attempt. It keeps the ids, which
 * a resumed attempt is forced to repeat, and of the text only a length and a hash.
 */

/** Some consecutive tokens, from a token message or from the answer to a gap question. */
export interface TokenPiece {
  engine: string;
  epoch: number;
  attempt: number;
  index: number;
  count: number;
  text: string;
  ids?: readonly number[] | undefined;
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

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
  #textLength = 0;
  #textHash = FNV_OFFSET;
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

  /** @returns the texts that became deliverable, in order; undefined when no token did. */
  take(piece: TokenPiece): string[] | undefined {
    // A piece without tokens could not be told from its own repetition; its text comes with the end.
    if (piece.count === 0 || !this.admit(piece.engine, piece.attempt, piece.epoch)) return undefined;
    this.#announce(piece);
    if (piece.index > this.next && this.#held.size < this.#heldMax) this.#held.set(piece.index, piece);
    if (piece.index !== this.next) return undefined;
    const texts: string[] = [];
    for (let due: TokenPiece | undefined = piece; due; due = this.#held.get(this.next)) {
      this.#held.delete(due.index);
      this.#append(due);
      texts.push(due.text);
    }
    for (const index of this.#held.keys()) if (index < this.next) this.#held.delete(index);
    return texts;
  }

  /** Notes that the piece exists without taking it: its client has no room now. */
  skip(piece: TokenPiece): void {
    if (this.admit(piece.engine, piece.attempt, piece.epoch)) this.#announce(piece);
  }

  /** Notes text that went out although its tokens have not come: the rest of a stored answer. */
  sent(text: string): void {
    this.#textLength += text.length;
    this.#textHash = hash(text, this.#textHash);
  }

  /** @returns what of the whole answer has not been sent; undefined when it does not begin with what was sent. */
  restOf(content: string): string | undefined {
    if (content.length < this.#textLength) return undefined;
    if (hash(content.slice(0, this.#textLength), FNV_OFFSET) !== this.#textHash) return undefined;
    return content.slice(this.#textLength);
  }

  #announce({ index, count }: TokenPiece): void {
    this.#seen = Math.max(this.#seen, index + count);
  }

  #append({ count, ids, text }: TokenPiece): void {
    this.next += count;
    if (this.ids && ids?.length === count) for (const id of ids) this.ids.push(id);
    else this.ids = undefined;
    this.sent(text);
  }
}

/** FNV-1a over UTF-16 units: enough to notice a broken invariant, and no copy of the text is kept. */
function hash(text: string, from: number): number {
  let value = from;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), FNV_PRIME);
  return value;
}
