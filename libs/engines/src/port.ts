/**
 * The engine port: what a worker agent needs of an engine, and no more. One contract suite (`test/contract.ts`)
 * runs against every adapter.
 *
 * An engine owns contexts (KV blocks) and token state. It owns no queue and makes no choice: the agent says which
 * calls the next step advances, and only those advance.
 */
import type { AnswerDelta, ChatCall, EngineInfo, FinishReason } from "@autellix/protocol";

export interface OpenCall {
  /** For the engine's own errors; never parsed. */
  key: string;
  chat: ChatCall;
  /** The request as it was published: what an engine that hands it on to a server of its own sends (`info.forwards`). */
  body: Readonly<Record<string, unknown>>;
  /**
   * A call of this engine that has ended and was retained. Its context becomes this call's, as far as the two begin
   * alike; the rest is dropped, and its handle is closed. Without effect where the engine retains nothing.
   */
  continues?: EngineCall;
  /**
   * Token ids that an earlier attempt already showed to the client (S2). They are evaluated as if generated, are not
   * emitted again, and count as completion tokens; generation goes on behind them. When they already end the call
   * (end token, stop sequence, maximum), the first step says so.
   */
  forcedIds: readonly number[];
}

/** One call on one engine. All fields are readable at any time; only the engine writes them. */
export interface EngineCall {
  readonly key: string;
  /** Tokens of the prompt after the chat template. */
  readonly promptTokens: number;
  /** Generated so far, forced ones included. */
  readonly completionTokens: number;
  /** Tokens whose KV is on the engine now: 0 before the first step, after `evict` and after `swapOut`. */
  readonly contextTokens: number;
  /** Tokens whose KV lies in the host tier; 0 when it does not. Never both on the engine and there. */
  readonly hostTokens: number;
  /** Prompt tokens that were not evaluated for this call, since a context that it goes on from held them. */
  readonly cachedTokens: number;
  /**
   * False when the call cannot be stopped and gone on with exactly, as it stands now: it must stay in the batch until
   * it ends. May become false at any step; true for calls that have not shown anything yet.
   */
  readonly preemptible: boolean;
  /** All generated ids, forced ones included, in order. Empty where the engine has no ids. */
  readonly ids: readonly number[];
  /** Text of the forced ids, as an earlier attempt showed it: the beginning of the answer. "" without forced ids. */
  readonly forcedText: string;
  /** The same as deltas, where it may have been more than text: all of it, in order. Absent: `forcedText` is all. */
  readonly forcedDeltas?: readonly AnswerDelta[];
}

export interface StepCall {
  call: EngineCall;
  /** Prompt (or recomputed) tokens evaluated in this step. */
  prefilledTokens: number;
  /** Number of tokens generated in this step; 0 while its prompt is being evaluated. */
  tokens: number;
  /** Their ids, where the engine has them. */
  ids: readonly number[];
  /** New text in whole characters; held back while a character or a possible stop sequence is open. */
  text: string;
  /**
   * Set when the step brought more than text (a tool call, reasoning, logprobs): all that it brought, in order. `text`
   * is then the content among it.
   */
  deltas?: readonly AnswerDelta[];
  /** Set when this step ended the call; `text` then includes all that was held back and belongs to the answer. */
  finish?: FinishReason;
  /**
   * Set when the engine could not go on with this call (others of the batch are unaffected). Its context is gone, its
   * ids and its text are as before the step; it stays open until it is closed.
   */
  error?: Error;
}

export interface StepResult {
  /** Wall time of the step on the engine's clock, in ms. Charged in full to every call of the batch. */
  durationMs: number;
  /** One entry per call of the batch, in its order. */
  calls: StepCall[];
}

/** One transfer of a context between the engine and the host tier, however many blocks it has (paper §4.4). */
export interface Swap {
  tokens: number;
  bytes: number;
  durationMs: number;
}

/** Cumulative since the engine started. */
export interface EngineCounters {
  /** Steps made. */
  steps: number;
  /** Sum over steps of the calls in the batch. */
  stepCalls: number;
  /** Largest number of sequences decoded together. */
  batchMax: number;
  busyMs: number;
  /** Tokens generated. */
  tokens: number;
  prefilledTokens: number;
  /** Prompt tokens that retained contexts or the server's own cache held. */
  cachedTokens: number;
  /** Transfers of contexts out of the engine, and back. */
  swapOuts: number;
  swapIns: number;
  /** Both ways. */
  swapBytes: number;
  swapMs: number;
  /** Bytes in the host tier now. */
  hostBytes: number;
  /** Contexts on the engine now, retained ones included. */
  residentCalls: number;
  /** Tokens of KV in use now. */
  contextTokens: number;
}

