/**
 * The contract of the frontend's machine: what it is told and what it asks for. Events carry their time in ms of a
 * monotonic clock; effects are carried out in order by `adapter.ts`, whose answers are events again.
 */
import type {
  AnswerDelta,
  CallAddress,
  CallKey,
  ChatCompletion,
  Control,
  ControlAnswer,
  ErrorCode,
  Extension,
  FinishReason,
  GapAnswer,
  HaveAnswer,
  ProgramView,
  PublishResult,
  Status,
  TerminalStatus,
  TokenItem,
  Usage,
} from "@autellix/protocol";
import type { Outcome } from "./outcome.ts";

/** A validated call of a client. */
export interface Submission {
  callId: string;
  tenant: string;
  /** Undefined: the call is a program of its own. */
  program: string | undefined;
  thread: string | undefined;
  parents: readonly string[];
  /** The client's own deadline from now on, at most the lifetime of a call. */
  deadlineMs: number | undefined;
  trace: string | undefined;
  model: string;
  stream: boolean;
  promptTokens: number;
  completionTokensMax: number | undefined;
  /** The request as it came; it goes to the queue unchanged. */
  body: Uint8Array;
}

/** What a read of a call's record gave. `none` counts: the stream's leader was asked. */
export type OutcomeRead =
  | { kind: "outcome"; outcome: Outcome }
  | { kind: "none" }
  | { kind: "unknown" }
  | { kind: "broken"; code: ErrorCode; message: string };

/** A read for a waiting client, or to see whether a cancel has come to its end. */
export type ReadPurpose = "call" | "cancel";

export interface Failure {
  code: ErrorCode;
  message: string;
  param?: string | undefined;
  /** Seconds, for `Retry-After`. */
  retryAfterS?: number | undefined;
}

export type InquiryResult =
  | { kind: "programs"; views: ProgramView[] }
  | { kind: "call"; state: "pending" | "ended" }
  | { kind: "failed"; failure: Failure };

export type Event =
  // ── from clients ──
  | { kind: "submitted"; atMs: number; call: Submission }
  /** The client's connection closed before its answer was complete. */
  | { kind: "clientGone"; atMs: number; key: CallKey }
  /** Bytes of a stream that the client has not taken yet. Told when they exceed the socket's mark and when they drained. */
  | { kind: "buffered"; atMs: number; key: CallKey; bytes: number }
  | { kind: "cancelRequested"; atMs: number; inquiry: number; tenant: string; callId: string }
  | { kind: "programRequested"; atMs: number; inquiry: number; tenant: string; message: ProgramControl }
  // ── from agents and schedulers ──
  | { kind: "tokens"; atMs: number; engine: string; epoch: number; items: readonly TokenItem[] }
  | { kind: "ended"; atMs: number; key: CallKey; outcome: Outcome | undefined; reply: string | undefined }
  | {
      kind: "haveAsked";
      atMs: number;
      key: CallKey;
      engine: string;
      epoch: number;
      attempt: number;
      reply: string | undefined;
    }
  | { kind: "pinged"; reply: string | undefined }
  | { kind: "statusSent"; atMs: number; status: Status }
  | { kind: "modelSeen"; model: string; pools: readonly string[] | undefined }
  /** The list of models has been read once: a model that is not in it does not exist. */
  | { kind: "modelsRead" }
  // ── answers to effects ──
  | { kind: "publishAnswered"; atMs: number; key: CallKey; result: PublishResult["kind"] }
  | { kind: "gapAnswered"; atMs: number; key: CallKey; engine: string; answer: GapAnswer | undefined }
  | { kind: "outcomeRead"; atMs: number; key: CallKey; purpose: ReadPurpose; read: OutcomeRead }
  | { kind: "cancelAnswered"; atMs: number; key: CallKey; answer: ControlAnswer | undefined }
  | { kind: "controlAnswered"; atMs: number; inquiry: number; pool: string; answer: ControlAnswer | undefined }
  // ── time ──
  | { kind: "ticked"; atMs: number }
  /** No new calls from now on. */
  | { kind: "drainStarted" }
  /** What is still open is cancelled. */
  | { kind: "drainEnded"; atMs: number };

export type ProgramControl = Extract<Control, { op: `program.${string}` }>;

export type Effect =
  // ── to the client of a call ──
  /** The SSE headers; always followed by one of those below. */
  | { kind: "open"; key: CallKey }
  | { kind: "text"; key: CallKey; text: string }
  | { kind: "delta"; key: CallKey; delta: AnswerDelta }
  | { kind: "comment"; key: CallKey }
  | { kind: "finish"; key: CallKey; reason: FinishReason; usage: Usage; extension: Extension }
  | { kind: "whole"; key: CallKey; completion: ChatCompletion }
  /** `cut`: the connection is dropped, since the client reads nothing. `refused`: nothing was queued. */
  | { kind: "fail"; key: CallKey; failure: Failure; cut?: boolean; refused?: true }
  /** Always the last effect of an accepted call; fields of its log line. */
  | { kind: "callEnded"; key: CallKey; fields: EndedFields; trace: TraceFields }
  | { kind: "inquiryEnded"; inquiry: number; result: InquiryResult }
  // ── to NATS ──
  | {
      kind: "publish";
      key: CallKey;
      address: CallAddress;
      call: Submission;
      program: string;
      deadlineMs: number | undefined;
    }
  | { kind: "askTokens"; key: CallKey; engine: string; from: number }
  | { kind: "readOutcome"; key: CallKey; address: CallAddress; purpose: ReadPurpose }
  | { kind: "cancel"; key: CallKey; address: CallAddress }
  | { kind: "control"; inquiry: number; pool: string; tenant: string; message: Control }
  | { kind: "answer"; reply: string; message: HaveAnswer | { ok: true } }
  // ── to the log ──
  | { kind: "warn"; key: CallKey; message: string };

export interface EndedFields {
  call: string;
  tenant: string;
  program: string;
  pool: string;
  model: string;
  stream: boolean;
  status: TerminalStatus;
  code: ErrorCode | undefined;
  promptTokens: number | undefined;
  completionTokens: number | undefined;
  ttftMs: number | undefined;
  durationMs: number;
}

/** What a call trace holds of a call beside these. */
export interface TraceFields {
  thread: string | undefined;
  parents: readonly string[];
  /** On the clock of the events. */
  arrivedMs: number;
  endedMs: number;
  /** The queue has confirmed it. */
  accepted: boolean;
  /** Undefined when no engine had the call. */
  waitingMs: number | undefined;
  serviceMs: number | undefined;
  /** An estimate when no engine has counted. */
  promptTokens: number;
  /** Of the prompt, those that the engine did not compute; undefined when it does not say. */
  cachedTokens: number | undefined;
  /** As counted, else as received. */
  completionTokens: number;
}

export type Emit = (effect: Effect) => void;
