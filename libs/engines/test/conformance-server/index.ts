/**
 * A small server of each dialect for tests. It behaves as real ones were seen to, and can misbehave in each way that the
 * HTTP engine must bear.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { DialectName } from "../../src/http/index.ts";
import { answerLlama } from "./llama-server.ts";
import { decode, END_ID, nextId, type Sampling } from "./model.ts";
import { answerOpenai } from "./openai.ts";
import { CERTIFICATE, KEY } from "./tls.ts";

export interface Mischief {
  /** Answers of generating requests with this status, so many times. */
  status?: { code: number; times: number; body?: unknown; retryAfter?: string };
  /** Any request of this path is answered with this status, so many times; never, without one. */
  path?: { path: string; code?: number; times: number };
  /** What happens to a stream after so many tokens, so many times. */
  after?: {
    tokens: number;
    times: number;
    what: "close" | "stall" | "murmur" | "garbage" | "huge line" | "error event" | "refusal" | "abort" | "end";
    /** Instead of what a refusal says. */
    event?: unknown;
  };
  /** A call with this in its prompt brings the server down once its answer, gone on with or not, has so many tokens. */
  kills?: { text: string; tokens: number };
  /** Streams have this content type, so many times. */
  contentType?: { value: string; times: number };
  /** It goes on with calls whose client has left, so long. */
  ignoresDisconnectMs?: number;
  finishReason?: string;
  /** Streams end behind the answer's last token: what was counted is not told, or was told before that token. */
  tellsNoCount?: boolean | "was told";
  /** Greedy answers are others than before. */
  drifts?: boolean;
  /** Neither `[DONE]` nor the end of the answer. */
  neverEnds?: boolean;
}

export interface ServerOptions {
  dialect: DialectName;
  slots?: number;
  contextTokensMax?: number;
  tokenMs?: number;
  tokensPerChunk?: number;
  apiKey?: string;
  /** Fields of SGLang's server info, llama-server's props. */
  extra?: Record<string, unknown>;
  /** Without token ids, as versions before them. */
  noIds?: boolean;
  /** Refuses `priority`. */
  noPriority?: boolean;
  models?: string[];
  /** HTTPS, with a certificate of its own. */
  tls?: boolean;
}

export interface Request {
  path: string;
  body: Record<string, unknown>;
}

/** One answer being generated. */
export interface Generation {
  prompt: readonly number[];
  ids: number[];
  tokensMax: number;
  sampling: Sampling;
}

export class ConformanceServer {
  readonly options: Required<Omit<ServerOptions, "apiKey" | "extra">> & Pick<ServerOptions, "apiKey" | "extra">;
  mischief: Mischief = {};
  /** Calls of other clients, as its metrics tell them. */
  foreign = 0;
  /** Generating requests, and those it goes on with. */
  running = 0;
  runningMax = 0;
  /** Generating requests so far. */
  readonly requests: Request[] = [];
  #server: Server | undefined;
  #port = 0;
  readonly #sockets = new Set<Socket>();
  /** Length of the shortest prompt of the call that kills. */
  #killerTokens = Number.POSITIVE_INFINITY;
  #stopped: Promise<void> = Promise.resolve();
  #waiters: (() => void)[] = [];

  constructor(options: ServerOptions) {
    this.options = {
      slots: 4,
      contextTokensMax: 512,
      tokenMs: 0,
      tokensPerChunk: 1,
      noIds: false,
      noPriority: false,
      models: ["conformance"],
      tls: false,
      ...options,
    };
  }

