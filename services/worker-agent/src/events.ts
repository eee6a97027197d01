/**
 * What happens to an agent, and what it wants done. Both are plain data: a log of events replays to the same effects.
 * A held call is named by `id`, a number that is never used again, so that a late answer cannot meet a later holding
 * of the same call.
 */
import type { Swap } from "@autellix/engines";
import type {
  AnswerDelta,
  Ask,
  CallAddress,
  CallKey,
  ChatCall,
  ChatChunk,
  Counters,
  Encoding,
  ErrorBody,
  ErrorCode,
  FinishReason,
  HaveAnswer,
  Plan,
  ReadResult,
  RecordHead,
  SentSpan,
  TerminalStatus,
  WriteResult,
} from "@autellix/protocol";

export type FetchedBody =
  | { kind: "found"; bytes: Uint8Array; encoding: Encoding | undefined }
  /** The stream's leader has no such call: it was acked. */
  | { kind: "gone" }
  /** No answer; it decides nothing. */
  | { kind: "unknown" }
  /** The call is there, its body in the object store is not usable. */
  | { kind: "failed"; code: ErrorCode; message: string };

/** Where the context of an engine's call lies. */
export interface ContextPlace {
  /** Tokens whose KV is on the engine. */
  contextTokens: number;
  /** Tokens whose KV lies in the host tier. */
  hostTokens: number;
}

export interface SteppedCall {
  id: number;
  /** A server may count otherwise than was estimated before it did. */
  promptTokens: number;
  /** Tokens whose KV is on the engine after the step. */
  contextTokens: number;
  /** Generated so far, forced ones included. */
  completionTokens: number;
  /** Prompt (or recomputed) tokens evaluated in this step. */
  prefilledTokens: number;
  /** Prompt tokens that a context or cache held. */
  cachedTokens: number;
  /** False: it must stay in the batch until it ends. */
  preemptible: boolean;
  /** Generated in this step. */
  tokens: number;
  ids: readonly number[];
  /** New text, whole characters only. */
  text: string;
  /** Set when the step brought more than text: all of it, in order. */
  deltas?: readonly AnswerDelta[];
  finish?: FinishReason;
  /** Why the engine could not go on with this call. */
  error?: { code: ErrorCode; message: string };
}

export type Happening =
  | { kind: "started" }
  | { kind: "planReceived"; plan: Plan }
  | { kind: "asked"; ask: Ask; replyTo: string }
  | { kind: "fetched"; id: number; body: FetchedBody; outcome: ReadResult }
  | { kind: "haveAnswered"; id: number; answer: HaveAnswer | undefined }
  /** `forcedText`: the text of the forced ids, as far as its characters are whole. */
  | {
      kind: "opened";
      id: number;
      promptTokens: number;
      cachedTokens: number;
      forcedText: string;
      /** Set when they were more than text: all of it, in order. */
      forcedDeltas?: readonly AnswerDelta[];
      context: ContextPlace;
    }
  | { kind: "openFailed"; id: number; code: ErrorCode; message: string; param?: string }
  | { kind: "stepped"; durationMs: number; calls: SteppedCall[]; counters: Counters }
  /** `swap` undefined: nothing was moved. */
  | {
      kind: "swapped";
      id: number;
      way: "out" | "in";
      swap: Swap | undefined;
      context: ContextPlace;
      counters: Counters;
    }
  /** It is out of the engine's own batch; a server may have dropped its context. Not `preemptible`: it could not be. */
  | { kind: "parked"; id: number; preemptible: boolean; context: ContextPlace }
  /** An ended call's context; `kept` false: it is closed. */
  | { kind: "retained"; id: number; kept: boolean; context: ContextPlace }
  /** Its state lies in the host tier for another agent of this host, or nothing was left; it is closed. */
  | { kind: "left"; id: number }
  /** Undefined: not stored, or no answer. */
  | { kind: "resultStored"; id: number; name: string | undefined }
  | { kind: "outcomeWritten"; id: number; result: WriteResult }
  | { kind: "outcomeRead"; id: number; result: ReadResult }
  | { kind: "endAnswered"; id: number; confirmed: boolean }
  | { kind: "pingAnswered"; frontend: string; answered: boolean }
  /** Of the connection to NATS. While it is down nobody's silence counts. */
  | { kind: "connectionChanged"; connected: boolean }
  /** `withinMs` instead of `drainMsMax`: how long begun calls may go on. */
  | { kind: "drainAsked"; withinMs?: number }
  /** The time of the last `wake` has come. */
  | { kind: "timePassed" };

/** `atMs`: ms since 1970, never going back within a process. */
export type AgentEvent = Happening & { atMs: number };

export type Effect =
  /** A core message, msgpack, fire and forget. */
  | { kind: "send"; subject: string; message: unknown }
  /** JSON to an inbox; `end` becomes the header that marks the last message. */
  | { kind: "sendInbox"; subject: string; message: ChatChunk | ErrorBody; end?: TerminalStatus }
  /** Body by sequence and outcome, in parallel → `fetched`. */
  | { kind: "fetch"; id: number; address: CallAddress; seq: number; bodyObject: string | undefined }
  /** → `haveAnswered` */
  | { kind: "askHave"; id: number; frontend: string; call: CallKey; epoch: number; attempt: number }
  /** → `opened` or `openFailed` */
  | {
      kind: "open";
      id: number;
      key: CallKey;
      chat: ChatCall;
      body: Readonly<Record<string, unknown>>;
      forcedIds: readonly number[];
      /** Id of the retained call whose context it takes over. */
      continues: number | undefined;
    }
  /** It leaves the batch → `parked` */
  | { kind: "park"; id: number }
  /** → `swapped`; no step is under way or begun meanwhile. */
  | { kind: "swapOut"; id: number }
  | { kind: "swapIn"; id: number }
  /** Frees its context, wherever that lies. */
  | { kind: "evict"; id: number }
  /** Its call has ended, its context stays → `retained` */
  | { kind: "retain"; id: number }
  /** Closes it, its context stays for another agent of this host → `left` */
  | { kind: "leave"; id: number }
  | { kind: "close"; id: number }
  /** Highest priority first → `stepped`. Never a second one before that. */
  | { kind: "step"; ids: number[] }
  /** → `resultStored` */
  | { kind: "storeResult"; id: number; tenant: string; bytes: Uint8Array }
  /** → `outcomeWritten` */
  | { kind: "writeOutcome"; id: number; address: CallAddress; head: RecordHead; body: Uint8Array; fence: number }
  /** From the stream's leader → `outcomeRead` */
  | { kind: "readOutcome"; id: number; address: CallAddress }
  /** → `endAnswered` */
  | {
      kind: "requestEnd";
      id: number;
      frontend: string;
      call: CallKey;
      status: TerminalStatus;
      body: Uint8Array | undefined;
    }
  /** → `pingAnswered` */
  | { kind: "ping"; frontend: string }
  /** `timePassed` wanted at this time; replaces the one before. */
  | { kind: "wake"; atMs: number }
  /** A step or transfer takes longer than any may: the engine hangs, and its process must end. */
  | { kind: "hung"; afterMs: number }
  | { kind: "sendSpans"; spans: SentSpan[] }
  | { kind: "log"; level: "debug" | "info" | "warn"; fields: Record<string, string | number | boolean>; msg: string }
  /** All that could be finished is finished: the process may end. */
  | { kind: "drained" };
