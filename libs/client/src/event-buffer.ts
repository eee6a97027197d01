/**
 * Chunks between the inbox and the reader, bounded. It knows the text that the reader has or will get, so that the
 * answer on record can be compared with it at the end.
 */
import type { SubmitEvent } from "./submit.ts";
import type { Chunk } from "./types.ts";

/** Chunks that wait for a reader. Above it they are dropped, and the record's text comes at the end instead. */
export const EVENTS_WAITING_MAX = 10_000;

export class EventBuffer implements AsyncIterable<SubmitEvent> {
  #waiting: SubmitEvent[] = [];
  /** The text of all chunks since the last restart, read or waiting. */
  #text = "";
  #dropping = false;
  #ended = false;
  #wake = () => {};

  push(chunk: Chunk): void {
    if (this.#dropping) return;
    if (this.#waiting.length >= EVENTS_WAITING_MAX) {
      this.#dropping = true;
      this.#waiting = [];
      this.restart();
      return;
    }
    const text = chunk.choices[0]?.delta?.content ?? "";
    this.#text += text;
    this.#waiting.push({ kind: "chunk", text, chunk });
    this.#wake();
  }

  /** What was given so far is void. */
  restart(): void {
    this.#text = "";
    this.#waiting.push({ kind: "restart" });
    this.#wake();
  }

  /** The whole answer as recorded: adds the tail that is missing, or starts over when the text differs. */
  settle(whole: string): void {
    if (!whole.startsWith(this.#text)) this.restart();
    const missing = whole.slice(this.#text.length);
    if (missing === "") return;
    this.#text = whole;
    this.#waiting.push({ kind: "chunk", text: missing });
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SubmitEvent, void, undefined> {
    for (;;) {
      const next = this.#waiting.shift();
      if (next) {
        yield next;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
