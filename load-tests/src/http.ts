/**
 * One call against an OpenAI endpoint, timed. Own code on `node:http`, because a generator must cost little: a `fetch`
 * per call takes about four times the CPU.
 */
import { Agent, type IncomingMessage, request } from "node:http";
import { Agent as SecureAgent, request as secureRequest } from "node:https";
import { SseReader } from "./sse.ts";

/** Sockets to one target; an open loop must never wait for a socket. */
export const SOCKETS_MAX = 8_192;
const SOCKET_IDLE_MS = 30_000;
/** An answer above this size is cut off as an error. */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024;

export interface Message {
  role: "user" | "assistant" | "system";
  content: string;
}

export interface CallBody {
  model: string;
  messages: Message[];
  max_tokens: number;
  stream: boolean;
  stream_options?: { include_usage: true };
  temperature?: number;
}

/** Times in ms after the request was sent. */
export interface CallAnswer {
  /** 0 when there was no answer. */
  httpStatus: number;
  /** Whether the answer came to its end: `[DONE]`, or whole JSON. */
  complete: boolean;
  /** Code of the server's error, or of the connection's. */
  error: string | undefined;
  retryAfterS: number | undefined;
  callId: string | undefined;
  firstTokenMs: number | undefined;
  /** Longest time between two chunks with text; undefined below two. */
  pauseMsMax: number | undefined;
  totalMs: number;
  /** Chunks with text. */
  chunks: number;
  text: string;
  completionTokens: number | undefined;
  promptTokens: number | undefined;
  waitingMs: number | undefined;
  serviceMs: number | undefined;
  engine: string | undefined;
  attempts: number | undefined;
}

export interface Endpoint {
  /** Sends one call. Never throws: what goes wrong is in the answer. */
  send(body: CallBody, fields: Record<string, string>, timeoutMs: number): Promise<CallAnswer>;
  /** Any other request. @throws when there is no answer. */
  ask(method: string, path: string, body?: unknown): Promise<{ status: number; value: unknown }>;
  close(): void;
}

/** @param url the API's root with its version: `http://127.0.0.1:8080/v1`. */
export function openEndpoint(url: string, apiKey = "any"): Endpoint {
  const base = new URL(url.replace(/\/+$/, ""));
  const secure = base.protocol === "https:";
  const options = { keepAlive: true, maxSockets: SOCKETS_MAX, maxFreeSockets: SOCKETS_MAX, timeout: SOCKET_IDLE_MS };
  const agent = secure ? new SecureAgent(options) : new Agent(options);
  const open = (method: string, path: string, fields: Record<string, string>) => {
    const target = {
      agent,
      method,
      hostname: base.hostname,
      port: base.port === "" ? (secure ? 443 : 80) : Number(base.port),
      path: `${base.pathname}${path}`,
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", ...fields },
    };
    return secure ? secureRequest(target) : request(target);
  };
  return {
    send: (body, fields, timeoutMs) => sendCall(open, body, fields, timeoutMs),
    ask: (method, path, body) => askServer(open, method, path, body),
    close: () => agent.destroy(),
  };
}

type Open = (method: string, path: string, fields: Record<string, string>) => ReturnType<typeof request>;

function sendCall(open: Open, body: CallBody, fields: Record<string, string>, timeoutMs: number): Promise<CallAnswer> {
  const startedAtMs = performance.now();
  const sinceMs = () => performance.now() - startedAtMs;
  const answer = emptyAnswer();
  return new Promise((resolve) => {
    const payload = Buffer.from(JSON.stringify(body));
    const outgoing = open("POST", "/chat/completions", { ...fields, "content-length": String(payload.length) });
    let finished = false;
    const finish = (error?: string) => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      answer.error ??= error;
      answer.totalMs = sinceMs();
      resolve(answer);
    };
    const timer = setTimeout(() => outgoing.destroy(new Error("timeout")), timeoutMs);
    outgoing.on("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    outgoing.on("response", (incoming) => {
      answer.httpStatus = incoming.statusCode ?? 0;
      answer.callId = header(incoming, "x-autellix-call-id");
      const retryAfter = header(incoming, "retry-after");
      if (retryAfter !== undefined) answer.retryAfterS = Number(retryAfter);
      const isStream = header(incoming, "content-type")?.startsWith("text/event-stream") ?? false;
      incoming.on("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
      if (isStream) readStream(incoming, answer, sinceMs, finish);
      else readWhole(incoming, answer, sinceMs, finish);
    });
    outgoing.end(payload);
  });
}

