/**
 * How the answer of one call is written: whole, as server-sent events, or as an error. It decides nothing.
 */
import type { ServerResponse } from "node:http";
import {
  type AnswerDelta,
  type ChatCompletion,
  completionId,
  type Extension,
  type FinishReason,
  type Usage,
} from "@autellix/protocol";
import type { Failure } from "../events.ts";
import { renderError } from "./errors.ts";

export const CALL_ID_HEADER = "x-autellix-call-id";

export interface ResponseFacts {
  callId: string;
  model: string;
  /** Unix seconds. */
  createdS: number;
  includeUsage: boolean;
  /** Time that the client has to take the last bytes. */
  slowClientMsMax: number;
}

export interface ResponseEvents {
  /** Unsent bytes: told when they are above the socket's mark and when they have drained. */
  buffered(bytes: number): void;
  /** The connection closed before the answer was complete. */
  gone(): void;
}

export class CallResponse {
  readonly #raw: ServerResponse;
  readonly #facts: ResponseFacts;
  readonly #events: ResponseEvents;
  /** Everything of a text chunk before and after the text: most of the cost of a token is its JSON. */
  readonly #before: string;
  readonly #after: string;
  #hasRole = false;
  #ended = false;

  constructor(raw: ServerResponse, facts: ResponseFacts, events: ResponseEvents) {
    this.#raw = raw;
    this.#facts = facts;
    this.#events = events;
    const { includeUsage } = facts;
    this.#before = `data: {${this.#identity()},"choices":[{"index":0,"delta":{"content":`;
    this.#after = `},"logprobs":null,"finish_reason":null}]${includeUsage ? ',"usage":null' : ""}}\n\n`;
    raw.on("drain", () => events.buffered(raw.writableLength));
    raw.on("close", () => this.#closed());
    raw.on("error", () => raw.destroy()); // `close` follows and tells it
    if (raw.destroyed) queueMicrotask(() => this.#closed());
  }

  /** The head alone; it goes out with what is written next. */
  open(): void {
    this.#raw.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      // Proxies of the nginx kind hold a stream back without it.
      "x-accel-buffering": "no",
      [CALL_ID_HEADER]: this.#facts.callId,
    });
  }

  text(text: string): void {
    this.#role();
    this.#write(this.#before + JSON.stringify(text) + this.#after);
  }

  /** As OpenAI's, the first chunk of an answer that does not begin with text has no content. */
  delta({ delta, logprobs }: AnswerDelta): void {
    const role = this.#hasRole ? {} : { role: "assistant", content: null };
    this.#hasRole = true;
    this.#chunk([choice({ ...role, ...delta }, null, logprobs)], null);
  }

  comment(): void {
    this.#write(": waiting\n\n");
  }

  finish(reason: FinishReason, usage: Usage, extension: Extension): void {
    this.#role();
    this.#chunk([choice({}, reason)], null, extension);
    if (this.#facts.includeUsage) this.#chunk([], usage);
    this.#end("data: [DONE]\n\n");
  }

  whole(completion: ChatCompletion): void {
    const { callId, model, createdS } = this.#facts;
    const body = JSON.stringify({ ...completion, id: completionId(callId), model, created: createdS });
    this.#head(200, { "content-type": "application/json; charset=utf-8" }, body);
    this.#end(body);
  }

  fail(failure: Failure, cut: boolean): void {
    if (cut) {
      this.#ended = true;
      this.#raw.destroy();
      return;
    }
    const { status, headers, body } = renderError(failure);
    if (this.#raw.headersSent) {
      this.#end(`data: ${body}\n\ndata: [DONE]\n\n`);
      return;
    }
    this.#head(status, headers, body);
    this.#end(body);
  }

  #head(status: number, headers: Record<string, string>, body: string): void {
    this.#raw.writeHead(status, {
      ...headers,
      [CALL_ID_HEADER]: this.#facts.callId,
      "content-length": String(Buffer.byteLength(body)),
    });
  }

  #role(): void {
    if (this.#hasRole) return;
    this.#hasRole = true;
    this.#chunk([choice({ role: "assistant", content: "" }, null)], null);
  }

  #identity(): string {
    const { callId, createdS, model } = this.#facts;
    const head = { id: completionId(callId), object: "chat.completion.chunk", created: createdS, model };
    return JSON.stringify(head).slice(1, -1);
  }

  #chunk(choices: ReturnType<typeof choice>[], usage: Usage | null, extension?: Extension): void {
    const rest = {
      choices,
      ...(this.#facts.includeUsage ? { usage } : {}),
      ...(extension ? { autellix: extension } : {}),
    };
    this.#write(`data: {${this.#identity()},${JSON.stringify(rest).slice(1)}\n\n`);
  }

  #write(data: string): void {
    if (this.#ended || this.#raw.destroyed) return;
    if (!this.#raw.write(data)) this.#events.buffered(this.#raw.writableLength);
  }

  #end(data: string): void {
    this.#ended = true;
    if (this.#raw.destroyed) return;
    const timer = setTimeout(() => this.#raw.destroy(), this.#facts.slowClientMsMax);
    this.#raw.on("close", () => clearTimeout(timer));
    this.#raw.on("finish", () => clearTimeout(timer));
    this.#raw.end(data);
  }

  #closed(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.gone();
  }
}

function choice(delta: Record<string, unknown>, reason: FinishReason | null, logprobs?: unknown) {
  return { index: 0, delta, logprobs: logprobs ?? null, finish_reason: reason };
}
