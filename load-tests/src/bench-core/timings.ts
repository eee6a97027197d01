/** What went into the core and came out of it, and the time inside `apply`: the driver's own time is not in it. */
import type { Command, Input } from "@autellix/core";
import { type Spread, spread } from "../stats.ts";

export interface Counts {
  arrived: number;
  acked: number;
  /** Ended by the scheduler itself: their deadline passed in the queue. */
  closed: number;
  windows: number;
  /** `planDue` inputs, and plans that came of them. */
  planned: number;
  plans: number;
  saved: number;
}

/** Time inside `apply`, by input. ms */
export interface CoreMs {
  /** With the starts and ends of programs between them. */
  arrivals: number;
  reports: number;
  plans: number;
  other: number;
}

export class Timings {
  readonly counts: Counts = { arrived: 0, acked: 0, closed: 0, windows: 0, planned: 0, plans: 0, saved: 0 };
  readonly coreMs: CoreMs = { arrivals: 0, reports: 0, plans: 0, other: 0 };
  /** The longest time in which the core answered to nothing else: one report, one plan, one moment's arrivals. */
  readonly longestMs: CoreMs = { arrivals: 0, reports: 0, plans: 0, other: 0 };
  /** µs of each `planDue`. */
  #planUs: number[] = [];

  /** Feeds inputs, one after the other. @returns the commands of each. */
  apply(core: { apply(input: Input): Command[] }, part: keyof CoreMs, inputs: readonly Input[]): Command[][] {
    const outputs: Command[][] = [];
    const startMs = performance.now();
    for (const input of inputs) outputs.push(core.apply(input));
    const ms = performance.now() - startMs;
    this.#spent(part, ms);
    return outputs;
  }

  plan(core: { apply(input: Input): Command[] }, input: Extract<Input, { kind: "planDue" }>): Command[] {
    const startMs = performance.now();
    const commands = core.apply(input);
    const ms = performance.now() - startMs;
    this.#spent("plans", ms);
    this.counts.planned++;
    this.#planUs.push(ms * 1_000);
    return commands;
  }

  #spent(part: keyof CoreMs, ms: number): void {
    this.coreMs[part] += ms;
    if (ms > this.longestMs[part]) this.longestMs[part] = ms;
  }

  /** µs since the last call of `restart`. */
  planUs(): Spread {
    return spread(this.#planUs);
  }

  /** Forgets times, and counts of the phase; calls that are open stay counted. */
  restart(): void {
    const open = this.counts.arrived - this.counts.acked;
    Object.assign(this.counts, { arrived: open, acked: 0, closed: 0, windows: 0, planned: 0, plans: 0, saved: 0 });
    Object.assign(this.coreMs, { arrivals: 0, reports: 0, plans: 0, other: 0 });
    Object.assign(this.longestMs, { arrivals: 0, reports: 0, plans: 0, other: 0 });
    this.#planUs = [];
  }
}
