/**
 * Chunks between the inbox and the reader, bounded. It knows what the reader has or will get of the answer, so that the
 * answer on record can be compared with it at the end.
 */
import { type AnswerDelta, type AnswerMessage, ShownAnswer } from "@autellix/protocol";
import type { SubmitEvent } from "./submit.ts";
import type { Chunk } from "./types.ts";

/** Chunks that wait for a reader. Above it they are dropped, and the record's answer comes at the end instead. */
export const EVENTS_WAITING_MAX = 10_000;

export class EventBuffer implements AsyncIterable<SubmitEvent> {
  #waiting: SubmitEvent[] = [];
  /** What all chunks since the last restart say, read or waiting. */
  #shown = new ShownAnswer();
  #dropping = false;
  #ended = false;
  /** Readers that wait for the next. There is one, as a rule; several share the events, each of which one gets. */
  #readers: (() => void)[] = [];

  push(chunk: Chunk): void {
    if (this.#dropping) return;
    if (this.#waiting.length >= EVENTS_WAITING_MAX) {
      this.#dropping = true;
      this.#waiting = [];
      this.restart();
      return;
    }
    const [choice] = chunk.choices;
    this.#add({ delta: choice?.delta ?? {}, logprobs: choice?.logprobs }, chunk);
  }

  /** What was given so far is void. */
  restart(): void {
    this.#shown = new ShownAnswer();
    this.#waiting.push({ kind: "restart" });
    this.#wake();
  }

  /** The whole answer as recorded: adds the tail that is missing, or starts over when what was given differs. */
  settle(message: AnswerMessage, logprobs: unknown): void {
    let rest = this.#shown.restOf(message, logprobs);
    if (!rest) {
      this.restart();
      rest = this.#shown.restOf(message, logprobs) ?? [];
    }
    for (const delta of rest) this.#add(delta);
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
        await new Promise<void>((resolve) => this.#readers.push(resolve));
      }
    }
  }

  #wake(): void {
    for (const resolve of this.#readers.splice(0)) resolve();
  }

  #add(given: AnswerDelta, chunk?: Chunk): void {
    const { delta, logprobs } = given;
    this.#shown.add(given);
    const text = typeof delta.content === "string" ? delta.content : "";
    this.#waiting.push({
      kind: "chunk",
      text,
      delta,
      ...(logprobs === undefined || logprobs === null ? {} : { logprobs }),
      ...(chunk ? { chunk } : {}),
    });
    this.#wake();
  }
}
