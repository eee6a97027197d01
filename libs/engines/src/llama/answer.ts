/**
 * The answer of one llama call: ids in, text and deltas out. All of it is a function of the ids, so an attempt that
 * replays the ids of an earlier one stands where that one stood, in text, tool calls and grammar alike.
 */
import type { AnswerDelta, FinishReason } from "@autellix/protocol";
import { type Decode, notOfThisCall, StopFilter, WholeText } from "../text.ts";
import type { GrammarState } from "./grammar.ts";
import { LogprobQueue, type TokenLogprob } from "./logprobs.ts";
import type { CallsReader } from "./tools.ts";

/** How the answer may call tools. */
export interface CallsPlan {
  reader: CallsReader;
  grammar: () => GrammarState;
  /** In a free answer, calls begin with this text; undefined: the answer is nothing but calls. */
  trigger: string | undefined;
  /** Whether the answer ends with its first call. */
  single: boolean;
  tokenize: (text: string) => readonly number[];
}

export interface AnswerPlan {
  decode: Decode;
  isEnd: (id: number) => boolean;
  stop: readonly string[];
  tokensMax: number;
  /** Of all the text. The answer ends when it is complete. */
  grammar: (() => GrammarState) | undefined;
  calls: CallsPlan | undefined;
}

export interface Pushed {
  text: string;
  /** Set when there is more than text. */
  deltas?: AnswerDelta[];
}

export class Answer {
  readonly #plan: AnswerPlan;
  readonly #ids: number[] = [];
  readonly #whole: WholeText;
  readonly #logprobs = new LogprobQueue();
  #filter: StopFilter;
  #grammar: GrammarState | undefined;
  /** Set from where calls begin. */
  #reader: CallsReader | undefined;
  #endsWhenComplete: boolean;
  #finish: FinishReason | undefined;

  constructor(plan: AnswerPlan) {
    this.#plan = plan;
    this.#whole = new WholeText(plan.decode);
    const { calls, stop } = plan;
    const trigger = calls?.trigger;
    this.#filter = new StopFilter(trigger === undefined ? stop : [...stop, trigger]);
    const onlyCalls = calls !== undefined && trigger === undefined;
    if (onlyCalls) this.#reader = calls.reader;
    this.#grammar = onlyCalls ? calls.grammar() : plan.grammar?.();
    this.#endsWhenComplete = onlyCalls ? calls.single : true;
  }

  get ids(): readonly number[] {
    return this.#ids;
  }

  /** Set once the ids end the answer. */
  get finish(): FinishReason | undefined {
    return this.#finish;
  }

  /** What binds the next token. */
  get grammar(): GrammarState | undefined {
    return this.#grammar;
  }

  /** @returns what this id completes: whole characters, nothing that could still become a stop sequence or a call. */
  push(id: number, logprob?: TokenLogprob): Pushed {
    if (this.#finish !== undefined) throw new Error("the answer has ended");
    this.#ids.push(id);
    const ends = this.#plan.isEnd(id);
    if (!ends) this.#grammar?.accept(id);
    const isWhole = ends || (this.#endsWhenComplete && (this.#grammar?.isComplete ?? false));
    const last = isWhole || this.#ids.length >= this.#plan.tokensMax;
    const fresh = (ends ? "" : this.#whole.push(id)) + (last ? this.#whole.end() : "");
    const { text, calls } = this.#route(fresh, last);
    if (last) this.#finish ??= isWhole ? (this.#reader === undefined ? "stop" : "tool_calls") : "length";
    if (logprob !== undefined && !ends) this.#logprobs.push(logprob);
    const shown =
      this.#reader === undefined ? this.#logprobs.take(text, this.#finish !== undefined) : this.#logprobs.takeAll();
    return deltasOf(text, shown, calls);
  }

  /**
   * Replays ids that an earlier attempt generated (S2).
   * @returns what the client has seen of them.
   * @throws AutellixError `engine_error` when they cannot be this call's.
   */
  replay(ids: readonly number[], belongs: (id: number) => boolean): Required<Pushed> {
    const replayed = { text: "", deltas: [] as AnswerDelta[] };
    for (const id of ids) {
      const allowed = belongs(id) && this.#finish === undefined && (this.#grammar?.allows(id) ?? true);
      if (!allowed) throw notOfThisCall();
      const { text, deltas } = this.push(id);
      replayed.text += text;
      replayed.deltas.push(...(deltas ?? (text === "" ? [] : [{ delta: { content: text } }])));
    }
    return replayed;
  }

  /** Tells content, stop sequences and calls apart. */
  #route(fresh: string, last: boolean): { text: string; calls: AnswerDelta[] } {
    if (this.#reader !== undefined) return { text: "", calls: this.#reader.push(fresh) };
    const { text, rest } = this.#filter.push(fresh, last);
    if (rest === undefined) return { text, calls: [] };
    const { calls } = this.#plan;
    if (calls?.trigger === undefined || !rest.startsWith(calls.trigger)) {
      this.#finish = "stop";
      return { text, calls: [] };
    }
    if (this.#beginsCalls(calls, rest)) return { text, calls: calls.reader.push(rest) };
    // It only began like a call. The rest is content, and so is all that follows.
    this.#filter = new StopFilter(this.#plan.stop);
    const more = this.#route(rest, last);
    return { text: text + more.text, calls: more.calls };
  }

  /** From here on the grammar of calls binds, if what is there follows it: a token may reach beyond the trigger. */
  #beginsCalls(calls: CallsPlan, text: string): boolean {
    const grammar = calls.grammar();
    for (const id of calls.tokenize(text)) {
      if (!grammar.allows(id)) return false;
      grammar.accept(id);
    }
    this.#grammar = grammar;
    this.#reader = calls.reader;
    this.#endsWhenComplete = calls.single;
    return true;
  }
}

function deltasOf(text: string, shown: readonly TokenLogprob[], calls: readonly AnswerDelta[]): Pushed {
  if (shown.length === 0 && calls.length === 0) return { text };
  const content: AnswerDelta = {
    delta: text === "" ? {} : { content: text },
    ...(shown.length === 0 ? {} : { logprobs: { content: shown, refusal: null } }),
  };
  return { text, deltas: [...(text === "" && shown.length === 0 ? [] : [content]), ...calls] };
}
