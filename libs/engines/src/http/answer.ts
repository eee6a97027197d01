/**
 * One answer, put together from the pieces that its streams bring. What is handed out is always a whole number of
 * characters; ids are handed out together with the text that they complete, so that a stream that is given up between
 * two steps is almost always cut between two characters.
 */
import type { AnswerDelta, FinishReason } from "@autellix/protocol";
import { StopFilter } from "../text.ts";

/** What one chunk of a stream brings, whatever the dialect. */
export interface Piece {
  text: string;
  /** Of the tokens in it; undefined where the dialect has none. */
  ids: readonly number[] | undefined;
  /** Tokens generated in this stream so far, where the server says it. */
  tokensTotal?: number;
  /** `choices[0].delta` without the role, when it is more than text. */
  delta?: Record<string, unknown>;
  logprobs?: unknown;
  finish?: FinishReason;
  /** With `finish`: the last id is the end token. It is no part of the answer. */
  endToken?: boolean;
  promptIds?: readonly number[];
  usage?: { promptTokens: number; completionTokens: number; cachedTokens: number | undefined };
}

/** What has come since the last look. */
export interface Fresh {
  tokens: number;
  ids: number[];
  text: string;
  deltas: AnswerDelta[] | undefined;
}

/** Tokens that may wait for the rest of a character; a run of stray bytes must not hold the answer back for ever. */
export const OPEN_TOKENS_MAX = 32;
const BROKEN_TAIL = /\ufffd+$/;

export class HttpAnswer {
  /** All ids that are sure, handed out or not, in order. */
  readonly ids: number[] = [];
  /** The ids are all there: none came without its id. */
  idsComplete = true;
  /** More than text has come: what a plain continuation could not go on with. */
  extra = false;
  finish: FinishReason | undefined;
  /** Tokens, the end token included. */
  tokens = 0;
  /** The text ends with a whole character and nothing is held: the next stream's text begins where this one's ends. */
  clean = true;
  /** Over the whole answer: a server looks only at what one stream brings, and a preemption may cut a sequence in two. */
  readonly #stops: StopFilter;
  /** Ids whose text has not come. */
  #pending: number[] = [];
  /** The first half of a character. */
  #half = "";
  #fresh = empty();
  /** Every delta so far, for a step that turns out to bring more than text. */
  #deltas: AnswerDelta[] = [];
  #more = false;

  constructor(stop: readonly string[]) {
    this.#stops = new StopFilter(stop);
  }

  push(piece: Piece, streamTokens: number): void {
    if (this.finish !== undefined) return;
    const more = piece.delta !== undefined || (piece.logprobs !== undefined && piece.logprobs !== null);
    const { text } = piece;
    const count = piece.ids?.length ?? countOf(piece, streamTokens, more);
    if (piece.ids === undefined) {
      if (count > 0) this.idsComplete = false;
      this.#add(count, []);
    } else this.#pending.push(...piece.ids);
    // Before the release: it may come in one chunk with the last text.
    if (piece.finish !== undefined && piece.endToken === true) this.#pending.pop();
    if (text !== "" || more || this.#pending.length > OPEN_TOKENS_MAX) {
      this.clean = text !== "" && (piece.ids?.length ?? 0) <= 1;
      this.#release();
    }
    if (piece.finish !== undefined) this.#release();
    this.#show(piece.finish === undefined ? text : text.replace(BROKEN_TAIL, ""), piece, more);
  }

  /**
   * Of several tokens at once those behind a stop sequence of ours are none of the answer, as where they come one by one.
   * @param textOf text of ids behind those that are sure.
   */
  async untilStop(piece: Piece, textOf: (ids: readonly number[]) => Promise<string>): Promise<Piece> {
    const { ids = [], text } = piece;
    if (ids.length < 2 || !this.#stops.finds(text)) return piece;
    for (let count = 1; count < ids.length; count++) {
      const some = ids.slice(0, count);
      if (!this.#stops.finds(await textOf([...this.#pending, ...some]))) continue;
      // An end that the server told with them came behind it, too.
      const { finish: _finish, endToken: _endToken, usage: _usage, ...rest } = piece;
      return { ...rest, ids: some };
    }
    return piece;
  }

  /** Ids that an earlier attempt showed, and the text that they completed. @returns the text that it showed. */
  replay(ids: readonly number[], text: string, ends: FinishReason | undefined): string {
    this.ids.push(...ids);
    this.tokens = ids.length;
    const shown = this.#stops.push(text, ends !== undefined);
    this.finish = shown.rest === undefined ? ends : "stop";
    return shown.text;
  }

  /** The stream is given up: what it had not completed is generated again by the next one. */
  cut(): void {
    this.#pending = [];
  }

  /** What came is all that belongs together: no more text is to come for it. */
  settle(): void {
    this.#release();
  }

  take(): Fresh {
    const fresh = { ...this.#fresh, deltas: this.#more ? this.#deltas : undefined };
    this.#fresh = empty();
    this.#deltas = [];
    this.#more = false;
    return fresh;
  }

  #release(): void {
    this.ids.push(...this.#pending);
    this.#add(this.#pending.length, this.#pending);
    this.#pending = [];
  }

  #add(count: number, ids: readonly number[]): void {
    this.#fresh.tokens += count;
    this.#fresh.ids.push(...ids);
    this.tokens += count;
  }

  /** Servers that cut text by UTF-16 units send halves of characters: the first one waits for the second. */
  #whole(text: string, ends: boolean): string {
    const all = this.#half + text;
    const cut = /[\ud800-\udbff]$/.test(all) ? all.length - 1 : all.length;
    this.#half = ends ? "" : all.slice(cut);
    return all.slice(0, cut).toWellFormed();
  }

  #show(text: string, piece: Piece, more: boolean): void {
    const shown = this.#stops.push(this.#whole(text, piece.finish !== undefined), piece.finish !== undefined);
    if (more) {
      this.extra = true;
      this.#more = true;
    }
    if (shown.text !== "" || more) this.#deltas.push(deltaOf(shown.text, piece));
    this.#fresh.text += shown.text;
    this.finish = shown.rest === undefined ? piece.finish : "stop";
  }
}

function empty(): Fresh {
  return { tokens: 0, ids: [], text: "", deltas: undefined };
}

/** A chunk without ids: by the server's own count, else one token for each chunk that says something. */
function countOf(piece: Piece, streamTokens: number, more: boolean): number {
  if (piece.tokensTotal !== undefined) return Math.max(0, piece.tokensTotal - streamTokens);
  return piece.text !== "" || more ? 1 : 0;
}

function deltaOf(text: string, piece: Piece): AnswerDelta {
  const delta = { ...(text === "" ? {} : { content: text }), ...piece.delta };
  return piece.logprobs === undefined || piece.logprobs === null ? { delta } : { delta, logprobs: piece.logprobs };
}
