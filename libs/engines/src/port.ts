/**
 * The engine port: what a worker agent needs of an engine, and no more. One contract suite (`test/contract.ts`)
 * runs against every adapter.
 *
 * An engine owns contexts (KV blocks) and token state. It owns no queue and makes no choice: the agent says which
 * calls the next step advances, and only those advance.
 */
import type { ChatCall, EngineInfo, FinishReason } from "@autellix/protocol";

export interface OpenCall {
  /** For the engine's own errors; never parsed. */
  key: string;
  chat: ChatCall;
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
  /** Tokens whose KV is on the engine now: 0 before the first step and after `evict`. */
  readonly contextTokens: number;
  /** All generated ids, forced ones included, in order. Empty where the engine has no ids. */
  readonly ids: readonly number[];
  /** Text of the forced ids, as an earlier attempt showed it: the beginning of the answer. "" without forced ids. */
  readonly forcedText: string;
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
  /** Contexts on the engine now. */
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
   * The agent keeps contexts ≤ `info.residentCallsMax` by `evict`.
   */
  step(batch: readonly EngineCall[]): Promise<StepResult>;

  /**
   * Frees the call's KV; it stays open and is recomputed when it is stepped again. Idempotent. Waits for a running step.
   */
  evict(call: EngineCall): Promise<void>;

  /**
   * Ends the call and frees all it holds, also in the middle of a prompt. Idempotent. Waits for a running step, so
   * within `stepMsMax`.
   */
  close(call: EngineCall): Promise<void>;

  counters(): EngineCounters;

  shutdown(): Promise<void>;
}