function readStream(
  incoming: IncomingMessage,
  answer: CallAnswer,
  sinceMs: () => number,
  finish: (error?: string) => void,
): void {
  const reader = new SseReader();
  let textMs: number | undefined;
  incoming.on("data", (bytes: Buffer) => {
    const chunks = answer.chunks;
    try {
      for (const data of reader.read(bytes)) {
        if (data === "[DONE]") answer.complete = true;
        else take(answer, JSON.parse(data), sinceMs);
      }
      if (answer.chunks === chunks) return;
      const nowMs = sinceMs();
      if (textMs !== undefined) answer.pauseMsMax = Math.max(answer.pauseMsMax ?? 0, nowMs - textMs);
      textMs = nowMs;
    } catch {
      incoming.destroy(new Error("stream_invalid"));
    }
  });
  incoming.on("end", () => finish(answer.complete ? undefined : "stream_cut"));
}

function readWhole(
  incoming: IncomingMessage,
  answer: CallAnswer,
  sinceMs: () => number,
  finish: (error?: string) => void,
): void {
  const parts: Buffer[] = [];
  let bytesRead = 0;
  incoming.on("data", (bytes: Buffer) => {
    bytesRead += bytes.length;
    if (bytesRead > ANSWER_BYTES_MAX) incoming.destroy(new Error("answer_too_large"));
    else parts.push(bytes);
  });
  incoming.on("end", () => {
    try {
      take(answer, JSON.parse(Buffer.concat(parts).toString("utf8")), sinceMs);
      answer.complete = answer.httpStatus === 200 && answer.error === undefined;
      finish(answer.httpStatus === 200 ? undefined : `http_${answer.httpStatus}`);
    } catch {
      finish(`http_${answer.httpStatus}_no_json`);
    }
  });
}

interface Piece {
  choices?: { delta?: { content?: string | null }; message?: { content?: string | null } }[];
  usage?: { prompt_tokens?: number; completion_tokens?: number } | null;
  autellix?: { waiting_ms?: number; service_ms?: number; engine?: string; attempts?: number };
  error?: { code?: string | null; message?: string };
}

function take(answer: CallAnswer, value: unknown, sinceMs: () => number): void {
  const piece = value as Piece;
  if (piece.error) answer.error = piece.error.code ?? piece.error.message ?? "error";
  const text = piece.choices?.[0]?.delta?.content ?? piece.choices?.[0]?.message?.content ?? "";
  if (text !== "") {
    answer.firstTokenMs ??= sinceMs();
    answer.chunks++;
    answer.text += text;
  }
  if (piece.usage) {
    answer.completionTokens = piece.usage.completion_tokens;
    answer.promptTokens = piece.usage.prompt_tokens;
  }
  if (piece.autellix) {
    answer.waitingMs = piece.autellix.waiting_ms;
    answer.serviceMs = piece.autellix.service_ms;
    answer.engine = piece.autellix.engine;
    answer.attempts = piece.autellix.attempts;
  }
}

function askServer(
  open: Open,
  method: string,
  path: string,
  body: unknown,
): Promise<{ status: number; value: unknown }> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? "" : JSON.stringify(body);
    const outgoing = open(method, path, { "content-length": String(Buffer.byteLength(payload)) });
    outgoing.on("error", reject);
    outgoing.on("response", (incoming) => {
      let text = "";
      incoming.setEncoding("utf8");
      incoming.on("data", (part: string) => {
        text += part;
      });
      incoming.on("error", reject);
      incoming.on("end", () => {
        try {
          resolve({ status: incoming.statusCode ?? 0, value: text === "" ? undefined : JSON.parse(text) });
        } catch (error) {
          reject(error);
        }
      });
    });
    outgoing.end(payload);
  });
}

function header(incoming: IncomingMessage, name: string): string | undefined {
  const value = incoming.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function emptyAnswer(): CallAnswer {
  return {
    httpStatus: 0,
    complete: false,
    error: undefined,
    retryAfterS: undefined,
    callId: undefined,
    firstTokenMs: undefined,
    pauseMsMax: undefined,
    totalMs: 0,
    chunks: 0,
    text: "",
    completionTokens: undefined,
    promptTokens: undefined,
    waitingMs: undefined,
    serviceMs: undefined,
    engine: undefined,
    attempts: undefined,
  };
}
