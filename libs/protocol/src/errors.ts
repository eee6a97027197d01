/**
 * The one table of errors that cross a process boundary. Foreign errors become one of these at the adapter that
 * meets them, with `cause`; everything after that speaks of the code alone.
 */

interface ErrorRow {
  /** HTTP status at the frontend. */
  http: number;
  /** OpenAI's `error.type`. */
  type: "invalid_request_error" | "authentication_error" | "rate_limit_error" | "server_error";
  /** Whether the same call, sent again later, can succeed. */
  retryable: boolean;
  meaning: string;
}

const table = {
  invalid_json: row(400, "invalid_request_error", false, "The body is neither valid JSON nor msgpack."),
  invalid_request: row(400, "invalid_request_error", false, "A field has a wrong type or value."),
  unsupported_parameter: row(
    400,
    "invalid_request_error",
    false,
    "A parameter that would change the answer is not supported.",
  ),
  context_length_exceeded: row(
    400,
    "invalid_request_error",
    false,
    "Prompt and answer do not fit the model's context.",
  ),
  bad_call_id: row(
    400,
    "invalid_request_error",
    false,
    "A call id, tenant or pool may only have A-Z a-z 0-9 _ - and 64 characters.",
  ),
  bad_reply_subject: row(400, "invalid_request_error", false, "A reply subject must be an inbox (_INBOX.…)."),
  invalid_api_key: row(401, "authentication_error", false, "The API key is missing or unknown."),
  not_found: row(404, "invalid_request_error", false, "No such path, program or call."),
  model_not_found: row(404, "invalid_request_error", false, "No pool serves this model."),
  method_not_allowed: row(405, "invalid_request_error", false, "The path does not take this method."),
  request_timeout: row(408, "invalid_request_error", true, "The request did not arrive in time."),
  program_ended: row(409, "invalid_request_error", false, "The program has ended; it takes no more calls."),
  call_exists: row(409, "invalid_request_error", false, "A call of this id was accepted before."),
  body_too_large: row(413, "invalid_request_error", false, "The body is larger than the limit."),
  unsupported_media_type: row(415, "invalid_request_error", false, "The body must be application/json."),
  queue_full: row(429, "rate_limit_error", true, "The pool holds as many calls as it may; try again later."),
  slow_client: row(499, "invalid_request_error", true, "The client read its stream too slowly and was cut off."),
  cancelled: row(499, "invalid_request_error", true, "The call was cancelled."),
  internal_error: row(500, "server_error", true, "Something broke that should not; the log has the reason."),
  engine_error: row(502, "server_error", true, "The engine could not serve this call."),
  dead: row(
    502,
    "server_error",
    false,
    "The call was on an engine that crashed too often; it is kept as a dead letter.",
  ),
  queue_unavailable: row(
    503,
    "server_error",
    true,
    "NATS or the scheduler could not be reached; the call was not accepted.",
  ),
  no_engine: row(503, "server_error", true, "No engine of this model is up."),
  result_expired: row(504, "server_error", false, "The call ended, but its result is no longer stored."),
  expired: row(504, "server_error", true, "The call's deadline passed before it ended."),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof table;
export const errorTable: Readonly<Record<ErrorCode, ErrorRow>> = table;

function row(http: number, type: ErrorRow["type"], retryable: boolean, meaning: string): ErrorRow {
  return { http, type, retryable, meaning };
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(table, text);
}

/** An expected failure with a code of the table. */
export class AutellixError extends Error {
  readonly code: ErrorCode;
  /** The request field at fault, for OpenAI's `error.param`. */
  readonly param: string | undefined;

  constructor(
    code: ErrorCode,
    message: string = errorTable[code].meaning,
    options: { param?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AutellixError";
    this.code = code;
    this.param = options.param;
  }
}

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: ErrorCode };
}

/** The error as OpenAI's API shows it. */
export function errorBody(code: ErrorCode, message: string, param?: string): ErrorBody {
  return { error: { message, type: errorTable[code].type, param: param ?? null, code } };
}
