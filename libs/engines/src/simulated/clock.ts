/** Time of the simulated engine. A simulator passes its own, virtual one. */
export interface EngineClock {
  /** Resolves after this time, never in the same turn of the event loop. */
  sleepMs(ms: number): Promise<void>;
}

/** Below this a timer is no use; the time is carried over to the next sleep. */
const TIMER_MS_MIN = 1;

/** Sleeps in real time. Timers end late: what one sleep took too long, the next takes less. */
export function realClock(): EngineClock {
  let owedMs = 0;
  return {
    async sleepMs(ms) {
      owedMs += ms;
      const startMs = performance.now();
      if (owedMs < TIMER_MS_MIN) await new Promise<void>((resolve) => setImmediate(resolve));
      else await new Promise<void>((resolve) => setTimeout(resolve, owedMs));
      // Time in which nothing was to be slept is not earned back later.
      owedMs = ms === 0 ? 0 : owedMs - (performance.now() - startMs);
    },
  };
}
