/** Named times at which the machine has something to do. It has no clock: events bring the time. */
export class Timers {
  readonly #due = new Map<string, { atMs: number; action: () => void }>();

  /** Replaces an earlier timer of this name. */
  set(name: string, atMs: number, action: () => void): void {
    this.#due.set(name, { atMs, action });
  }

  clear(name: string): void {
    this.#due.delete(name);
  }

  has(name: string): boolean {
    return this.#due.has(name);
  }

  /** Undefined when nothing is to be done. */
  nextMs(): number | undefined {
    let next: number | undefined;
    for (const { atMs } of this.#due.values()) if (next === undefined || atMs < next) next = atMs;
    return next;
  }

  /** Runs what is due, in order of time; each once. */
  run(nowMs: number): void {
    const due = [...this.#due].filter(([, timer]) => timer.atMs <= nowMs).sort((a, b) => a[1].atMs - b[1].atMs);
    for (const [name, timer] of due) {
      // An earlier action may have cleared or moved it.
      if (this.#due.get(name) !== timer) continue;
      this.#due.delete(name);
      timer.action();
    }
  }
}
