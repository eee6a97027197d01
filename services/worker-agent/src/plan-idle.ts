/**
 * Time in which the engine stands idle because of a plan on its way. It begins when nothing can be stepped while the
 * scheduler does not know it yet: an end of ours is unread, or a call is held that could be stepped, had a plan a slot
 * for it. It ends with the plan that brings something to run. A plan that answers and brings nothing says that there was
 * nothing: then no plan was on its way, and what passed does not count.
 *
 * Moving contexts is no idleness (`swapMs`), and neither is fetching what a plan brought.
 */
export class PlanIdle {
  #sinceMs: number | undefined;
  #totalMs = 0;

  /** Cumulative, in ms. */
  get totalMs(): number {
    return this.#totalMs;
  }

  /** At the end of a reaction. @param waits nothing runs, and a plan could change that. */
  observe(nowMs: number, { busy, waits }: { busy: boolean; waits: boolean }): void {
    if (busy || !waits) this.#sinceMs = undefined;
    else this.#sinceMs ??= nowMs;
  }

  /** A plan counts from now on. @param brings something to run. */
  planned(nowMs: number, brings: boolean): void {
    if (this.#sinceMs !== undefined && brings) {
      this.#totalMs += nowMs - this.#sinceMs;
      this.#sinceMs = undefined;
    }
  }
}
