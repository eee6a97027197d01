/** A call's headers, read and checked. A bad one ends the call with a code; it never stays in the queue. */
import { type ArrivedCall, callId, programId } from "@autellix/core";
import {
  type CallAddress,
  type CallKey,
  callKey,
  type Encoding,
  type ErrorCode,
  estimatePromptTokens,
  headers,
  isBodyOf,
  isName,
  isProgramId,
  isValidAddress,
  PARENT_CALLS_MAX,
  parseReply,
  subjects,
} from "@autellix/protocol";
import type { CallMessage } from "./events.ts";
import type { CallNotes } from "./spans.ts";

/** A larger count than any model's context is no estimate but an error. */
const PROMPT_TOKENS_MAX = 100_000_000;
/** Estimates take four bytes for a token, and a token has one at least. */
const ESTIMATE_FACTOR_MAX = 4;
const TRACE_LENGTH_MAX = 128;

/** What the machine keeps of a call beside the core: how to name it to an agent and whom to tell its end. */
export interface KnownCall {
  address: CallAddress;
  seq: number;
  program: string;
  thread: string | undefined;
  reply: string | undefined;
  trace: string | undefined;
  bodyObject: string | undefined;
  /** Encoding of the outcome. */
  encoding: Encoding;
  /** Set when its program is traced; owned by spans.ts. */
  notes?: CallNotes | undefined;
}

export type Arrival =
  | { kind: "call"; call: ArrivedCall; known: KnownCall }
  | { kind: "refused"; known: KnownCall; code: ErrorCode; message: string };

/** @param lifetimeMaxMs a call's own deadline can only be shorter. */
export function readArrival(message: CallMessage, lifetimeMaxMs: number): Arrival {
  const { address, field } = message;
  const replyField = field(headers.reply);
  const reply = replyField === "" ? undefined : replyField;
  const named = field(headers.program) || address.callId;
  // The record of a refused call must not carry what it was refused for.
  const program = isProgramId(named) ? named : address.callId;
  const known: KnownCall = {
    address,
    seq: message.seq,
    program,
    thread: field(headers.thread) || undefined,
    // An end goes only to a subject that may get one.
    reply: reply !== undefined && parseReply(reply) ? reply : undefined,
    trace: field(headers.trace) || undefined,
    bodyObject: field(headers.bodyObject) || undefined,
    encoding: field(headers.encoding) === "msgpack" ? "msgpack" : "json",
  };
  const refuse = (code: ErrorCode, text: string): Arrival => ({ kind: "refused", known, code, message: text });

  if (!isValidAddress(address))
    return refuse("bad_call_id", "call id and tenant may only have A-Z a-z 0-9 _ - and 64 characters");
  if (reply !== known.reply) return refuse("bad_reply_subject", `${headers.reply} must be an inbox (_INBOX.…)`);
  // Plans carry these: one that an agent cannot accept would cost all of its plan.
  const bad = named === program ? firstBad(known) : headers.program;
  if (bad) return refuse("invalid_request", `${bad} is too long, or holds control characters or outer spaces`);
  if (known.bodyObject !== undefined && !isBodyOf(address.tenant, known.bodyObject)) {
    // What is not the tenant's is neither read nor, with the ack, deleted.
    known.bodyObject = undefined;
    return refuse("invalid_request", `${headers.bodyObject} names no body of this tenant`);
  }
  const deadlineMs = readCount(field(headers.deadlineMs), lifetimeMaxMs);
  if (deadlineMs === "bad" || deadlineMs === 0)
    return refuse("invalid_request", `${headers.deadlineMs} must be a positive whole number`);
  const promptTokens = readCount(field(headers.promptTokens), PROMPT_TOKENS_MAX);
  if (promptTokens === "bad") return refuse("invalid_request", `${headers.promptTokens} must be a whole number`);
  const parents = field(headers.parents)
    .split(",")
    .map((id) => id.trim())
    .filter((id) => id !== "");
  if (parents.length > PARENT_CALLS_MAX || !parents.every(isName)) {
    return refuse("invalid_request", `${headers.parents} must be at most ${PARENT_CALLS_MAX} call ids`);
  }
  const bodyBytes = readCount(field(headers.bodyBytes), Number.MAX_SAFE_INTEGER);
  const estimate = promptTokens ?? estimatePromptTokens(typeof bodyBytes === "number" ? bodyBytes : message.bodyBytes);
  return {
    kind: "call",
    known,
    call: {
      id: callId(callKey(address.tenant, address.callId)),
      seq: message.seq,
      program: programId(`${address.tenant}/${program}`),
      ...(program === address.callId ? { alone: true } : {}),
      ...(known.thread ? { thread: known.thread } : {}),
      ...(parents.length > 0 ? { parents: parents.map((id) => callId(callKey(address.tenant, id))) } : {}),
      arrivedAt: message.storedAtMs,
      deadlineAt: message.storedAtMs + Math.min(deadlineMs ?? lifetimeMaxMs, lifetimeMaxMs),
      promptTokens: estimate,
      promptTokensMax: ESTIMATE_FACTOR_MAX * estimate,
    },
  };
}

export function callsOfFrontend(calls: ReadonlyMap<CallKey, KnownCall>, frontend: string): CallKey[] {
  const reply = subjects.tokens(frontend);
  return [...calls].filter(([, call]) => call.reply === reply).map(([key]) => key);
}

function firstBad(known: KnownCall): string | undefined {
  if (known.thread !== undefined && !isProgramId(known.thread)) return headers.thread;
  if ((known.trace?.length ?? 0) > TRACE_LENGTH_MAX) return headers.trace;
  return undefined;
}

/** A header that holds a count: undefined when absent, "bad" when it is none; larger values are cut to `max`. */
function readCount(text: string, max: number): number | "bad" | undefined {
  if (text === "") return undefined;
  if (!/^\d{1,15}$/.test(text)) return "bad";
  return Math.min(Number(text), max);
}
