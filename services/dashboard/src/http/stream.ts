/** One browser's stream of events (SSE). It tells the hub when the browser does not keep up. */
import type { ServerResponse } from "node:http";
import type { PoolEvent } from "../shared/wire.ts";

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  connection: "keep-alive",
  // Proxies that gather answers would turn a live page into a slide show.
  "x-accel-buffering": "no",
  "x-content-type-options": "nosniff",
} as const;
/** Told to the browser: when to come again after a loss. */
const RETRY_MS = 1_000;
const REFUSED_RETRY_MS = 10_000;
/** A browser that has read nothing for so long is gone. */
const STALLED_MS_MAX = 60_000;

export class BrowserStream {
  private readonly response: ServerResponse;
  private readonly tell: (what: "blocked" | "drained" | "closed") => void;
  private stalled: NodeJS.Timeout | undefined;

  constructor(response: ServerResponse, tell: (what: "blocked" | "drained" | "closed") => void) {
    this.response = response;
    this.tell = tell;
    response.writeHead(200, HEADERS);
    response.write(`retry: ${RETRY_MS}\n\n`);
    response.on("drain", () => {
      clearTimeout(this.stalled);
      tell("drained");
    });
    response.on("close", () => {
      clearTimeout(this.stalled);
      tell("closed");
    });
    // The connection may break at any write; `close` says so.
    response.on("error", () => {});
  }

  /** @param bytes of `encodeEvent`. */
  send(bytes: Buffer): void {
    if (this.response.destroyed || this.response.writableEnded) return;
    if (this.response.write(bytes)) return;
    this.tell("blocked");
    clearTimeout(this.stalled);
    this.stalled = setTimeout(() => this.response.destroy(), STALLED_MS_MAX);
    this.stalled.unref();
  }

  /** Too many pages are open: the browser is told so, and comes again later. */
  refuse(): void {
    this.response.end(`retry: ${REFUSED_RETRY_MS}\nevent: refused\ndata: {}\n\n`);
  }

  end(): void {
    this.response.end();
  }
}

/** JSON has no line breaks, so an event is one line of data. */
export function encodeEvent(event: PoolEvent): Buffer {
  return Buffer.from(`data: ${JSON.stringify(event)}\n\n`, "utf8");
}
