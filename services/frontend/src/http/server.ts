/**
 * The HTTP server: routes, keys, and what a request may look like. What happens to a call is the machine's business.
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { AutellixError, type ErrorCode, errorTable } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { type FastifyInstance, fastify } from "fastify";
import type { InquiryResult, ProgramControl, Submission } from "../events.ts";
import type { KeyRing } from "../keys.ts";
import type { Limits } from "../limits.ts";
import { answerClientError, failureOf, sendFailure } from "./errors.ts";
import type { CallResponse, ResponseEvents } from "./response.ts";
import { addRoutes } from "./routes.ts";

/** What the routes need of the rest of the frontend. */
export interface Desk {
  submit(call: Submission, respond: (events: ResponseEvents) => CallResponse): void;
  cancelCall(tenant: string, callId: string): Promise<InquiryResult>;
  program(tenant: string, message: ProgramControl): Promise<InquiryResult>;
  models(): string[];
  /** Why no call can be served now; undefined when one can. */
  unreadyReason(): string | undefined;
}

export interface ServerOptions {
  desk: Desk;
  keys: KeyRing;
  limits: Limits;
  log: Logger;
  /** Told of every answer. @param refusedAs set when the request was refused. */
  onAnswer?: ((status: number, refusedAs: ErrorCode | undefined) => void) | undefined;
}

declare module "fastify" {
  interface FastifyRequest {
    tenant: string;
  }
}

/** Percent-encoded length of the longest program id. */
const PARAM_LENGTH_MAX = 4_096;

/** Paths that need no key. */
const OPEN_PATHS = new Set(["/healthz", "/readyz"]);
/** Headers are small: they have less time than a body. */
const HEADERS_MS_MAX = 20_000;
/** How often Node looks for requests that are late. */
const LATE_REQUESTS_PERIOD_MS = 5_000;

export function createServer({ desk, keys, limits, log, onAnswer }: ServerOptions): FastifyInstance {
  const open = new WeakMap<Socket, ServerResponse>();
  const app = fastify({
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.requestMsMax,
    http: {
      // Node swaps the two when this one is larger.
      headersTimeout: Math.min(limits.requestMsMax, HEADERS_MS_MAX),
      // Checked below: Node's own answer has no body.
      requireHostHeader: false,
      connectionsCheckingInterval: Math.min(limits.requestMsMax / 2, LATE_REQUESTS_PERIOD_MS),
    },
    routerOptions: { maxParamLength: PARAM_LENGTH_MAX },
    forceCloseConnections: "idle",
    // At a stop the machine refuses new calls, in the format of all errors.
    return503OnClosing: false,
    clientErrorHandler: (error, socket) => {
      const answer = answerClientError(error, socket, open.get(socket));
      if (answer) onAnswer?.(answer.status, answer.code);
    },
    frameworkErrors: (error, _request, reply) => {
      sendFailure(reply, failureOf(error) ?? { code: "internal_error", message: errorTable.internal_error.meaning });
    },
  });
  app.server.maxConnections = limits.connectionsMax;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    const encoding = request.headers["content-encoding"] ?? "identity";
    if (encoding.toLowerCase() === "identity") done(null, body);
    else done(new AutellixError("unsupported_media_type", "the body must not be compressed (Content-Encoding)"));
  });
  // Node would answer 417 without a body. An expectation may be ignored (RFC 9110, 10.1.1).
  app.server.on("checkExpectation", (request, response) => app.server.emit("request", request, response));
  app.setErrorHandler((error, request, reply) => {
    const failure = failureOf(error);
    if (!failure) log.error({ err: error }, "a route failed");
    if (failure?.code === "body_too_large") {
      // Fastify would close, and a client that still sends would see a reset instead of the answer. The rest of the body
      // is dropped as it comes; `requestMsMax` bounds it.
      reply.removeHeader("connection");
      request.raw.resume();
    }
    sendFailure(reply, failure ?? { code: "internal_error", message: errorTable.internal_error.meaning });
  });
  app.setNotFoundHandler((_request, reply) => sendFailure(reply, { code: "not_found", message: "no such path" }));
  app.decorateRequest("tenant", "");
  app.decorateReply("refusedAs", undefined);
  if (onAnswer) app.addHook("onResponse", async (_request, reply) => onAnswer(reply.raw.statusCode, reply.refusedAs));
  app.addHook("onRequest", async (request, reply) => {
    open.set(request.raw.socket, reply.raw);
    if (request.headers.host === undefined && request.raw.httpVersion === "1.1")
      throw new AutellixError("invalid_request", "the Host field is missing");
    // By the route, not by the text of the URL: /%761/models is a way to write /v1/models.
    const isOpen = OPEN_PATHS.has(request.routeOptions.url ?? "");
    if (!isOpen) request.tenant = keys.tenantOf(request.headers.authorization);
  });
  addRoutes(app, desk, limits);
  return app;
}

/** @throws AutellixError `internal_error` with one readable line when the port cannot be had. */
export async function listen(app: FastifyInstance, host: string, port: number): Promise<number> {
  try {
    await app.listen({ host, port });
  } catch (cause) {
    const { code, message } = cause as { code?: string; message?: string };
    const why = code === "EADDRINUSE" ? "the port is in use" : (message ?? "unknown reason");
    throw new AutellixError("internal_error", `cannot listen on ${host}:${port}: ${why}`, { cause });
  }
  const address = app.server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}
