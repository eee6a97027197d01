/** HTTP for browsers: the page, streams of events, answers. Nothing here writes to the system that is watched. */

import type { ServerResponse } from "node:http";
import { isIP } from "node:net";
import { AutellixError } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { type FastifyInstance, type FastifyReply, fastify } from "fastify";
import type { Assets } from "../assets.ts";
import { nameOfSegment } from "../shared/paths.ts";
import type { ProgramAnswer } from "../shared/wire.ts";
import { addReplayRoutes, type ReplayDesk } from "./replay-routes.ts";

export interface Desk {
  pools(): unknown;
  /** Takes the response over: it stays open. */
  stream(pool: string, response: ServerResponse): void;
  /** @returns undefined when the pool is not known. */
  program(pool: string, tenant: string, program: string): ProgramAnswer | undefined;
}

export interface ServerOptions {
  assets: Assets;
  desk: Desk;
  replay: ReplayDesk;
  /** Host names beside `localhost` and addresses; `*`: any. */
  hosts: readonly string[];
  log: Logger;
}

/** Percent-encoded length of the longest program id. */
const PARAM_LENGTH_MAX = 4_096;
const BODY_BYTES_MAX = 64 * 1024;
/** Streams of browsers, and some more for their questions. */
const CONNECTIONS_MAX = 256;
const REQUEST_MS_MAX = 60_000;

/** Everything comes from here, nothing runs that is not a file of ours, and nobody may frame it. */
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
} as const;
const ANYBODY = new Set(["/healthz"]);

export function createServer({ assets, desk, replay, hosts, log }: ServerOptions): FastifyInstance {
  const app = fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_MS_MAX,
    routerOptions: { maxParamLength: PARAM_LENGTH_MAX },
    forceCloseConnections: true,
  });
  app.server.maxConnections = CONNECTIONS_MAX;
  app.addHook("onRequest", async (request, reply) => {
    reply.headers(HEADERS);
    const path = request.url.split("?", 1)[0] ?? "";
    // A page of somebody else whose name was pointed at this address must not read what is here (DNS rebinding).
    if (!ANYBODY.has(path) && !isKnownHost(request.headers.host, hosts))
      return sendError(reply, 403, "host_unknown", "this name is not in AUTELLIX_DASHBOARD_HOSTS");
  });
  app.setErrorHandler((error: { statusCode?: number; code?: string; message: string }, _request, reply) => {
    if (error instanceof AutellixError) return sendError(reply, 400, error.code, error.message);
    const status = error.statusCode ?? 500;
    if (status >= 500) log.error({ err: error }, "a request failed");
    const message = status >= 500 ? "the dashboard failed; its log says more" : error.message;
    return sendError(reply, status, status >= 500 ? "internal_error" : "invalid_request", message);
  });
  app.setNotFoundHandler((_request, reply) => sendError(reply, 404, "not_found", "there is nothing under this path"));
  app.get("/healthz", async () => ({ ok: true }));
  addPages(app, assets);
  app.get("/api/pools", async () => ({ pools: desk.pools() }));
  app.get<{ Params: { pool: string } }>("/api/pools/:pool/events", (request, reply) => {
    reply.hijack();
    desk.stream(request.params.pool, reply.raw);
  });
  app.get<{ Params: { pool: string; tenant: string; program: string } }>(
    "/api/pools/:pool/programs/:tenant/:program",
    async ({ params }, reply) => {
      const answer = desk.program(params.pool, params.tenant, nameOfSegment(params.program));
      if (!answer) return sendError(reply, 404, "not_found", "no such pool is known");
      reply.header("cache-control", "no-store");
      return answer;
    },
  );
  addReplayRoutes(app, replay);
  return app;
}

/** One page; its script looks at the path. */
function addPages(app: FastifyInstance, { files, index }: Assets): void {
  for (const path of ["/", "/pools/:pool", "/pools/:pool/programs/:tenant/:program", "/replay"]) {
    app.get(path, async (_request, reply) => {
      reply.type("text/html; charset=utf-8").header("cache-control", "no-cache");
      return index;
    });
  }
  app.get<{ Params: { file: string } }>("/assets/:file", async ({ params }, reply) => {
    const asset = files.get(params.file);
    if (!asset) return sendError(reply, 404, "not_found", "there is no such file");
    reply.type(asset.type).header("cache-control", "public, max-age=31536000, immutable");
    return asset.body;
  });
}

/** Addresses cannot be rebound; names can. */
export function isKnownHost(header: string | undefined, hosts: readonly string[]): boolean {
  if (header === undefined) return false;
  const name = header
    .replace(/:\d+$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .toLowerCase();
  return name === "localhost" || isIP(name) !== 0 || hosts.includes("*") || hosts.includes(name);
}

export function sendError(reply: FastifyReply, status: number, code: string, message: string) {
  return reply.code(status).send({ error: { code, message } });
}
