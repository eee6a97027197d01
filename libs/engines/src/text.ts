/**
 * Turns the token ids of one answer into text, one id at a time. What comes out depends on the ids alone: a later
 * attempt that pushes the same ids (S2) reaches the same state, so it neither repeats nor loses a character.
 */
import { AutellixError, type FinishReason } from "@autellix/protocol";

/** Tokens that may wait for the rest of a character; a run of stray bytes must not hold the answer back for ever. */
const OPEN_TOKENS_MAX = 32;
/** What decoders write for bytes that are no character (yet). */
const BROKEN = "\ufffd";
const BROKEN_TAIL = /\ufffd+$/;

export interface AnswerOptions {
  /** Text of a run of ids that are not the end. Broken bytes become U+FFFD. */
  decode: (ids: readonly number[]) => string;
  /** True for ids that end an answer; they have no text. */
  isEnd: (id: number) => boolean;
  /** Sequences that end the answer and are not part of it. No empty ones. */
  stop: readonly string[];
  /** The answer ends with `length` at this many ids. */
  tokensMax: number;
}

export class AnswerText {
  readonly #options: AnswerOptions;
  readonly #ids: number[] = [];
  /** `ids[#from … #read)` is the context in which later ids are decoded: a leading space depends on what precedes. */
  #from = 0;
  /** Ids before it are in the text; those behind it are an open character. */
  #read = 0;
  /** Text that may be the beginning of a stop sequence. */
  #held = "";
  #finish: FinishReason | undefined;

  constructor(options: AnswerOptions) {
    this.#options = options;
  }

  get ids(): readonly number[] {
    return this.#ids;
  }

  /** Set once the ids end the answer. */
  get finish(): FinishReason | undefined {
    return this.#finish;
  }

  /**
   * @returns the text that this id completes: whole characters, nothing that could still become a stop sequence. With
   * the id that ends the answer, all that was held back and belongs to it. A character that is still open then is
   * dropped. Over all ids this is what `decode` gives for them at once, up to the end.
   */
  push(id: number): string {
    if (this.#finish !== undefined) throw new Error("the answer has ended");
    this.#ids.push(id);
    if (this.#options.isEnd(id)) {
      this.#finish = "stop";
      return this.#untilStop(this.#open(this.#ids.length - 1).replace(BROKEN_TAIL, ""), true);
    }
    const last = this.#ids.length >= this.#options.tokensMax;
    const fresh = this.#open(this.#ids.length);
    const open = fresh === "" || (fresh.endsWith(BROKEN) && this.#ids.length - this.#read < OPEN_TOKENS_MAX);
    if (open && !last) return "";
    this.#from = this.#read;
    this.#read = this.#ids.length;
    const text = this.#untilStop(last ? fresh.replace(BROKEN_TAIL, "") : fresh, last);
    if (last) this.#finish ??= "length";
    return text;
  }

  /**
   * Replays ids that an earlier attempt generated (S2).
   *
   * @returns the text that they completed: what the client has seen, and the beginning of the answer.
   * @throws AutellixError `engine_error` when they cannot be this call's: `belongs` refuses one, or they go on behind
   * the answer's end.
   */
  replay(ids: readonly number[], belongs: (id: number) => boolean): string {
    let text = "";
    for (const id of ids) {
      if (!belongs(id) || this.#finish !== undefined) {
        throw new AutellixError(
          "engine_error",
          "The token ids of the earlier attempt do not belong to this call and model.",
        );
      }
      text += this.push(id);
    }
    return text;
  }

  /** Text of `ids[#read … end)` as it reads behind what precedes it. */
  #open(end: number): string {
    const { decode } = this.#options;
    const before = decode(this.#ids.slice(this.#from, this.#read));
    const all = decode(this.#ids.slice(this.#from, end));
    return all.startsWith(before) ? all.slice(before.length) : decode(this.#ids.slice(this.#read, end));
  }

  #untilStop(fresh: string, last: boolean): string {
    const text = this.#held + fresh;
    this.#held = "";
    const starts = this.#options.stop.map((stop) => text.indexOf(stop)).filter((index) => index >= 0);
    if (starts.length > 0) {
      this.#finish = "stop";
      return text.slice(0, Math.min(...starts));
    }
    const held = last ? 0 : Math.max(0, ...this.#options.stop.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }
}

/** Length of the longest end of `text` that is a beginning of `stop`, but not all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
