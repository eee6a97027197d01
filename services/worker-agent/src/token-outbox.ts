/**
 * Tokens on their way to frontends: one message per frontend and step. Steps that are faster than `TOKENS_GAP_MS_MIN`
 * share one: each message costs a system call here, at nats-server and at the frontend, and nobody reads a hundred
 * chunks a second. A call's first tokens and its last ones are sent at once. What waits goes with a step, which wakes
 * the agent anyway; a timer is for tokens behind which no step comes.
 */
import { type FrontendMessage, subjects, type TokenItem } from "@autellix/protocol";
import { TOKENS_GAP_MS_MIN } from "./limits.ts";
import type { AgentState } from "./state.ts";
import { deltasOf } from "./token-log.ts";

const TIMER = "tokens";

export class TokenOutbox {
  readonly #state: AgentState;
  readonly #pending = new Map<string, TokenItem[]>();
  /** A call's first tokens are among them. */
  #hasFirst = false;
  #sentAtMs = Number.NEGATIVE_INFINITY;

  constructor(state: AgentState) {
    this.#state = state;
  }

  add(frontend: string, item: TokenItem): void {
    this.#hasFirst ||= item.index === 0;
    const items = this.#pending.get(frontend);
    if (!items) this.#pending.set(frontend, [item]);
    else if (!joined(items, item)) items.push(item);
  }

  /** @param now at once: a call of the step has ended, and its end must not overtake its tokens. */
  afterStep(now: boolean): void {
    if (this.#pending.size === 0) return;
    const { timers, nowMs } = this.#state;
    const dueMs = this.#sentAtMs + TOKENS_GAP_MS_MIN;
    if (now || this.#hasFirst || dueMs <= nowMs) this.#send();
    else if (!timers.has(TIMER)) timers.set(TIMER, dueMs + TOKENS_GAP_MS_MIN, () => this.#send());
  }

  /** At once: somebody is about to be asked what has come. */
  flush(): void {
    if (this.#pending.size > 0) this.#send();
  }

  #send(): void {
    const { setup, epoch, timers, nowMs } = this.#state;
    timers.clear(TIMER);
    this.#sentAtMs = nowMs;
    for (const [frontend, items] of this.#pending) {
      const message: FrontendMessage = { kind: "tokens", engine: setup.engine, epoch, items };
      this.#state.emit({ kind: "send", subject: subjects.tokens(frontend), message });
    }
    this.#pending.clear();
    this.#hasFirst = false;
  }
}

/** Appends to the call's item of an earlier step. @returns false when there is none that it continues. */
function joined(items: TokenItem[], item: TokenItem): boolean {
  const { call, attempt, index, count, text, ids, deltas } = item;
  const last = items.findLast((item) => item.call === call);
  if (!last || last.attempt !== attempt || last.index + last.count !== index) return false;
  if ((last.ids === undefined) !== (ids === undefined)) return false;
  if (last.deltas || deltas) last.deltas = [...deltasOf(last), ...deltasOf(item)];
  last.count += count;
  last.text += text;
  if (ids) last.ids?.push(...ids);
  return true;
}
