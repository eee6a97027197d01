/**
 * The leader's clock, as far as an agent can tell: a plan says when it was made, and the quickest of the last ones says
 * most. So all spans of a call are on one clock, the stream's, whatever the clocks of the machines are.
 */

/** Plans of which the quickest counts; twice as many are looked at, so that the mapping follows clocks that drift. */
const PLANS_MAX = 64;

export class LeaderClock {
  /** Least of (own time − leader's time) in the last PLANS_MAX plans, and in those since. */
  #before = Number.POSITIVE_INFINITY;
  #leastMs = Number.POSITIVE_INFINITY;
  #plans = 0;

  heard(leaderAtMs: number, ownAtMs: number): void {
    this.#leastMs = Math.min(this.#leastMs, ownAtMs - leaderAtMs);
    if (++this.#plans < PLANS_MAX) return;
    this.#plans = 0;
    this.#before = this.#leastMs;
    this.#leastMs = Number.POSITIVE_INFINITY;
  }

  /** Own time − leader's time; 0 before the first plan. */
  get offsetMs(): number {
    const offset = Math.min(this.#before, this.#leastMs);
    return Number.isFinite(offset) ? offset : 0;
  }
}
