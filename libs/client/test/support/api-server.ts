/**
 * A small OpenAI endpoint with programs: test equipment for clients and load generators. It records what it is told.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface SeenCall {
  id: string;
  program: string | undefined;
  thread: string | undefined;
  parents: string[];
  authorization: string | undefined;
  body: { messages: { role: string; content: string }[]; stream?: boolean; max_tokens?: number };
}

export interface SeenEnd {
  program: string;
  cancel: boolean;
}

export interface ApiServerOptions {
  /** The answer's text; a rejection becomes HTTP 500. Default: `answer to <last message>`. */
  answer?: (call: SeenCall) => string | Promise<string>;
  /** Answers a call by this status instead. */
  refuse?: (call: SeenCall) => { status: number; retryAfter?: number } | undefined;
  /** False: a plain OpenAI endpoint without programs. */
  programs?: boolean;
  /** How it answers to the opening of a program. */
  refuseProgram?: { status: number; error: { code: string; message: string } };
}

export interface ApiServer {
  /** `http://127.0.0.1:<port>/v1` */
  url: string;
  calls: SeenCall[];
  opened: string[];
  ended: SeenEnd[];
  sockets: () => number;
  close(): Promise<void>;
}

export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const seen = { calls: [] as SeenCall[], opened: [] as string[], ended: [] as SeenEnd[] };
  let sockets = 0;
  const server = createServer((request, response) => {
    serve(request, response, options, seen).catch((error: unknown) => {
      if (!response.headersSent) sendJson(response, 500, { error: { code: "internal_error", message: String(error) } });
      else response.destroy();
    });
  });
  server.on("connection", () => {
    sockets++;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    ...seen,
    sockets: () => sockets,
    close: () =>
      new Promise<void>((resolve, reject) => {
        server.close((error) => (error ? reject(error) : resolve()));
        server.closeAllConnections();
      }),
  };
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  options: ApiServerOptions,
  seen: { calls: SeenCall[]; opened: string[]; ended: SeenEnd[] },
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://server");
  const text = await readAll(request);
  if (request.method === "POST" && url.pathname === "/v1/chat/completions") {
    const fields = request.headers;
    const call: SeenCall = {
      id: `call-${seen.calls.length + 1}`,
      program: one(fields["autellix-program-id"]),
      thread: one(fields["autellix-thread-id"]),
      parents: one(fields["autellix-parent-call-ids"])?.split(",") ?? [],
      authorization: one(fields.authorization),
      body: JSON.parse(text),
    };
    seen.calls.push(call);
    await answerCall(call, response, options);
  } else if (options.programs !== false && request.method === "POST" && url.pathname === "/v1/programs") {
    const { id } = JSON.parse(text) as { id: string };
    seen.opened.push(id);
    if (options.refuseProgram) sendJson(response, options.refuseProgram.status, { error: options.refuseProgram.error });
    else sendJson(response, 200, { id, object: "program" });
  } else if (options.programs !== false && request.method === "DELETE" && url.pathname.startsWith("/v1/programs/")) {
    const program = decodeURIComponent(url.pathname.slice("/v1/programs/".length));
    seen.ended.push({ program, cancel: url.searchParams.get("cancel") === "true" });
    sendJson(response, 200, { id: program, object: "program" });
  } else if (options.programs !== false && request.method === "GET" && url.pathname.startsWith("/v1/programs/")) {
    const id = decodeURIComponent(url.pathname.slice("/v1/programs/".length));
    const ended = seen.calls.filter((call) => call.program === id).length;
    const calls = { waiting: 0, running: 0, ended };
    sendJson(response, 200, { id, object: "program", service_ms: 7 * ended, waiting_ms: 5 * ended, calls });
  } else if (request.method === "GET" && url.pathname === "/v1/models") {
    sendJson(response, 200, { object: "list", data: [{ id: "test", object: "model", created: 1, owned_by: "test" }] });
  } else {
    sendJson(response, 404, { error: { code: "not_found", message: "no such path" } });
  }
}

async function answerCall(call: SeenCall, response: ServerResponse, options: ApiServerOptions): Promise<void> {
  const refusal = options.refuse?.(call);
  if (refusal) {
    if (refusal.retryAfter !== undefined) response.setHeader("retry-after", String(refusal.retryAfter));
    sendJson(response, refusal.status, { error: { code: "queue_full", message: "refused", type: "x", param: null } });
    return;
  }
  response.setHeader("x-autellix-call-id", call.id);
  const last = call.body.messages.at(-1)?.content ?? "";
  const text = await (options.answer?.(call) ?? `answer to ${last}`);
  const words = text.split(/(?<= )/);
  const common = { id: `chatcmpl-${call.id}`, created: 1, model: "test" };
  const usage = { prompt_tokens: 3, completion_tokens: words.length, total_tokens: 3 + words.length };
  const autellix = {
    call_id: call.id,
    program_id: call.program ?? call.id,
    engine: "e1",
    attempts: 1,
    waiting_ms: 5,
    service_ms: 7,
  };
  if (!call.body.stream) {
    const message = { role: "assistant", content: text, refusal: null };
    const choices = [{ index: 0, message, logprobs: null, finish_reason: "stop" }];
    sendJson(response, 200, { ...common, object: "chat.completion", choices, usage, autellix });
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const event = (delta: object, more: object = {}) =>
    response.write(
      `data: ${JSON.stringify({ ...common, object: "chat.completion.chunk", choices: [{ index: 0, delta, logprobs: null, finish_reason: null }], ...more })}\n\n`,
    );
  event({ role: "assistant", content: "" });
  for (const word of words) event({ content: word });
  event({}, { choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: "stop" }], autellix });
  event({}, { choices: [], usage, autellix });
  response.end("data: [DONE]\n\n");
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

async function readAll(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}

function one(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
