/** The record of an ended call, as it is stored and as its reader gets it. */
import {
  type ChatCompletion,
  completionId,
  type ErrorCode,
  encode,
  encodeOutcome,
  type FinishReason,
  type OutcomeBody,
  type Plan,
  type TerminalStatus,
  type Usage,
} from "@autellix/protocol";
import type { HeldCall } from "./held-call.ts";

export interface CallError {
  code: ErrorCode;
  message: string;
  param?: string;
}

export type Outcome = OutcomeBody;

/** How a call ended, before it is a record. */
export type End =
  | { status: "completed"; finish: FinishReason }
  | { status: "failed" | "cancelled" | "expired"; error: CallError };

type CancelCause = Plan["cancel"][number]["cause"];

export function cancelled(cause: CancelCause | "unread"): End {
  switch (cause) {
    case "deadline":
      return { status: "expired", error: { code: "expired", message: "The call's deadline passed before it ended." } };
    case "client":
      return { status: "cancelled", error: { code: "cancelled", message: "The call was cancelled by its client." } };
    case "orphan":
      return { status: "cancelled", error: { code: "cancelled", message: "The call's frontend is gone." } };
    case "program":
      return { status: "cancelled", error: { code: "cancelled", message: "The call's program was cancelled." } };
    case "unread":
      return { status: "cancelled", error: { code: "cancelled", message: "Nobody reads this call any more." } };
  }
}

function usageOf(call: HeldCall): Usage {
  return {
    prompt_tokens: call.promptTokens,
    completion_tokens: call.completionTokens,
    total_tokens: call.promptTokens + call.completionTokens,
    ...(call.cachedTokens > 0 ? { prompt_tokens_details: { cached_tokens: call.cachedTokens } } : {}),
  };
}

/** Three digits: microseconds are noise. */
function rounded(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}

/** @param model the name that the engine's model has of its own, for calls that name none. */
export function completionOf(
  call: HeldCall,
  finish: FinishReason,
  setup: { engine: string; model: string; atMs: number },
): ChatCompletion {
  const { message, logprobs } = call.tokens.answer();
  return {
    id: completionId(call.address.callId),
    object: "chat.completion",
    created: Math.floor(call.receivedAtMs / 1_000),
    model: call.model ?? setup.model,
    choices: [{ index: 0, message, logprobs, finish_reason: finish }],
    usage: usageOf(call),
    autellix: {
      call_id: call.address.callId,
      program_id: call.dispatch.program,
      engine: setup.engine,
      attempts: call.attempt,
      waiting_ms: rounded(call.waitingMs(setup.atMs)),
      service_ms: rounded(call.dispatch.servedMs + call.serviceMs),
    },
  };
}

export function outcomeOf(call: HeldCall, status: TerminalStatus, atMs: number): Outcome {
  return {
    call_id: call.address.callId,
    program_id: call.dispatch.program,
    status,
    ...(call.promptTokens > 0 ? { usage: usageOf(call) } : {}),
    timings: {
      waiting_ms: rounded(call.waitingMs(atMs)),
      service_ms: rounded(call.dispatch.servedMs + call.serviceMs),
    },
  };
}

/** @returns the record's body, and the answer as an object of its own when it is too large to be in it. */
export function encodeResult(
  call: HeldCall,
  outcome: Outcome,
  completion: ChatCompletion,
  inlineBytesMax: number,
): { outcome: Outcome; bytes: Uint8Array; object?: Uint8Array } {
  const whole: Outcome = { ...outcome, response: completion };
  const bytes = encodeOutcome(whole, call.encoding);
  if (bytes.length <= inlineBytesMax) return { outcome: whole, bytes };
  return { outcome, bytes: encodeOutcome(outcome, call.encoding), object: encode(completion, call.encoding) };
}
