/** One call on an HTTP engine: what it asks for, what has come, and whether it can be stopped. */
import { AutellixError, type ChatCall, type FinishReason } from "@autellix/protocol";
import type { EngineCall, OpenCall, StepCall } from "../port.ts";
import { type Fresh, HttpAnswer } from "./answer.ts";
import { type Continuation, continuationOf } from "./continuable.ts";
import { Message, Replay } from "./replay.ts";
import type { CallRun } from "./run.ts";

export class HttpCall implements EngineCall {
  readonly key: string;
  readonly chat: ChatCall;
  readonly body: Readonly<Record<string, unknown>>;
  answer: HttpAnswer;
  /** Of the prompt; undefined until the server has said them. */
  promptIds: readonly number[] | undefined;
  /** Estimated until the server has counted. */
  promptTokens: number;
  /** As the server counted the ended answer. */
  countedTokens: number | undefined;
  cachedTokens = 0;
  forcedText = "";
  /** Its request, while it is in the batch. */
  run: CallRun | undefined;
  /** The answer has ended, and nothing more comes. */
  ended = false;
  error: AutellixError | undefined;
  closed = false;
  /** Times that the server went down under its request, without a token behind `crashedTokens` since; > 0: a suspect. */
  crashes = 0;
  /** The most tokens that the answer had at any of them. */
  crashedTokens = 0;
  readonly hostTokens = 0;
  /** Prompt tokens that the server has evaluated since the last step. */
  prefilledTokens = 0;
  /** A step has brought something of the answer. */
  #shown = false;
  #preemptible = true;
  /** What was handed out, where the request would give it again. */
  readonly #message: Message | undefined;
  /** What was handed out comes again. */
  #replay: Replay | undefined;
  #continuation: Continuation;
  readonly #ids: number[] = [];
  #taken = 0;
  #isForced = false;

  /** @param byIds the dialect can go on from token ids. */
  constructor(open: OpenCall, promptTokens: number, byIds: boolean) {
    this.key = open.key;
    this.chat = open.chat;
    this.body = open.body;
    this.promptTokens = promptTokens;
    this.#continuation = byIds ? continuationOf(open.chat, open.body) : "none";
    this.answer = new HttpAnswer(this.ownStop);
    const { temperature, seed } = open.chat;
    if (temperature === 0 || seed !== undefined) this.#message = new Message();
  }

  get completionTokens(): number {
    if (this.#isHeldBack) return this.answer.tokens;
    return this.countedTokens !== undefined && this.#taken === this.answer.tokens ? this.countedTokens : this.#taken;
  }

  get ids(): readonly number[] {
    return this.#ids;
  }

  get contextTokens(): number {
    if (this.run?.streams !== true) return 0;
    return this.promptTokens + Math.max(0, this.answer.tokens - 1);
  }

  /** As it was at the end of the last step: the agent decides by what it was told. */
  get preemptible(): boolean {
    return this.#preemptible;
  }

  /** Whether it can be stopped now. */
  get canStop(): boolean {
    if (this.ended) return true;
    // What is held back could begin again, but its work would be lost.
    if (this.#isHeldBack) return this.answer.tokens === 0;
    return !this.#shown || (this.#continuation === "exact" && this.continuable);
  }

  /**
   * Nobody reads a call without a stream before its end. Where it could not be gone on with, nothing of it is handed out
   * before, so that it can begin again when its stream is lost.
   */
  get #isHeldBack(): boolean {
    return !this.ended && !this.#shown && !this.chat.stream && !this.continuable;
  }

  /** It can be gone on with from its ids. */
  get continuable(): boolean {
    return this.#continuation !== "none" && !this.answer.extra && this.answer.idsComplete;
  }

  /** What its request may begin with: ids, when those that come are all that the answer is made of. */
  get plain(): boolean {
    return this.#continuation !== "none";
  }

  /** Stop sequences that we look for ourselves, since the call's streams may be several. */
  get ownStop(): readonly string[] {
    return this.plain ? this.chat.stop : [];
  }

  /** A token that is none of the answer has ended it: servers count it, too, and may die before they say so. */
  endedByToken(): void {
    this.countedTokens = this.answer.tokens + 1;
  }

  /**
   * Its stream is gone.
   * @returns whether it can be gone on with: by its ids; or from its beginning, where nobody has seen it yet or the
   * server gives the same again.
   */
  lost(): boolean {
    this.answer.cut();
    if (this.continuable) return true;
    if (this.#shown) {
      // What an earlier attempt showed is known by its ids alone.
      if (this.#message === undefined || this.#isForced) return false;
      this.#replay = new Replay(this.#message.copy());
    }
    this.answer = new HttpAnswer(this.ownStop);
    return true;
  }

  /** The answer is more than text. @returns whether its request must be made anew, since the server did not get `stop`. */
  becomeWhole(): boolean {
    const anew = this.ownStop.length > 0 && !this.#shown;
    if (anew) {
      this.#continuation = "none";
      this.answer = new HttpAnswer([]);
    }
    return anew;
  }

  /** Ids that an earlier attempt showed (S2). */
  replay(ids: readonly number[], text: string, ends: FinishReason | undefined, clean: boolean): void {
    this.forcedText = this.answer.replay(ids, text, ends);
    this.answer.clean = clean;
    this.#ids.push(...ids);
    this.#taken = ids.length;
    this.#isForced = ids.length > 0;
    this.#shown = this.#isForced;
    this.ended = this.answer.finish !== undefined;
  }

  /** At the end of each step, whether the call was in its batch or not. */
  settle(): void {
    this.#preemptible = this.canStop;
  }

  /** What has come since the last step. */
  take(): StepCall {
    const prefilledTokens = this.prefilledTokens;
    this.prefilledTokens = 0;
    if (this.#isHeldBack && this.error === undefined) {
      return { call: this, prefilledTokens, tokens: 0, ids: [], text: "" };
    }
    const fresh = this.answer.take();
    const { tokens, ids, text, deltas } = this.#unseen(fresh);
    this.#message?.add({ tokens, ids, text, deltas });
    this.#ids.push(...ids);
    this.#taken += tokens;
    if (tokens > 0 || text !== "" || deltas !== undefined) this.#shown = true;
    const { finish } = this.answer;
    return {
      call: this,
      prefilledTokens,
      tokens,
      ids,
      text,
      ...(deltas === undefined ? {} : { deltas }),
      ...(this.error === undefined ? {} : { error: this.error }),
      ...(this.error === undefined && this.ended && finish !== undefined ? { finish } : {}),
    };
  }

  /** What the client has not seen of it. */
  #unseen(fresh: Fresh): Fresh {
    const unseen = this.#replay === undefined ? fresh : this.#replay.push(fresh, this.ended);
    if (unseen !== undefined) return unseen;
    this.error ??= new AutellixError(
      "engine_error",
      "The engine's server was lost, and then gave another answer than the one that was shown in part.",
    );
    this.run?.abort();
    return { tokens: 0, ids: [], text: "", deltas: undefined };
  }
}
