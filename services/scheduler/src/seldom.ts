/** What is done for each name at most once in a while. */
export class Seldom {
  private readonly everyMs: number;
  private readonly doneAt = new Map<string, number>();

  constructor(everyMs: number) {
    this.everyMs = everyMs;
  }

  /** @returns false while it was done less than `everyMs` ago; else it counts as done now. */
  mayDo(name: string, at: number): boolean {
    const last = this.doneAt.get(name);
    if (last !== undefined && at - last < this.everyMs) return false;
    this.doneAt.set(name, at);
    // Names come and go: those that may be done again need no memory.
    for (const [old, doneAt] of this.doneAt) if (at - doneAt >= this.everyMs) this.doneAt.delete(old);
    return true;
  }
}
