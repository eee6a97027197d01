import type { Millis } from "./ids.ts";

/** Upper bounds of what is told apart, in seconds. */
const WAIT_BOUNDS_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_600] as const;

/** How long calls of one level had waited when they began: a histogram in plain numbers, for people. No decision reads it. */
export class WaitTally {
  readonly bounds: readonly number[] = WAIT_BOUNDS_S;
  /** Calls by the first bound that holds them; the last entry has those above all bounds. */
  readonly counts: number[] = new Array<number>(WAIT_BOUNDS_S.length + 1).fill(0);
  /** Seconds. */
  sum = 0;

  add(waitedMs: Millis): void {
    const seconds = waitedMs / 1_000;
    let place = 0;
    while (place < WAIT_BOUNDS_S.length && seconds > (WAIT_BOUNDS_S[place] as number)) place++;
    this.counts[place] = (this.counts[place] as number) + 1;
    this.sum += seconds;
  }
}
