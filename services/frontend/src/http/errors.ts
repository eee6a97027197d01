/**
 * Every error of the HTTP side in OpenAI's format: our own, fastify's, and what Node refuses before fastify sees it.
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { AutellixError, type ErrorCode, errorBody, errorTable } from "@autellix/protocol";
import type { FastifyReply } from "fastify";
import type { Failure } from "../events.ts";

const CODES_OF_STATUS: Record<number, ErrorCode> = {
  401: "invalid_api_key",
  404: "not_found",
  405: "method_not_allowed",
  408: "request_timeout",
  413: "body_too_large",
  415: "unsupported_media_type",
};

/** Foreign messages may quote what was sent, all of it: longer ones are not passed on. */
const FOREIGN_MESSAGE_CHARS_MAX = 200;

/** @returns undefined when the error is none that a client can cause. */
export function failureOf(error: unknown): Failure | undefined {
  if (error instanceof AutellixError) return { code: error.code, message: error.message, param: error.param };
  const { statusCode, message } = error as { statusCode?: unknown; message?: unknown };
  if (typeof statusCode !== "number" || statusCode < 400 || statusCode > 499) return undefined;
  const known = CODES_OF_STATUS[statusCode];
  if (known) return { code: known, message: errorTable[known].meaning };
  const isShort = typeof message === "string" && message.length <= FOREIGN_MESSAGE_CHARS_MAX;
  return { code: "invalid_request", message: isShort ? message : "the request is malformed" };
}

export interface RenderedError {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export function renderError({ code, message, param, retryAfterS }: Failure): RenderedError {
  return {
    status: errorTable[code].http,
    headers: {
      "content-type": "application/json; charset=utf-8",
      // The official clients try a 409 or a 5xx again unless they are told.
      ...(errorTable[code].retryable ? {} : { "x-should-retry": "false" }),
      ...(retryAfterS === undefined ? {} : { "retry-after": String(retryAfterS) }),
    },
    body: JSON.stringify(errorBody(code, message, param)),
  };
}

declare module "fastify" {
  interface FastifyReply {
    /** Set when the request was refused. */
    refusedAs: ErrorCode | undefined;
  }
}

export function sendFailure(reply: FastifyReply, failure: Failure): FastifyReply {
  reply.refusedAs = failure.code;
  const { status, headers, body } = renderError(failure);
  return reply.code(status).headers(headers).send(body);
}

/**
 * Answers what Node's parser refuses: malformed HTTP, headers too large, a request that does not arrive in time.
 * @param open the response that is under way on the socket, if any.
 * @returns the answer; undefined when none could be given.
 */
export function answerClientError(
  error: { code?: string },
  socket: Socket,
  open: ServerResponse | undefined,
): { status: number; code: ErrorCode } | undefined {
  // In the middle of an answer another one would be read as its continuation.
  if (error.code === "ECONNRESET" || !socket.writable || open?.headersSent) {
    socket.destroy();
    return undefined;
  }
  const failure: Failure =
    error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? { code: "request_timeout", message: errorTable.request_timeout.meaning }
      : error.code === "HPE_HEADER_OVERFLOW"
        ? { code: "invalid_request", message: "the headers are too large" }
        : { code: "invalid_request", message: "this is not valid HTTP" };
  const { status, headers, body } = renderError(failure);
  const fields = { ...headers, "content-length": String(Buffer.byteLength(body)), connection: "close" };
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${failure.code}\r\n${head.join("")}\r\n${body}`);
  return { status, code: failure.code };
}
