/**
 * Server-sent events, as far as OpenAI endpoints use them: `data:` fields, one event per blank line.
 */

/** A server that sends no end of event for so long is broken. */
const EVENT_CHARS_MAX = 8 * 1024 * 1024;

export class SseReader {
  readonly #decoder = new TextDecoder();
  #rest = "";

  /** @returns the data of the events that are whole now. @throws RangeError when one grows without end. */
  read(bytes: Uint8Array): string[] {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    const events = this.#rest.split(/\r?\n\r?\n/);
    this.#rest = events.pop() ?? "";
    if (this.#rest.length > EVENT_CHARS_MAX) throw new RangeError("an event without end");
    return events.flatMap((event) => {
      const data = event
        .split(/\r?\n/)
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice("data:".length).trimStart());
      return data.length === 0 ? [] : [data.join("\n")];
    });
  }
}
