/** Where the tokens of a step go: into the call's log, and to its reader. */
import { type AnswerDelta, type ChatChunk, completionId, type TokenItem, textDelta } from "@autellix/protocol";
import type { SteppedCall } from "./events.ts";
import type { HeldCall } from "./held-call.ts";
import type { AgentState } from "./state.ts";
import { TokenOutbox } from "./token-outbox.ts";

export class Tokens {
  readonly #state: AgentState;
  readonly #outbox: TokenOutbox;

  constructor(state: AgentState) {
    this.#state = state;
    this.#outbox = new TokenOutbox(state);
  }

  take(call: HeldCall, { tokens, text, ids, deltas }: SteppedCall): void {
    const index = call.tokens.count;
    call.tokens.add({ count: tokens, text, ids, deltas });
    if (call.reply === undefined) return;
    if (call.reply.kind === "inbox") {
      const { subject } = call.reply;
      const pieces = deltas ?? (text !== "" || !call.inboxStarted ? [textDelta(text)] : []);
      for (const piece of pieces) this.#state.emit({ kind: "sendInbox", subject, message: this.#chunk(call, piece) });
      return;
    }
    const item: TokenItem = { call: call.key, attempt: call.attempt, index, count: tokens, text };
    if (call.tokens.hasIds) item.ids = [...ids];
    if (deltas) item.deltas = [...deltas];
    this.#outbox.add(call.reply.frontend, item);
  }

  /** @param ends a call of the step has ended: its end must not overtake its tokens. */
  afterStep(ends: boolean): void {
    this.#outbox.afterStep(ends);
  }

  flush(): void {
    this.#outbox.flush();
  }

  #chunk(call: HeldCall, { delta, logprobs = null }: AnswerDelta): ChatChunk {
    const first = !call.inboxStarted;
    call.inboxStarted = true;
    return {
      id: completionId(call.address.callId),
      object: "chat.completion.chunk",
      created: Math.floor(call.receivedAtMs / 1_000),
      model: call.model ?? this.#state.setup.info.models[0] ?? "",
      choices: [
        {
          index: 0,
          delta: { ...(first ? { role: "assistant" as const } : {}), ...delta },
          logprobs,
          finish_reason: null,
        },
      ],
      // S2: an inbox cannot be asked what it has, so a later attempt starts over, and says so.
      ...(first && call.attempt > 1 ? { restart: true as const } : {}),
    };
  }
}