  get url(): string {
    return `${this.options.tls ? "https" : "http"}://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<this> {
    await this.#stopped;
    const handle = (request: IncomingMessage, response: ServerResponse) => {
      this.#handle(request, response).catch((error: unknown) => response.destroy(error as Error));
    };
    const server = this.options.tls
      ? createSecureServer({ cert: CERTIFICATE, key: KEY }, handle)
      : createServer(handle);
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
    return this;
  }

  /** As a crash: all connections break at once. `start` brings it back on the same port. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server !== undefined) this.#stopped = new Promise<void>((resolve) => server.close(() => resolve()));
    await this.#stopped;
    this.#changed();
  }

  /** Resolves when the condition holds, looked at whenever a request or a token comes. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  #changed(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "").split("?")[0] ?? "";
    const chunks: Uint8Array[] = [];
    for await (const chunk of request) chunks.push(chunk as Uint8Array);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? {} : (JSON.parse(text) as Record<string, unknown>);
    const { apiKey, dialect } = this.options;
    if (apiKey !== undefined && request.headers.authorization !== `Bearer ${apiKey}`) {
      send(response, 401, { error: { message: "Unauthorized" } });
      return;
    }
    const { path: odd } = this.mischief;
    if (odd?.path === path && odd.times-- > 0) {
      if (odd.code !== undefined) send(response, odd.code, { error: { message: "Not now." } });
      return;
    }
    if (path === "/health" && dialect !== "openai") return send(response, 200, {});
    const answered =
      dialect === "llama-server"
        ? await answerLlama(this, path, body, response)
        : await answerOpenai(this, path, body, response);
    if (!answered) send(response, 404, { detail: "Not Found" });
  }

  /** Counts a generating request, and misbehaves before its first token. @returns whether it is to be answered. */
  begins(path: string, body: Record<string, unknown>, response: ServerResponse): boolean {
    this.requests.push({ path, body });
    this.#changed();
    const { status } = this.mischief;
    if (status === undefined || status.times <= 0) return true;
    status.times--;
    if (status.retryAfter !== undefined) response.setHeader("retry-after", status.retryAfter);
    send(response, status.code, status.body ?? { error: { message: "Overloaded. Secret prompt text." } });
    return false;
  }

  /**
   * The answer's tokens, several at once as they are sent. Ends early when the client leaves.
   * @param event sends one event.
   */
  async *generate(generation: Generation, response: ServerResponse, stream: boolean): AsyncGenerator<number[]> {
    this.running++;
    this.runningMax = Math.max(this.runningMax, this.running);
    let chunk: number[] = [];
    try {
      while (generation.ids.length < generation.tokensMax) {
        if (response.destroyed) {
          await sleep(this.mischief.ignoresDisconnectMs ?? 0);
          return;
        }
        if (stream && (await this.#misbehaves(generation, response))) return;
        await (this.options.tokenMs > 0 ? sleep(this.options.tokenMs) : nextTurn());
        const { prompt, ids, sampling } = generation;
        const id = nextId([...prompt, ...ids], ids.length, sampling);
        ids.push(id);
        chunk.push(id);
        this.#changed();
        const last = id === END_ID || ids.length >= generation.tokensMax;
        if (chunk.length < this.options.tokensPerChunk && !last) continue;
        yield chunk;
        chunk = [];
        if (id === END_ID) return;
      }
    } finally {
      this.running--;
      this.#changed();
    }
  }

  async #misbehaves({ prompt, ids }: Generation, response: ServerResponse): Promise<boolean> {
    const { after, kills } = this.mischief;
    if (kills !== undefined && decode(prompt).includes(kills.text)) {
      this.#killerTokens = Math.min(this.#killerTokens, prompt.length);
      if (prompt.length + ids.length >= this.#killerTokens + kills.tokens) {
        await this.stop();
        return true;
      }
    }
    if (after === undefined || after.times <= 0 || ids.length !== after.tokens) return false;
    after.times--;
    switch (after.what) {
      case "close":
        response.destroy();
        return true;
      case "end":
        response.end();
        return true;
      case "stall":
        await new Promise<void>((resolve) => response.on("close", resolve));
        return true;
      case "murmur": {
        const timer = setInterval(() => response.write(": keep-alive\n\n"), 10);
        await new Promise<void>((resolve) => response.on("close", resolve));
        clearInterval(timer);
        return true;
      }
      case "garbage":
        response.write('data: {"choices":[{"ind\n\n');
        return false;
      case "huge line":
        response.write(`data: {"choices":[{"delta":{"content":"${"x".repeat(1024 * 1024)}"}}]}\n\n`);
        return false;
      case "error event":
        response.end('data: {"error":{"message":"EngineCore encountered an issue.","code":500}}\n\ndata: [DONE]\n\n');
        return true;
      case "refusal":
        event(response, after.event ?? { error: { message: "Token 9 is out of range. Secret.", code: 400 } });
        response.end("data: [DONE]\n\n");
        return true;
      case "abort":
        response.end('data: {"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\ndata: [DONE]\n\n');
        return true;
    }
  }

  /** The head of a stream. */
  opens(response: ServerResponse): void {
    const { contentType } = this.mischief;
    const wrong = contentType !== undefined && contentType.times-- > 0;
    response.writeHead(200, { "content-type": wrong ? contentType.value : "text/event-stream; charset=utf-8" });
    response.flushHeaders();
  }

  /** The end of a stream. */
  ends(response: ServerResponse, done: boolean): void {
    if (this.mischief.neverEnds === true) return;
    if (done) response.write("data: [DONE]\n\n");
    response.end();
  }
}

export function send(response: ServerResponse, status: number, body: unknown): void {
  if (typeof body === "string") {
    response.writeHead(status, { "content-type": "text/plain" }).end(body);
    return;
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

export function event(response: ServerResponse, value: unknown): void {
  if (!response.destroyed) response.write(`data: ${JSON.stringify(value)}\n\n`);
}