export interface Engine {
  readonly info: EngineInfo;

  /**
   * Tokenizes and checks a call. Takes no KV yet.
   * @throws AutellixError `context_length_exceeded` when prompt + at least one token do not fit, or prompt +
   * `completionTokensMax` exceed the context; `invalid_request` when the model's chat template refuses the messages;
   * `engine_error` when the forced ids cannot be of this call and model.
   */
  open(call: OpenCall): Promise<EngineCall>;

  /**
   * Advances exactly these calls: at most one prompt slice over the whole batch, one token for each of the others,
   * within `stepMsMax`. A call without context gets one (recomputing what it had). One step at a time: a second
   * before the first has ended is a broken invariant and throws.
   *
   * A call of the batch whose turn for a slice has not come has an entry with neither tokens nor prefill; one that had
   * ended before the step (by its forced ids) has `finish` and no text.
   *
   * @throws Error when the batch breaks a rule: a step is running, too many calls, one of them twice, closed or foreign.
   * @param batch 1 … `info.batchCallsMax` calls, highest priority first (the first that needs prefill gets the slice).
   * The agent keeps contexts ≤ `info.residentCallsMax` and `info.kvBlocks` by `swapOut` and `evict`.
   */
  step(batch: readonly EngineCall[]): Promise<StepResult>;

  /**
   * The call is not in the next batch: an engine that would go on with it by itself (a server) stops it now. Its
   * context stays where the engine can keep it. Idempotent; nothing to do where only `step` advances a call. Before a
   * step without it has begun, and whenever no step follows.
   */
  park(call: EngineCall): Promise<void>;

  /**
   * Moves the call's context to the host tier, in one transfer. Waits for a running step.
   * @returns undefined when the context stays where it was: there is none, or the tier has no room (`hostKvBytesMax`,
   * or what its file system has left).
   */
  swapOut(call: EngineCall): Promise<Swap | undefined>;

  /**
   * Moves it back, in one transfer; a call whose context lies in the host tier must not be stepped before. Waits for a
   * running step.
   * @returns undefined when there is none, or when it could not be read: it is dropped then, and the call recomputed.
   */
  swapIn(call: EngineCall): Promise<Swap | undefined>;

  /**
   * Frees the call's KV, in both tiers; it stays open and is recomputed when it is stepped again. Idempotent. Waits for
   * a running step.
   */
  evict(call: EngineCall): Promise<void>;

  /**
   * The call has ended; its context stays, for a later call of its program to go on from (`OpenCall.continues`). The
   * handle stays open: `swapOut`, `swapIn`, `evict` and `close` work, a step does not. Closes it where the engine
   * retains nothing, or there is no context.
   * @returns whether it is retained.
   */
  retain(call: EngineCall): Promise<boolean>;

  /**
   * Closes the call, but leaves its context in the host tier for another engine of this host and model, which takes it
   * over when it opens a call of the same key whose forced ids begin with it. Bounded and cleaned up with the tier.
   * @returns undefined when nothing was left: no tier, no room, no context.
   */
  leave(call: EngineCall): Promise<Swap | undefined>;

  /**
   * Ends the call and frees all it holds, also in the middle of a prompt. Idempotent. Waits for a running step, so
   * within `stepMsMax`.
   */
  close(call: EngineCall): Promise<void>;

  counters(): EngineCounters;

  /**
   * Of the server behind it, where there is one; `sinceMs`: for so long. Its calls wait while it is not up. `changed`: it
   * is back with other slots, contexts, model or abilities, and `renew` is waited for.
   */
  health?(): { state: "up" } | { state: "down"; sinceMs: number } | { state: "changed" };

  /** `info` becomes what the server is now. @returns false, and does nothing, while calls are open. */
  renew?(): boolean;

  /** Of the server behind it: slots that it has now, requests that it keeps waiting; each undefined when it does not say. */
  slotsNow?(): Promise<{ slots?: number | undefined; queued?: number | undefined }>;

  shutdown(): Promise<void>;
}
