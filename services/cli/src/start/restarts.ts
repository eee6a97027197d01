/** How long a process that died waits before it is started again: longer each time, short again after a good run. */

const DELAY_MS_MIN = 100;
const DELAY_MS_MAX = 5_000;
/** A process that ran this long was fine; its next death is a new story. */
const GOOD_RUN_MS = 10_000;

export class Restarts {
  #deaths = 0;
  #startedAtMs = 0;

  started(): void {
    this.#startedAtMs = performance.now();
  }

  /** @returns how long to wait, in ms. */
  died(): number {
    if (performance.now() - this.#startedAtMs >= GOOD_RUN_MS) this.#deaths = 0;
    const delayMs = Math.min(DELAY_MS_MIN * 2 ** this.#deaths, DELAY_MS_MAX);
    this.#deaths += 1;
    return delayMs;
  }
}
