/**
 * What the person at the terminal sees: lines that stay, and progress. On a terminal progress is one line that is
 * rewritten; elsewhere it is a plain line now and then.
 */

/** A plain progress line of one source is written at most this often. */
const PLAIN_MS_MIN = 5_000;

export interface Output {
  write(text: string): void;
  isTty: boolean;
  columns: number;
}

export class Console {
  readonly #out: Output;
  readonly #shown = new Map<string, { text: string; atMs: number }>();
  #transient = false;

  constructor(out: Output) {
    this.#out = out;
  }

  /** A line that stays. */
  line(text: string): void {
    this.#clear();
    this.#out.write(`${text}\n`);
  }

  /** What `source` is doing now; an unchanged text is not repeated. */
  progress(source: string, text: string): void {
    const shown = this.#shown.get(source);
    if (shown?.text === text) return;
    const nowMs = performance.now();
    const whole = `${source}: ${text}`;
    if (this.#out.isTty) {
      this.#clear();
      this.#out.write(whole.slice(0, Math.max(20, this.#out.columns - 1)));
      this.#transient = true;
    } else if (shown === undefined || nowMs - shown.atMs >= PLAIN_MS_MIN) {
      this.#out.write(`${whole}\n`);
    } else {
      return;
    }
    this.#shown.set(source, { text, atMs: nowMs });
  }

  /** Must be called before others write to the same terminal. */
  #clear(): void {
    if (this.#transient) this.#out.write("\r\u001b[2K");
    this.#transient = false;
  }
}

/** `12.3 of 98.4 MB (12 %)`. */
export function bytesText(doneBytes: number, totalBytes?: number): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  if (totalBytes === undefined) return doneBytes === 0 ? "…" : `${megabytes(doneBytes)} MB`;
  return `${megabytes(doneBytes)} of ${megabytes(totalBytes)} MB (${Math.floor((100 * doneBytes) / totalBytes)} %)`;
}
