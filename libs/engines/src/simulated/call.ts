/** One call on the simulated engine: its ids, and how much of its context lies where. */
import type { ChatCall } from "@autellix/protocol";
import type { EngineCall } from "../port.ts";
import type { AnswerText } from "../text.ts";
import { promptIds } from "./prompt.ts";
import { type Draw, drawOf } from "./words.ts";

export class SimulatedCall implements EngineCall {
  readonly key: string;
  readonly promptTokens: number;
  readonly answer: AnswerText;
  readonly forcedText: string;
  readonly draw: Draw;
  readonly #chat: ChatCall;
  contextTokens = 0;
  hostTokens = 0;
  cachedTokens = 0;
  resident = false;
  /** It has ended, and only its context is still wanted. */
  retained = false;
  closed = false;

  constructor(key: string, chat: ChatCall, promptTokens: number, answer: AnswerText, forcedText: string) {
    this.key = key;
    this.#chat = chat;
    this.promptTokens = promptTokens;
    this.answer = answer;
    this.forcedText = forcedText;
    this.draw = drawOf(chat);
  }

  get completionTokens(): number {
    return this.answer.ids.length;
  }

  get preemptible(): boolean {
    return true;
  }

  get ids(): readonly number[] {
    return this.answer.ids;
  }

  /** Tokens to evaluate before the next one can be generated. */
  get missingTokens(): number {
    return this.promptTokens + this.completionTokens - this.contextTokens;
  }

  get prefills(): boolean {
    return this.contextTokens < this.promptTokens || this.missingTokens > 1;
  }

  /** Drops the context, in both tiers. */
  drop(): void {
    this.contextTokens = 0;
    this.hostTokens = 0;
    this.cachedTokens = 0;
    this.resident = false;
  }

  /** Takes over what an ended call's context and this prompt have in common; the last token is always evaluated. */
  takeOver(ended: SimulatedCall): void {
    const mine = promptIds(this.#chat);
    const theirs = [...promptIds(ended.#chat), ...ended.ids];
    const usable = Math.min(this.promptTokens - 1, ended.contextTokens + ended.hostTokens);
    let common = 0;
    while (common < usable && mine[common] === theirs[common]) common++;
    if (common > 0) {
      this.cachedTokens = common;
      this.resident = ended.resident;
      if (ended.resident) this.contextTokens = common;
      else this.hostTokens = common;
    }
    ended.drop();
  }
}
