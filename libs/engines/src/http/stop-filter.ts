/**
 * Stop sequences over the whole answer, however many streams it came in: a server looks only at what one stream brings,
 * so it misses a sequence that a preemption cut in two.
 */
export class StopFilter {
  readonly #stop: readonly string[];
  /** May be the beginning of a stop sequence. */
  #held = "";

  constructor(stop: readonly string[]) {
    this.#stop = stop;
  }

  /** Whether a sequence ends in this text. */
  finds(text: string): boolean {
    const all = this.#held + text;
    return this.#stop.some((stop) => all.includes(stop));
  }

  /**
   * @param last the answer ends with this text.
   * @returns the text that can be shown, and whether a sequence was found behind it. What depends on the text alone comes
   * out the same however it is cut.
   */
  push(text: string, last = false): { text: string; found: boolean } {
    if (this.#stop.length === 0) return { text, found: false };
    const all = this.#held + text;
    this.#held = "";
    const starts = this.#stop.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    if (starts.length > 0) return { text: all.slice(0, Math.min(...starts)), found: true };
    const held = last ? 0 : Math.max(...this.#stop.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - held);
    return { text: all.slice(0, all.length - held), found: false };
  }
}

/** Length of the longest end of `text` that is a beginning of `stop`, but not all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
