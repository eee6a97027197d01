import { connect } from "node:net";
import { AutellixError, type ErrorCode } from "@autellix/protocol";
import { createLogger, Metrics } from "@autellix/runtime";
import type { FastifyInstance } from "fastify";
import { afterEach, expect, test, vi } from "vitest";
import type { EndedFields } from "../src/events.ts";
import { createServer, type Desk, listen } from "../src/http/server.ts";
import type { KeyRing } from "../src/keys.ts";
import { defaultLimits } from "../src/limits.ts";
import { FrontendMetrics } from "../src/metrics.ts";

const servers: FastifyInstance[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.server.closeAllConnections();
    await server.close();
  }
});

/** Refuses every call as an engine would, after it was accepted. */
const desk: Desk = {
  submit: (_call, respond) =>
    respond({ buffered: () => {}, gone: () => {} }).fail({ code: "engine_error", message: "" }, false),
  cancelCall: async () => ({ kind: "call", state: "pending" }),
  program: async () => ({ kind: "failed", failure: { code: "not_found", message: "" } }),
  models: () => [],
  unreadyReason: () => undefined,
};
const keys: KeyRing = {
  tenantOf(authorization) {
    if (authorization === undefined) throw new AutellixError("invalid_api_key");
    return "t";
  },
  stop: () => {},
};

test("each HTTP answer is told once, with the code when it is a refusal", async () => {
  const told: [number, ErrorCode | undefined][] = [];
  const log = createLogger({ service: "test", level: "silent" });
  const onAnswer = (status: number, refusedAs: ErrorCode | undefined) => told.push([status, refusedAs]);
  const app = createServer({ desk, keys, limits: defaultLimits, log, onAnswer });
  servers.push(app);
  const port = await listen(app, "127.0.0.1", 0);
  const ask = async (path: string, init: RequestInit = {}) => {
    const headers = { authorization: "Bearer k", "content-type": "application/json" };
    await (await fetch(`http://127.0.0.1:${port}${path}`, { headers, ...init })).text();
  };
  await ask("/healthz");
  await ask("/v1/models", { headers: {} });
  await ask("/nowhere");
  await ask("/v1/models", { method: "PUT" });
  await ask("/v1/programs/tea");
  await ask("/v1/chat/completions", { method: "POST", body: "{" });
  const call = { model: "m", messages: [{ role: "user", content: "hi" }] };
  await ask("/v1/chat/completions", { method: "POST", body: JSON.stringify(call) });
  await new Promise<void>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("no http\r\n\r\n"));
    socket.resume().once("close", () => resolve());
  });
  await vi.waitFor(() => expect(told).toHaveLength(8));
  expect(told).toEqual([
    [200, undefined],
    [401, "invalid_api_key"],
    [404, "not_found"],
    [405, "method_not_allowed"],
    [404, "not_found"],
    [400, "invalid_json"],
    // It was accepted: no refusal.
    [502, undefined],
    [400, "invalid_request"],
  ]);
});

test("ends of calls are counted by pool, status and code, their times in seconds", async () => {
  const registry = new Metrics();
  const use = { openCalls: 3, openCancels: 1, bodiesBytes: 7 };
  const metrics = new FrontendMetrics(
    registry,
    defaultLimits,
    () => use,
    async () => 5,
  );
  const fields: EndedFields = {
    ...{ call: "c", tenant: "t", program: "tea", pool: "p", model: "m", stream: true },
    ...{ status: "completed", code: undefined, promptTokens: 5, completionTokens: 11, ttftMs: 500, durationMs: 2_500 },
  };
  metrics.callEnded(fields);
  metrics.callEnded({ ...fields, status: "failed", code: "engine_error", ttftMs: undefined });
  metrics.published("accepted", 20);
  metrics.httpAnswered(429, "queue_full");
  const lines = (await registry.text()).split("\n");
  expect(lines).toEqual(
    expect.arrayContaining([
      'autellix_answers_total{pool="p",status="completed",code=""} 1',
      'autellix_answers_total{pool="p",status="failed",code="engine_error"} 1',
      "autellix_client_first_token_seconds_sum 0.5",
      "autellix_client_call_seconds_sum 2.5",
      "autellix_client_call_seconds_count 1",
      "autellix_client_token_seconds_sum 0.2",
      "autellix_publish_seconds_sum 0.02",
      'autellix_publishes_total{status="accepted"} 1',
      'autellix_refused_requests_total{code="queue_full"} 1',
      'autellix_http_answers_total{status="429"} 1',
      "autellix_http_connections 5",
      "autellix_open_calls 3",
      "autellix_bodies_bytes 7",
    ]),
  );
});
