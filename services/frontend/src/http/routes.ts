/**
 * Paths and methods. Each handler parses, asks the desk, and answers.
 */
import { AutellixError, type ProgramView } from "@autellix/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from "fastify";
import type { InquiryResult } from "../events.ts";
import { newId } from "../ids.ts";
import type { Limits } from "../limits.ts";
import { sendFailure } from "./errors.ts";
import { parseCall, parseCallId, parseJson, parseProgramId } from "./parse.ts";
import { mergeViews } from "./programs.ts";
import { CALL_ID_HEADER, CallResponse } from "./response.ts";
import type { Desk } from "./server.ts";

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown;
type Methods = Partial<Record<"GET" | "POST" | "DELETE", Handler>>;

const ALL_METHODS: HTTPMethods[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

export function addRoutes(app: FastifyInstance, desk: Desk, limits: Limits): void {
  const startedS = unixS();
  const model = (id: string) => ({ id, object: "model", created: startedS, owned_by: "autellix" });
  const routes: Record<string, Methods> = {
    "/healthz": { GET: () => ({ status: "ok" }) },
    "/readyz": {
      GET: (_request, reply) => {
        const reason = desk.unreadyReason();
        return reason === undefined ? { status: "ready" } : reply.code(503).send({ status: "unready", reason });
      },
    },
    "/v1/models": { GET: () => ({ object: "list", data: desk.models().map(model) }) },
    // A model's name may have slashes.
    "/v1/models/*": {
      GET: (request) => {
        const id = param(request, "*");
        if (!desk.models().includes(id)) throw new AutellixError("model_not_found", undefined, { param: "model" });
        return model(id);
      },
    },
    "/v1/chat/completions": { POST: (request, reply) => chatCompletion(request, reply, desk, limits) },
    "/v1/programs": {
      POST: async (request, reply) => {
        const id = programIdOfBody(request.body) ?? `program-${newId()}`;
        const result = await desk.program(request.tenant, { op: "program.start", program_id: id });
        return sendProgram(reply, result);
      },
    },
    "/v1/programs/:id": {
      GET: async (request, reply) => {
        const id = parseProgramId(param(request, "id"), "id");
        return sendProgram(reply, await desk.program(request.tenant, { op: "program.read", program_id: id }));
      },
      DELETE: async (request, reply) => {
        const id = parseProgramId(param(request, "id"), "id");
        const message = { op: "program.end", program_id: id, cancel: flag(request, "cancel") } as const;
        return sendProgram(reply, await desk.program(request.tenant, message));
      },
    },
    "/v1/calls/:id": {
      DELETE: async (request, reply) => {
        const id = parseCallId(param(request, "id"));
        const result = await desk.cancelCall(request.tenant, id);
        if (result.kind === "failed") return sendFailure(reply, result.failure);
        const state = result.kind === "call" ? result.state : "ended";
        return reply.send({ id, object: "call.cancelled", state });
      },
    },
  };
  for (const [url, methods] of Object.entries(routes)) addPath(app, url, methods);
}

function addPath(app: FastifyInstance, url: string, methods: Methods): void {
  const served = new Set<HTTPMethods>();
  for (const [method, handler] of Object.entries(methods) as [HTTPMethods, Handler][]) {
    app.route({ method, url, handler });
    served.add(method);
    if (method === "GET") served.add("HEAD"); // added by fastify
  }
  const allow = [...served].join(", ");
  app.route({
    method: ALL_METHODS.filter((method) => !served.has(method)),
    url,
    // Before the body is read: it does not matter what it is.
    onRequest: async (_request, reply) => {
      const message = `the path takes ${allow}`;
      return await sendFailure(reply.header("allow", allow), { code: "method_not_allowed", message });
    },
    handler: () => undefined,
  });
}

function chatCompletion(request: FastifyRequest, reply: FastifyReply, desk: Desk, limits: Limits): void {
  const callId = newId();
  void reply.header(CALL_ID_HEADER, callId);
  const { submission, includeUsage } = parseCall(request.body, request.raw.headersDistinct, {
    callId,
    tenant: request.tenant,
    callLifetimeMsMax: limits.callLifetimeMsMax,
  });
  reply.hijack();
  const { model } = submission;
  const facts = { callId, model, createdS: unixS(), includeUsage, slowClientMsMax: limits.slowClientMsMax };
  desk.submit(submission, (events) => new CallResponse(reply.raw, facts, events));
}

function sendProgram(reply: FastifyReply, result: InquiryResult): FastifyReply {
  if (result.kind === "failed") return sendFailure(reply, result.failure);
  const [first, ...others]: ProgramView[] = result.kind === "programs" ? result.views : [];
  if (!first) return sendFailure(reply, { code: "not_found", message: "no pool knows this program" });
  return reply.send(mergeViews([first, ...others]));
}

/** The body may be left out. @throws AutellixError `invalid_json` or `invalid_request`. */
function programIdOfBody(body: unknown): string | undefined {
  if (!Buffer.isBuffer(body) || body.length === 0) return undefined;
  const value = parseJson(body);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new AutellixError("invalid_request", "the body must be an object");
  }
  const { id } = value as { id?: unknown };
  return id === undefined || id === null ? undefined : parseProgramId(id, "id");
}

function param(request: FastifyRequest, name: string): string {
  return (request.params as Record<string, string | undefined>)[name] ?? "";
}

/** @throws AutellixError `invalid_request` when it is neither true nor false. */
function flag(request: FastifyRequest, name: string): boolean {
  const text = (request.query as Record<string, unknown>)[name];
  if (text === undefined || text === "false") return false;
  if (text === "true") return true;
  throw new AutellixError("invalid_request", `${name}: must be true or false`, { param: name });
}

function unixS(): number {
  return Math.floor(Date.now() / 1_000);
}
