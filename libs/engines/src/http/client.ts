/** HTTP to one server: JSON requests and streams, on kept connections. Not `fetch`: that takes no certificates. */
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { getCACertificates } from "node:tls";
import { failureOf, refuseErrors, retryAfterOf, ServerFailure } from "./failure.ts";
import type { HttpLimits } from "./options.ts";
import { EventReader } from "./sse.ts";

export interface Reply {
  status: number;
  text: string;
  /** Undefined when the text is no JSON. */
  json: unknown;
  /** What `Retry-After` says. */
  retryAfterMs: number | undefined;
}

const UNREACHABLE = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTDOWN",
]);
/** What Node calls certificates that do not go back to one that is trusted, or are of another host. */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/;
/** Of the body of an error: a sentence is taken from it. Some servers send the whole request back. */
const ERROR_BYTES_MAX = 64 * 1024;
/** From `[DONE]` to the end of the answer. */
const END_MS_MAX = 1_000;

export class HttpClient {
  readonly base: URL;
  readonly #agent: http.Agent;
  readonly #headers: Record<string, string>;
  readonly #limits: HttpLimits;

  constructor(options: { url: string; apiKey?: string; ca?: string }, limits: HttpLimits) {
    this.base = baseOf(options.url);
    this.#limits = limits;
    this.#headers = {
      accept: "application/json, text/event-stream",
      ...(options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` }),
    };
    const kept = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY };
    this.#agent =
      this.base.protocol === "https:"
        ? new https.Agent({
            ...kept,
            ...(options.ca === undefined ? {} : { ca: [...getCACertificates("default"), options.ca] }),
          })
        : new http.Agent(kept);
  }

  /** @throws ServerFailure when there is no answer at all; any status is an answer. */
  async json(method: "GET" | "POST", path: string, body?: unknown, options: RequestOptions = {}): Promise<Reply> {
    const { answerMsMax, stallMsMax } = this.#limits;
    const timeout = AbortSignal.timeout(options.timeoutMs ?? (options.generates === true ? stallMsMax : answerMsMax));
    const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
    try {
      const response = await this.#request(method, path, body, signal);
      const text = await readAll(response, this.#limits.answerBytesMax);
      const retryAfterMs = retryAfterOf(response.headers["retry-after"]);
      return { status: response.statusCode ?? 0, text, json: parsed(text), retryAfterMs };
    } catch (error) {
      options.signal?.throwIfAborted();
      if (timeout.aborted) {
        const stalled = options.generates === true;
        throw new ServerFailure("broken", `no answer from ${path} in time`, { stalled, cause: error });
      }
      // Also of an answer that breaks off in its body.
      throw failed(error);
    }
  }

  /** As `json`, for 2xx only. @throws ServerFailure `refused` or `busy` at any other status. */
  async expectJson(
    method: "GET" | "POST",
    path: string,
    body?: unknown,
    options: RequestOptions = {},
  ): Promise<unknown> {
    const reply = await this.json(method, path, body, options);
    if (reply.status < 200 || reply.status >= 300) throw failureOf(reply, true);
    if (reply.json === undefined) throw new ServerFailure("broken", `what ${path} answered is no JSON`);
    return reply.json;
  }

  /**
   * The events of a stream, as they come. Ends at `[DONE]` or with the connection; leaving it, or the signal, closes the
   * connection.
   * @throws ServerFailure of any kind; the signal's reason when it is aborted.
   */
  async *stream(path: string, body: unknown, signal: AbortSignal, resuming: boolean): AsyncGenerator<string[]> {
    const stall = new Stall(this.#limits.stallMsMax);
    const both = AbortSignal.any([signal, stall.signal]);
    let response: IncomingMessage | undefined;
    try {
      response = await this.#request("POST", path, body, both);
      const status = response.statusCode ?? 0;
      if (status < 200 || status >= 300) {
        const retryAfterMs = retryAfterOf(response.headers["retry-after"]);
        throw failureOf({ status, text: await readBeginning(response, ERROR_BYTES_MAX), retryAfterMs }, resuming);
      }
      const type = response.headers["content-type"] ?? "";
      if (!type.startsWith("text/event-stream")) {
        // Some proxies put errors into answers that are none by their status.
        refuseErrors(parsed(await readBeginning(response, ERROR_BYTES_MAX)), resuming);
        throw new ServerFailure("refused", `the answer is ${type.slice(0, 60) || "of no type"}, not a stream`, {
          sentence: "The engine's server did not answer with a stream.",
        });
      }
      const reader = new EventReader(this.#limits.lineCharsMax);
      for await (const bytes of response.iterator({ destroyOnReturn: false })) {
        const events = reader.push(bytes as Uint8Array);
        if (reader.moved) stall.moved();
        const done = events.indexOf("[DONE]");
        if (events.length > 0) yield done < 0 ? events : events.slice(0, done);
        if (done < 0) continue;
        readToEnd(response);
        response = undefined;
        return;
      }
      const last = reader.end().filter((event) => event !== "[DONE]");
      if (last.length > 0) yield last;
    } catch (error) {
      signal.throwIfAborted();
      if (stall.signal.aborted) {
        throw new ServerFailure("broken", `nothing for ${this.#limits.stallMsMax} ms`, {
          sentence: "The engine's server stalled.",
          stalled: true,
        });
      }
      throw failed(error);
    } finally {
      stall.end();
      // Closing the connection is how a server hears that it can stop.
      if (response !== undefined && !response.complete) response.destroy();
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  async #request(method: string, path: string, body: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    for (let tries = 0; ; tries++) {
      let reused = false;
      try {
        return await new Promise((resolve, reject) => {
          const url = new URL(`${this.base.pathname}${path}`.replace("//", "/"), this.base);
          const { request } = url.protocol === "https:" ? https : http;
          const sent = request(
            url,
            {
              method,
              agent: this.#agent,
              signal,
              headers: {
                ...this.#headers,
                ...(payload === undefined
                  ? {}
                  : { "content-type": "application/json", "content-length": payload.length }),
              },
            },
            resolve,
          );
          sent.on("error", (error) => {
            reused = sent.reusedSocket;
            reject(error);
          });
          sent.end(payload);
        });
      } catch (error) {
        signal.throwIfAborted();
        // The server closed a kept connection at the moment we used it: it never saw this request.
        if (reused && codeOf(error) === "ECONNRESET" && tries === 0) continue;
        throw failed(error);
      }
    }
  }
}

