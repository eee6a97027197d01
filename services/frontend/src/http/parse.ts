/**
 * From an HTTP request to a validated call: body, headers, and the program that it belongs to (design §6).
 */
import {
  AutellixError,
  type ChatCall,
  estimatePromptTokens,
  headers as fields,
  isName,
  NAME_LENGTH_MAX,
  PARENT_CALLS_MAX,
  PROGRAM_ID_LENGTH_MAX,
  parseChat,
} from "@autellix/protocol";
import type { Submission } from "../events.ts";

const COMPLETION_PREFIX = "chatcmpl-";
/** W3C trace context; anything else is not passed on. */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
const CONTROL_CHARACTER = /\p{Cc}/u;

export interface ParsedCall {
  submission: Submission;
  includeUsage: boolean;
}

export interface CallContext {
  callId: string;
  tenant: string;
  /** Upper bound of a client's own deadline. */
  callLifetimeMsMax: number;
}

/** Each field of a request with all the values that it came with, by its name in small letters. */
export type FieldValues = Readonly<Record<string, readonly string[] | undefined>>;

/** @throws AutellixError with the field at fault. */
export function parseCall(body: unknown, headers: FieldValues, context: CallContext): ParsedCall {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0);
  const value = parseJson(bytes);
  const chat = parseChat(value);
  if (chat.model === undefined) throw new AutellixError("invalid_request", "model: is required", { param: "model" });
  const { callId, tenant, callLifetimeMsMax } = context;
  return {
    submission: {
      callId,
      tenant,
      program: programOf(headers, value),
      thread: textField(headers, fields.thread),
      parents: parentsOf(headers),
      deadlineMs: deadlineOf(headers, callLifetimeMsMax),
      trace: traceOf(headers),
      model: chat.model,
      stream: chat.stream,
      promptTokens: promptTokensOf(chat),
      completionTokensMax: chat.completionTokensMax,
      body: bytes,
    },
    includeUsage: chat.includeUsage,
  };
}

/** @throws AutellixError `invalid_json`. */
export function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new AutellixError("invalid_json", "the body is not valid JSON", { cause });
  }
}

/** The id of a call as clients name it: its own, or that of the answer. @throws AutellixError `not_found`. */
export function parseCallId(text: string): string {
  const callId = text.startsWith(COMPLETION_PREFIX) ? text.slice(COMPLETION_PREFIX.length) : text;
  if (!isName(callId)) throw new AutellixError("not_found", "no call can have this id");
  return callId;
}

/** @throws AutellixError `invalid_request` naming `param`. */
export function parseProgramId(value: unknown, param: string): string {
  return freeText(value, param);
}

function programOf(headers: FieldValues, value: unknown): string | undefined {
  const named = textField(headers, fields.program);
  if (named !== undefined) return named;
  const { metadata } = value as { metadata?: Record<string, unknown> | null };
  const id = metadata?.autellix_program_id;
  return id === undefined || id === null ? undefined : freeText(id, "metadata.autellix_program_id");
}

function field(headers: FieldValues, name: string): string | undefined {
  const text = headers[name.toLowerCase()]?.join(",").trim();
  return text === undefined || text === "" ? undefined : text;
}

function textField(headers: FieldValues, name: string): string | undefined {
  // Put together they would name a program that nobody meant.
  if ((headers[name.toLowerCase()]?.length ?? 0) > 1)
    throw new AutellixError("invalid_request", `${name}: is given more than once`, { param: name });
  const text = field(headers, name);
  return text === undefined ? undefined : freeText(utf8(text), name);
}

/** Node reads header bytes as Latin-1; clients mostly mean UTF-8. */
function utf8(text: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(text, "latin1"));
  } catch {
    return text; // it is Latin-1, then
  }
}

/** The id travels in a NATS header, which is trimmed and takes no control characters. */
function freeText(value: unknown, param: string): string {
  const refuse = (why: string) => new AutellixError("invalid_request", `${param}: ${why}`, { param });
  if (typeof value !== "string") throw refuse("must be a string");
  if (value.length === 0 || value.length > PROGRAM_ID_LENGTH_MAX) {
    throw refuse(`must have 1 to ${PROGRAM_ID_LENGTH_MAX} characters`);
  }
  if (CONTROL_CHARACTER.test(value) || value.trim() !== value || !value.isWellFormed()) {
    throw refuse("must have no control characters and no space at its ends");
  }
  return value;
}

function parentsOf(headers: FieldValues): string[] {
  const param = fields.parents;
  const ids = (field(headers, param) ?? "").split(",").flatMap((id) => {
    const callId = id.trim();
    return callId === ""
      ? []
      : [callId.startsWith(COMPLETION_PREFIX) ? callId.slice(COMPLETION_PREFIX.length) : callId];
  });
  if (ids.length > PARENT_CALLS_MAX) {
    throw new AutellixError("invalid_request", `${param}: must name at most ${PARENT_CALLS_MAX} calls`, { param });
  }
  if (!ids.every(isName)) {
    const message = `${param}: must be call ids of A-Z a-z 0-9 _ - and at most ${NAME_LENGTH_MAX} characters`;
    throw new AutellixError("invalid_request", message, { param });
  }
  return ids;
}

function deadlineOf(headers: FieldValues, callLifetimeMsMax: number): number | undefined {
  const param = fields.deadlineMs;
  const text = field(headers, param);
  if (text === undefined) return undefined;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (value < 1) {
    throw new AutellixError("invalid_request", `${param}: must be a whole number of milliseconds above 0`, { param });
  }
  return Math.min(value, callLifetimeMsMax);
}

function traceOf(headers: FieldValues): string | undefined {
  const text = field(headers, fields.trace);
  return text !== undefined && TRACEPARENT.test(text) ? text : undefined;
}

/** Of what `ChatCall` holds: how many tokens an image is, only its server knows. */
function promptTokensOf({ messages, tools, responseFormat }: ChatCall): number {
  let bytes = tools.length > 0 ? Buffer.byteLength(JSON.stringify(tools)) : 0;
  if (responseFormat.type === "json_schema") bytes += Buffer.byteLength(JSON.stringify(responseFormat.schema));
  for (const { content, toolCalls = [] } of messages) {
    bytes += Buffer.byteLength(content);
    for (const { function: called } of toolCalls) bytes += Buffer.byteLength(called.name + called.arguments);
  }
  return estimatePromptTokens(bytes);
}
