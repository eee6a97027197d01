/** What can go wrong between us and a server, and what each kind means for a call. */
import { AutellixError, type ErrorCode } from "@autellix/protocol";

/**
 * `unreachable`: nobody listens. `broken`: the stream ended early, stalled, or is not what it should be. `busy`: 429 or
 * 5xx. `refused`: the request itself is at fault (4xx); the same would be refused again.
 */
export type FailureKind = "unreachable" | "broken" | "busy" | "refused";

interface FailureMore {
  status?: number;
  code?: ErrorCode;
  /** Of a `refused` request: the field at fault. */
  param?: string;
  sentence?: string;
  cause?: unknown;
  hint?: string;
  retryAfterMs?: number | undefined;
  stalled?: boolean;
}

function causeOf({ cause }: FailureMore): ErrorOptions | undefined {
  return cause === undefined ? undefined : { cause };
}

export class ServerFailure extends Error {
  readonly kind: FailureKind;
  readonly status: number | undefined;
  /** Of a `refused` request: what the call fails with. */
  readonly code: ErrorCode;
  readonly param: string | undefined;
  /** For logs: never what the server said, since that may quote a prompt (S12). */
  readonly reason: string;
  /** The option that an operator may have to set. */
  readonly hint: string | undefined;
  /** Of a `busy` server: when it wants to be asked again. */
  readonly retryAfterMs: number | undefined;
  /** Nothing came for so long that the same may be the server's answer to this call. */
  readonly stalled: boolean;

  /** @param more.sentence for the client, where "failed" and the reason do not say it well. */
  constructor(kind: FailureKind, reason: string, more: FailureMore = {}) {
    super(more.sentence ?? `The engine's server failed: ${reason}.`, causeOf(more));
    this.name = "ServerFailure";
    this.kind = kind;
    this.status = more.status;
    this.code = more.code ?? "engine_error";
    this.param = more.param;
    this.reason = reason;
    this.hint = more.hint;
    this.retryAfterMs = more.retryAfterMs;
    this.stalled = more.stalled ?? false;
  }

  toError(): AutellixError {
    const { code, message, param } = this;
    return new AutellixError(code, message, { ...(param === undefined ? {} : { param }), cause: this });
  }
}

const SENTENCE_CHARS_MAX = 300;
/** The end of a sentence; dots of abbreviations are none. */
const SENTENCE_END = /(?<!\b(?:e\.g|i\.e|vs|cf|etc|approx|incl|resp|no|max|min))[.!?](?= |$)/i;
/** A path in a request, which quotes nothing of it: `messages[0].content`. */
const PARAM = /^[\w.[\]-]{1,80}$/;
const TOO_LONG =
  /context[ _](?:length|size|window)|maximum context|exceed_context_size|max_model_len|longer than the maximum|too many tokens/i;

interface ServerError {
  message: string;
  type: string;
  param: string;
}

/** An answer, as far as failures are told by it. */
export interface FailedReply {
  status: number;
  text: string;
  retryAfterMs?: number | undefined;
}

/** An answer whose status is not 2xx. @param resuming the request is ours, not the client's: it cannot be at fault. */
export function failureOf({ status, text, retryAfterMs }: FailedReply, resuming = false): ServerFailure {
  const { message, type, param } = serverError(text);
  const said = sentence(message);
  if (status === 401 || status === 403) {
    return new ServerFailure("refused", `status ${status}: the server does not accept the API key`, {
      status,
      hint: "--api-key-env",
      sentence: `The engine's server does not accept its API key (status ${status}).`,
    });
  }
  if (isBusy(status)) {
    return new ServerFailure("busy", `status ${status}`, {
      status,
      retryAfterMs,
      sentence: `The engine's server answered with status ${status}${behind(said)}`,
    });
  }
  const code = resuming ? "engine_error" : codeOf(status, `${type} ${message}`, param);
  // What is wrong with the client's own request, a server says best.
  const own = code !== "engine_error" && /[.!?…]$/.test(said);
  const refused = `The engine's server refused the call with status ${status}${behind(said)}`;
  const field = code !== "engine_error" && PARAM.test(param) ? { param } : {};
  return new ServerFailure("refused", `status ${status}`, { status, code, sentence: own ? said : refused, ...field });
}

/** Statuses that say nothing of the request: it may be sent again. */
export function isBusy(status: number): boolean {
  return status === 408 || status === 409 || status === 425 || status === 429 || status >= 500;
}

/** What a server said, as the end of a sentence of ours. */
function behind(said: string): string {
  if (said === "") return ".";
  return /[.!?…]$/.test(said) ? `: ${said}` : `: ${said}.`;
}

