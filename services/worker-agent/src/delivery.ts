/**
 * The end of a call in front of its reader, sent only after its record is stored (design §2.7). To a frontend it is a
 * request, repeated until confirmed; an inbox gets one last message, and the outcome is its guarantee.
 */
import {
  type CallKey,
  type ChatChunk,
  type ChatCompletion,
  completionId,
  decodeAs,
  type ErrorBody,
  errorBody,
  type GapAnswer,
  outcomeBodySchema,
  type TerminalStatus,
} from "@autellix/protocol";
import type { HeldCall } from "./held-call.ts";
import { END_BODY_BYTES_MAX, END_MS_MAX, END_REPEAT_MS, ENDS_MAX } from "./limits.ts";
import type { Outcome } from "./outcome.ts";
import type { AgentState } from "./state.ts";
import type { TokenLog } from "./token-log.ts";

export interface EndDelivery {
  id: number;
  key: CallKey;
  attempt: number;
  frontend: string;
  status: TerminalStatus;
  body: Uint8Array | undefined;
  /** For gap answers until the frontend has all. */
  tokens: TokenLog;
  startedAtMs: number;
  sentAtMs: number;
}

export class Deliveries {
  readonly #state: AgentState;

  constructor(state: AgentState) {
    this.#state = state;
  }

  /**
   * @param bytes the stored body of the outcome.
   * @param completion the answer, where it is not in `outcome` because of its size.
   */
  start(call: HeldCall, outcome: Outcome, bytes: Uint8Array, completion?: ChatCompletion): void {
    if (call.reply === undefined) return;
    if (call.reply.kind === "inbox") {
      this.#state.emit({
        kind: "sendInbox",
        subject: call.reply.subject,
        message: lastMessage(call, outcome, completion ?? outcome.response),
        end: outcome.status,
      });
      return;
    }
    const delivery: EndDelivery = {
      id: call.id,
      key: call.key,
      attempt: call.attempt,
      frontend: call.reply.frontend,
      status: outcome.status,
      body: bytes.length <= END_BODY_BYTES_MAX ? bytes : undefined,
      tokens: call.tokens,
      startedAtMs: this.#state.nowMs,
      sentAtMs: this.#state.nowMs,
    };
    const { deliveries } = this.#state;
    for (const oldest of deliveries.values()) {
      if (deliveries.size < ENDS_MAX) break;
      this.#forget(oldest);
    }
    deliveries.set(delivery.id, delivery);
    this.#request(delivery);
  }

  /** Of an outcome that was there already; its body may be of any age. */
  startFound(call: HeldCall, status: TerminalStatus, bytes: Uint8Array): void {
    this.start(call, readBody(call, status, bytes), bytes);
  }

  answered(id: number, confirmed: boolean): void {
    const delivery = this.#state.deliveries.get(id);
    if (delivery === undefined) return;
    const { nowMs } = this.#state;
    if (confirmed || nowMs - delivery.startedAtMs >= END_MS_MAX) {
      this.#forget(delivery);
      if (!confirmed) {
        const fields = { call: delivery.key, attempt: delivery.attempt, frontend: delivery.frontend };
        this.#state.emit({ kind: "log", level: "warn", fields, msg: "the end of a call was never confirmed" });
      }
      return;
    }
    const atMs = Math.max(nowMs, delivery.sentAtMs + END_REPEAT_MS);
    this.#state.timers.set(`end ${id}`, atMs, () => this.#request(delivery));
  }

  #request(delivery: EndDelivery): void {
    delivery.sentAtMs = this.#state.nowMs;
    const { id, frontend, key, status, body } = delivery;
    this.#state.emit({ kind: "requestEnd", id, frontend, call: key, status, body });
  }

  #forget(delivery: EndDelivery): void {
    this.#state.timers.clear(`end ${delivery.id}`);
    this.#state.deliveries.delete(delivery.id);
  }

  /** Gap fill: what the call's latest attempt here generated from token `from` on. */
  gap(key: CallKey, from: number): GapAnswer {
    let latest: { attempt: number; tokens: TokenLog } | undefined;
    for (const source of [this.#state.held.values(), this.#state.deliveries.values()]) {
      for (const call of source) {
        if (call.key === key && call.attempt > (latest?.attempt ?? 0)) latest = call;
      }
    }
    return latest?.tokens.since(from, this.#state.epoch, latest.attempt) ?? { state: "unknown" };
  }
}

function readBody(call: HeldCall, status: TerminalStatus, bytes: Uint8Array): Outcome {
  const bare: Outcome = { call_id: call.address.callId, program_id: call.dispatch.program, status };
  try {
    return { ...bare, ...(decodeAs(outcomeBodySchema, bytes) as Partial<Outcome>), status };
  } catch {
    // The record's headers alone are what ended the call (S4): its reader is told the status, whatever the body is.
    return bare;
  }
}

function lastMessage(call: HeldCall, outcome: Outcome, completion: ChatCompletion | undefined): ChatChunk | ErrorBody {
  if (outcome.status !== "completed") {
    const { code, message, param } = outcome.error ?? { code: "internal_error" as const, message: outcome.status };
    return errorBody(code, message, param);
  }
  const usage = completion?.usage ?? outcome.usage;
  return {
    id: completionId(call.address.callId),
    object: "chat.completion.chunk",
    created: completion?.created ?? Math.floor(call.receivedAtMs / 1_000),
    model: completion?.model ?? "",
    // Without the stored answer at hand, nothing is claimed about how it ended.
    choices: completion
      ? [{ index: 0, delta: {}, logprobs: null, finish_reason: completion.choices[0].finish_reason }]
      : [],
    ...(usage ? { usage } : {}),
    ...(completion ? { autellix: completion.autellix } : {}),
  };
}
