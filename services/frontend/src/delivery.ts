/**
 * The client's side of one streamed call: when the stream opens, how much may lie unsent, when it says that it lives.
 */
import type { CallKey } from "@autellix/protocol";
import type { Emit } from "./events.ts";
import type { Limits } from "./limits.ts";
import type { Showing } from "./stream.ts";

export class Delivery {
  opened = false;
  /** Set while the client has more unsent bytes than it may: tokens are dropped meanwhile. */
  pausedSinceMs: number | undefined;
  #bufferedBytes = 0;
  #lastWriteMs: number;
  readonly #startedMs: number;
  readonly #key: CallKey;
  readonly #limits: Limits;
  readonly #emit: Emit;

  constructor(key: CallKey, startedMs: number, limits: Limits, emit: Emit) {
    this.#key = key;
    this.#startedMs = startedMs;
    this.#lastWriteMs = startedMs;
    this.#limits = limits;
    this.#emit = emit;
  }

  show(showings: readonly Showing[], atMs: number): void {
    for (const showing of showings) this.#write(showing, atMs);
  }

  /**
   * Sends what of the rest the client has room for.
   * @param rest in small pieces.
   * @returns how many of them went out; when not all did, the stream is paused.
   */
  rest(rest: readonly Showing[], atMs: number): number {
    this.#open(atMs);
    let room = this.#limits.streamBufferBytesMax - this.#bufferedBytes;
    for (const [index, showing] of rest.entries()) {
      room -= bytesOf(showing);
      // What is larger than all the room there ever is goes out when nothing else waits.
      if (room < 0 && (index > 0 || this.#bufferedBytes > 0)) {
        this.pausedSinceMs ??= atMs;
        return index;
      }
      this.#write(showing, atMs);
    }
    return rest.length;
  }

  /** @returns true when the stream may go on. */
  buffered(bytes: number, atMs: number): boolean {
    this.#bufferedBytes = bytes;
    if (this.pausedSinceMs === undefined) {
      if (bytes > this.#limits.streamBufferBytesMax) this.pausedSinceMs = atMs;
      return false;
    }
    if (bytes > this.#limits.streamBufferBytesMax / 4) return false;
    this.pausedSinceMs = undefined;
    return true;
  }

  /** @returns true when the client has been too slow for too long. */
  tick(atMs: number, accepted: boolean): boolean {
    if (this.pausedSinceMs !== undefined) return atMs - this.pausedSinceMs >= this.#limits.slowClientMsMax;
    if (!this.opened) {
      if (accepted && atMs - this.#startedMs >= this.#limits.sseHeadersAfterMs) {
        this.#open(atMs);
        this.#comment(atMs);
      }
    } else if (atMs - this.#lastWriteMs >= this.#limits.keepAliveMs) {
      this.#comment(atMs);
    }
    return false;
  }

  #comment(atMs: number): void {
    this.#lastWriteMs = atMs;
    this.#emit({ kind: "comment", key: this.#key });
  }

  #open(atMs: number): void {
    if (this.opened) return;
    this.opened = true;
    this.#lastWriteMs = atMs;
    this.#emit({ kind: "open", key: this.#key });
  }

  #write(showing: Showing, atMs: number): void {
    if (showing === "") return;
    this.#open(atMs);
    this.#lastWriteMs = atMs;
    if (typeof showing === "string") this.#emit({ kind: "text", key: this.#key, text: showing });
    else this.#emit({ kind: "delta", key: this.#key, delta: showing });
  }
}

function bytesOf(showing: Showing): number {
  return Buffer.byteLength(typeof showing === "string" ? showing : JSON.stringify(showing));
}
