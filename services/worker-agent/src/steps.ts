/** One step after another: which calls it advances, and where its tokens go. */
import { type ChatChunk, completionId, type ErrorCode, type FinishReason, type TokenItem } from "@autellix/protocol";
import { chooseBatch } from "./batch.ts";
import type { Endings } from "./endings.ts";
import type { Happening, SteppedCall } from "./events.ts";
import type { HeldCall } from "./held-call.ts";
import type { Plans } from "./plans.ts";
import type { Reports } from "./reports.ts";
import type { AgentState } from "./state.ts";
import { TokenOutbox } from "./token-outbox.ts";

type Stepped = Extract<Happening, { kind: "stepped" }>;

export class Steps {
  readonly #state: AgentState;
  readonly #plans: Plans;
  readonly #reports: Reports;
  readonly #endings: Endings;
  readonly #outbox: TokenOutbox;

  constructor(state: AgentState, parts: { plans: Plans; reports: Reports; endings: Endings }) {
    this.#state = state;
    this.#plans = parts.plans;
    this.#reports = parts.reports;
    this.#endings = parts.endings;
    this.#outbox = new TokenOutbox(state);
  }

  /** Begins the next step, when none is under way and there is something to advance. @returns whether one is. */
  advance(): boolean {
    const state = this.#state;
    if (state.stepping) return true;
    if (state.draining === "flushing" || state.draining === "done") return false;
    const { batch, evict } = chooseBatch(this.#plans.candidates(), state.setup.info);
    for (const { call } of evict) {
      call.contextTokens = 0;
      state.emit({ kind: "evict", id: call.id });
    }
    state.batch = new Set(batch.map(({ call }) => call.id));
    if (batch.length === 0) return false;
    for (const { call } of batch) call.stepped = true;
    state.stepping = true;
    state.emit({ kind: "step", ids: [...state.batch] });
    return true;
  }

  stepped({ durationMs, calls, counters }: Stepped): void {
    this.#state.stepping = false;
    const ended: { call: HeldCall; finish?: FinishReason; error?: { code: ErrorCode; message: string } }[] = [];
    for (const result of calls) {
      const call = this.#state.held.get(result.id);
      // Cancelled or dropped while the step ran: its last token is nobody's.
      if (call?.phase !== "ready") continue;
      call.serviceMs += durationMs;
      call.contextTokens = result.contextTokens;
      call.completionTokens = result.completionTokens;
      if (result.tokens > 0 || result.text !== "") this.#tokens(call, result);
      if (result.error) ended.push({ call, error: result.error });
      else if (result.finish) ended.push({ call, finish: result.finish });
    }
    this.#outbox.afterStep(ended.length > 0);
    for (const { call, finish, error } of ended) {
      if (finish) this.#endings.end(call, { status: "completed", finish });
      else if (error) this.#endings.end(call, { status: "failed", error });
    }
    this.#reports.afterStep(counters);
  }

  #tokens(call: HeldCall, { tokens, text, ids }: SteppedCall): void {
    const index = call.tokens.count;
    call.tokens.add(tokens, text, ids);
    if (call.reply === undefined) return;
    if (call.reply.kind === "inbox") {
      if (text !== "" || !call.inboxStarted)
        this.#state.emit({ kind: "sendInbox", subject: call.reply.subject, message: this.#chunk(call, text) });
      return;
    }
    const item: TokenItem = { call: call.key, attempt: call.attempt, index, count: tokens, text };
    if (call.tokens.hasIds) item.ids = [...ids];
    this.#outbox.add(call.reply.frontend, item);
  }

  #chunk(call: HeldCall, text: string): ChatChunk {
    const first = !call.inboxStarted;
    call.inboxStarted = true;
    return {
      id: completionId(call.address.callId),
      object: "chat.completion.chunk",
      created: Math.floor(call.receivedAtMs / 1_000),
      model: call.chat?.model ?? this.#state.setup.info.models[0] ?? "",
      choices: [
        {
          index: 0,
          delta: { ...(first ? { role: "assistant" as const } : {}), content: text },
          logprobs: null,
          finish_reason: null,
        },
      ],
      // S2: an inbox cannot be asked what it has, so a later attempt starts over, and says so.
      ...(first && call.attempt > 1 ? { restart: true as const } : {}),
    };
  }
}
