/** Threads of a program whose last end is kept. */
const THREADS_MAX = 64;

/** When the last call of each named thread of a program ended, as far as this leader saw it; the ones that ended last. */
export class ThreadEnds {
  private readonly ends = new Map<string, number>();

  note(thread: string | undefined, at: number): void {
    if (thread === undefined) return;
    this.ends.delete(thread);
    this.ends.set(thread, at);
    if (this.ends.size <= THREADS_MAX) return;
    for (const oldest of this.ends.keys()) {
      this.ends.delete(oldest);
      return;
    }
  }

  of(thread: string | undefined): number | undefined {
    return thread === undefined ? undefined : this.ends.get(thread);
  }
}
