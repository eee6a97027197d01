/** What the operator says about a server, and every limit of the HTTP engine. */

export type DialectName = "vllm" | "sglang" | "llama-server" | "openai";

export type HttpLog = (level: "info" | "warn", message: string) => void;

export interface HttpEngineOptions {
  /** Of the server, with or without `/v1` at its end. */
  url: string;
  /** Default `auto`: found out from what the server says of itself. */
  dialect?: DialectName | "auto";
  /**
   * Names under which it is offered; the first is its own. Default: the server's name of the model. One that the server
   * lists chooses that model there.
   */
  models?: readonly string[];
  /** Requests that the server computes together. Needed where the server does not say (vLLM, plain OpenAI). */
  slots?: number;
  /** Sent as `Authorization: Bearer …`. */
  apiKey?: string;
  /** Certificates (PEM text) that the server's must go back to, beside those of the system. */
  ca?: string;
  /** Prompt and answer of one call; default: what the server says. */
  contextTokensMax?: number;
  /** Calls that the agent can hold. */
  heldCallsMax?: number;
  limits?: Partial<HttpLimits>;
  log?: HttpLog;
  /** Told what the start is waiting for. */
  progress?: (text: string) => void;
  /** Ends the start while it waits for the server. */
  signal?: AbortSignal;
}

export interface HttpLimits {
  /**
   * Length of a step, in ms: tokens are handed on, and calls are stopped and begun, at its end. 25 ms is below the time
   * between two tokens of a large model, so a stream looks as smooth as the server's own; a cancel takes effect within a
   * tenth of the 250 ms that it may take; and 40 steps a second cost the agent a few ms of CPU.
   */
  stepMs: number;
  /** Without an event for so long a stream is given up and taken up again: longer than the prefill of a full context. */
  stallMsMax: number;
  /** For all requests that generate nothing. */
  answerMsMax: number;
  /** For counting a prompt before its call's turn, which can do without. */
  tokenizeMsMax: number;
  /** Failures of one call in a row, without a token between them, before it fails. Waiting for a server that is down is none. */
  triesMax: number;
  /** Those of them in which the server had the request for `stallMsMax` and sent nothing. */
  stallTriesMax: number;
  /** Times that the server goes down under one call before it fails, as the scheduler's `attemptsCrashedMax` for engines. */
  crashesMax: number;
  /** Wait before the second try; doubled for each further one. */
  retryMsMin: number;
  retryMsMax: number;
  /** A server that says when it wants to be asked again (`Retry-After`) is left alone for so long, but no longer than this. */
  retryAfterMsMax: number;
  /** Between two looks at whether a server that is down is back. */
  pollMs: number;
  /** Between two looks at whether a server without calls still works. */
  idleMs: number;
  /** Between two looks at the server's own counts, to see traffic that is not ours. */
  watchMs: number;
  /** One line of a stream. */
  lineCharsMax: number;
  /** An answer that is no stream. */
  answerBytesMax: number;
}

export const HTTP_LIMITS: HttpLimits = {
  stepMs: 25,
  stallMsMax: 120_000,
  answerMsMax: 30_000,
  tokenizeMsMax: 2_000,
  triesMax: 6,
  stallTriesMax: 2,
  crashesMax: 3,
  retryMsMin: 100,
  retryMsMax: 5_000,
  retryAfterMsMax: 60_000,
  pollMs: 250,
  idleMs: 5_000,
  watchMs: 1_000,
  lineCharsMax: 8 * 1024 * 1024,
  answerBytesMax: 64 * 1024 * 1024,
};

export const HELD_CALLS_MAX = 1_024;
/** Where neither the server nor the operator says it: the server itself refuses what is too long. */
export const CONTEXT_TOKENS_UNKNOWN = 131_072;
/** No tokenizer makes fewer tokens of a text: longer prompts are refused without asking the server. */
export const BYTES_PER_TOKEN_MAX = 512;
