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

/** Text of a run of ids that are not the end. Broken bytes become U+FFFD. */
export type Decode = (ids: readonly number[]) => string;

/** Ids → whole characters. */
export class WholeText {
  readonly #decode: Decode;
  readonly #ids: number[] = [];
  /** `ids[#from … #read)` is the context in which later ids are decoded: a leading space depends on what precedes. */
  #from = 0;
  /** Ids before it are in the text; those behind it are an open character. */
  #read = 0;

  constructor(decode: Decode) {
    this.#decode = decode;
  }

  /** @returns the text that this id completes. */
  push(id: number): string {
    this.#ids.push(id);
    const fresh = this.#open();
    const isOpen = fresh.endsWith(BROKEN) && this.#ids.length - this.#read < OPEN_TOKENS_MAX;
    if (fresh === "" || isOpen) return "";
    this.#from = this.#read;
    this.#read = this.#ids.length;
    return fresh;
  }

  /** @returns what is still open, but for a character that is not whole. */
  end(): string {
    const rest = this.#open().replace(BROKEN_TAIL, "");
    this.#read = this.#ids.length;
    return rest;
  }

  /** Text of `ids[#read …)` as it reads behind what precedes it. */
  #open(): string {
    const before = this.#decode(this.#ids.slice(this.#from, this.#read));
    const all = this.#decode(this.#ids.slice(this.#from));
    return all.startsWith(before) ? all.slice(before.length) : this.#decode(this.#ids.slice(this.#read));
  }
}

/** Holds text back that could begin one of these sequences, and cuts it off where the first that is whole begins. */
export class StopFilter {
  readonly #stop: readonly string[];
  #held = "";

  /** @param stop no empty ones. */
  constructor(stop: readonly string[]) {
    this.#stop = stop;
  }

  /** Whether a sequence ends in this text. */
  finds(fresh: string): boolean {
    const text = this.#held + fresh;
    return this.#stop.some((stop) => text.includes(stop));
  }

  /**
   * What depends on the text alone comes out the same however it is cut.
   *
   * @param last the answer ends with this text: what could only begin a sequence is given back.
   * @returns the text that may be shown; `rest` from the sequence on, once there is one. The filter is not used after
   * that.
   */
  push(fresh: string, last = false): { text: string; rest?: string } {
    const text = this.#held + fresh;
    this.#held = "";
    const at = this.#firstWhole(text);
    if (at !== undefined) return { text: text.slice(0, at), rest: text.slice(at) };
    const held = last ? 0 : Math.max(0, ...this.#stop.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - held);
    return { text: text.slice(0, text.length - held) };
  }

  /** Where the sequence begins that ends first: one that began earlier may not be whole yet when the text is cut there. */
  #firstWhole(text: string): number | undefined {
    let first: { at: number; end: number } | undefined;
    for (const stop of this.#stop) {
      const at = text.indexOf(stop);
      const end = at + stop.length;
      if (at >= 0 && (!first || end < first.end || (end === first.end && at < first.at))) first = { at, end };
    }
    return first?.at;
  }
}

export interface AnswerOptions {
  decode: Decode;
  /** True for ids that end an answer; they have no text. */
  isEnd: (id: number) => boolean;
  /** Sequences that end the answer and are not part of it. No empty ones. */
  stop: readonly string[];
  /** The answer ends with `length` at this many ids. */
  tokensMax: number;
}

/** A plain answer: nothing but text. */
export class AnswerText {
  readonly #options: AnswerOptions;
  readonly #ids: number[] = [];
  readonly #whole: WholeText;
  readonly #filter: StopFilter;
  #finish: FinishReason | undefined;

  constructor(options: AnswerOptions) {
    this.#options = options;
    this.#whole = new WholeText(options.decode);
    this.#filter = new StopFilter(options.stop);
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
    const ends = this.#options.isEnd(id);
    const last = ends || this.#ids.length >= this.#options.tokensMax;
    const fresh = (ends ? "" : this.#whole.push(id)) + (last ? this.#whole.end() : "");
    const { text, rest } = this.#filter.push(fresh, last);
    if (rest !== undefined) this.#finish = "stop";
    else if (last) this.#finish = ends ? "stop" : "length";
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
      if (!belongs(id) || this.#finish !== undefined) throw notOfThisCall();
      text += this.push(id);
    }
    return text;
  }
}

export function notOfThisCall(): AutellixError {
  return new AutellixError(
    "engine_error",
    "The token ids of the earlier attempt do not belong to this call and model.",
  );
}

/** Length of the longest end of `text` that is a beginning of `stop`, but not all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