/** `Retry-After`: seconds or an HTTP date. Undefined when it is neither. */
export function retryAfterOf(header: string | undefined, nowMs = Date.now()): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^\s*\d+(?:\.\d+)?\s*$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - nowMs;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** What errors inside a stream are called, where they have no number. */
const STATUSES: readonly [RegExp, number][] = [
  [/rate_?limit|too_?many_?requests|overloaded|quota/i, 429],
  [/authentication|permission|unauthorized|forbidden|api_?key/i, 401],
  [/not_?found/i, 404],
  [/context_?(?:length|size|window)|invalid|bad_?request|unprocessable|validation/i, 400],
];

/** Throws what a server says in the middle of a stream: of the request (4xx), or of itself. */
export function refuseErrors(event: unknown, resuming: boolean): Record<string, unknown> {
  const chunk = record(event);
  const error = chunk.object === "error" ? chunk : chunk.error;
  if (error === undefined || error === null || error === "") return chunk;
  const { code, type, message } = record(error);
  const named = `${text(code)} ${text(type)}`;
  const told = Number(code);
  const status = told >= 400 && told < 600 ? told : (STATUSES.find(([name]) => name.test(named))?.[1] ?? 500);
  if (status >= 400 && status < 500 && !isBusy(status)) {
    throw failureOf({ status, text: JSON.stringify(chunk) }, resuming);
  }
  const said = sentence(text(message) || text(error));
  throw new ServerFailure("busy", "the server told an error in its stream", {
    status,
    sentence: `The engine's server failed${behind(said)}`,
  });
}

function codeOf(status: number, said: string, param: string): ErrorCode {
  if (status === 404) return /model/i.test(`${said} ${param}`) ? "model_not_found" : "engine_error";
  if (status === 413) return "body_too_large";
  if (status === 405 || status < 400) return "engine_error";
  return TOO_LONG.test(said) ? "context_length_exceeded" : "invalid_request";
}

/** @param promptTokens undefined when nobody has counted so long a prompt. */
export function tooLong(
  promptTokens: number | undefined,
  answerTokens: number | undefined,
  contextTokensMax: number,
): AutellixError {
  const prompt = promptTokens === undefined ? "is far too long" : `has ${promptTokens} tokens`;
  return new AutellixError(
    "context_length_exceeded",
    `The prompt ${prompt} and the answer needs ${answerTokens ?? 1}, but the context holds ${contextTokensMax} tokens.`,
    { param: "messages" },
  );
}

/** OpenAI's shape, FastAPI's, Google's list, plain text, and what stands in between. */
function serverError(body: string): ServerError {
  const none = { message: "", type: "", param: "" };
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    // A page is nothing to show.
    return /^\s*</.test(body) ? none : { ...none, message: body };
  }
  if (typeof value === "string") return { ...none, message: value };
  const { error, detail, message, object } = record(Array.isArray(value) ? value[0] : value);
  if (typeof error === "string") return { ...none, message: error };
  const own = error === undefined && (object === "error" || message !== undefined);
  const inner = record(own ? (Array.isArray(value) ? value[0] : value) : error);
  const first = record(Array.isArray(detail) ? detail[0] : undefined);
  const at = fieldOf(first.loc);
  const told = text(first.msg) === "" ? "" : `${at === "" ? "" : `${at}: `}${text(first.msg)}`;
  return {
    message: text(inner.message) || text(detail) || told,
    type: `${text(inner.code)} ${text(inner.type)}`,
    param: text(inner.param) || at,
  };
}

/** FastAPI's place of what it does not like: `["body", "messages", 0, "role"]`. */
function fieldOf(loc: unknown): string {
  if (!Array.isArray(loc)) return "";
  const steps = loc[0] === "body" ? loc.slice(1) : loc;
  return steps.reduce<string>(
    (path, step) => (typeof step === "number" ? `${path}[${step}]` : `${path === "" ? "" : `${path}.`}${text(step)}`),
    "",
  );
}

/** A server's message as one sentence of ours: one line, no control characters, limited. */
export function sentence(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out.
  const line = message.replace(/[\u0000-\u001f\u007f\s]+/g, " ").trim();
  const end = line.search(SENTENCE_END);
  const first = end < 0 ? line : line.slice(0, end + 1);
  return first.length <= SENTENCE_CHARS_MAX ? first : `${first.slice(0, SENTENCE_CHARS_MAX)}…`;
}

export function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A count: anything else would not be taken in a report. */
export function count(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}

/** A list of token ids, or undefined when it is anything else. */
export function idList(value: unknown): number[] | undefined {
  return Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0) ? (value as number[]) : undefined;
}