/** What is behind `[DONE]`: an empty end, after which the connection can be used again. */
function readToEnd(response: IncomingMessage): void {
  const timer = setTimeout(() => response.destroy(), END_MS_MAX);
  response.on("close", () => clearTimeout(timer)).on("error", () => clearTimeout(timer));
  response.resume();
}

export interface RequestOptions {
  signal?: AbortSignal;
  timeoutMs?: number;
  /** The server computes a prompt for it: it may take as long as a stream's first byte. */
  generates?: boolean;
}

/** Aborts when nothing moves for so long. */
class Stall {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number) {
    this.#timer = setTimeout(() => this.#controller.abort(), ms);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  moved(): void {
    this.#timer.refresh();
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

function baseOf(url: string): URL {
  let base: URL;
  try {
    base = new URL(url);
  } catch (error) {
    throw new Error(`"${url}" is no URL of a server.`, { cause: error });
  }
  if (base.protocol !== "http:" && base.protocol !== "https:") {
    throw new Error(`The server's URL must begin with http:// or https://, not ${base.protocol}`);
  }
  base.pathname = base.pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
  base.search = "";
  base.hash = "";
  return base;
}

function failed(error: unknown): ServerFailure {
  if (error instanceof ServerFailure) return error;
  const code = codeOf(error);
  if (CERTIFICATE.test(code)) {
    const said = `its certificate is not trusted (${code})`;
    return new ServerFailure("refused", said, {
      sentence: `The engine's server: ${said}.`,
      cause: error,
      hint: "--ca",
    });
  }
  const kind = UNREACHABLE.has(code) ? "unreachable" : "broken";
  return new ServerFailure(kind, code === "" ? "the connection broke" : `the connection broke (${code})`, {
    sentence: "The connection to the engine's server broke.",
    cause: error,
  });
}

function codeOf(error: unknown): string {
  // Several addresses of one name: an AggregateError, with the code of the last.
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "";
}

async function readAll(response: IncomingMessage, bytesMax: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response) {
    parts.push(part as Uint8Array);
    bytes += (part as Uint8Array).length;
    if (bytes > bytesMax) {
      response.destroy();
      throw new ServerFailure("broken", `an answer of more than ${bytesMax} bytes`);
    }
  }
  return Buffer.concat(parts).toString();
}

/** No more than so much of it is read. */
async function readBeginning(response: IncomingMessage, bytesMax: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response) {
    parts.push(part as Uint8Array);
    bytes += (part as Uint8Array).length;
    if (bytes > bytesMax) break;
  }
  return Buffer.concat(parts).toString();
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
