/**
 * The client's side of one streamed call: when the stream opens, how much may lie unsent, when it says that it lives.
 */
import type { CallKey } from "@autellix/protocol";
import type { Emit } from "./events.ts";
import type { Limits } from "./limits.ts";

/** Its `encodeInto` fills a buffer with whole characters and says how many units it took. */
const encoder = new TextEncoder();

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

  texts(texts: readonly string[], atMs: number): void {
    this.#open(atMs);
    for (const text of texts) this.#write(text, atMs);
  }

  /**
   * Sends what of the rest the client has room for.
   * @returns how many UTF-16 units went out; when not all did, the stream is paused.
   */
  rest(text: string, atMs: number): number {
    this.#open(atMs);
    const room = this.#limits.streamBufferBytesMax - this.#bufferedBytes;
    if (Buffer.byteLength(text) <= room) {
      this.#write(text, atMs);
      return text.length;
    }
    this.pausedSinceMs ??= atMs;
    // A small piece might not fill the socket, and then nothing would tell that it drained.
    if (room < this.#limits.streamBufferBytesMax / 2) return 0;
    const { read: units } = encoder.encodeInto(text, new Uint8Array(room));
    this.#write(text.slice(0, units), atMs);
    return units;
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
      if (accepted && atMs - this.#startedMs >= this.#limits.sseHeadersAfterMs) this.#open(atMs);
    } else if (atMs - this.#lastWriteMs >= this.#limits.keepAliveMs) {
      this.#lastWriteMs = atMs;
      this.#emit({ kind: "comment", key: this.#key });
    }
    return false;
  }

  #open(atMs: number): void {
    if (this.opened) return;
    this.opened = true;
    this.#lastWriteMs = atMs;
    this.#emit({ kind: "open", key: this.#key });
  }

  #write(text: string, atMs: number): void {
    if (text === "") return;
    this.#lastWriteMs = atMs;
    this.#emit({ kind: "text", key: this.#key, text });
  }
}
