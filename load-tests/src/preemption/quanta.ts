/**
 * From an agent's reports: how many steps a call stays in the batch after its quantum was used up. Reports come at the
 * ends of windows; inside one, a call's steps are those whose durations it was charged.
 */
import type { Report } from "@autellix/protocol";

/** A call that used up the quantum of Q1, and left the batch. */
export interface Preempted {
  call: string;
  /** Steps that it was in behind the one in which its quantum was used up. */
  stepsLate: number;
}

interface Followed {
  serviceMs: number;
  /** Engine's steps at the one that used the quantum up. */
  expiredAt: number | undefined;
  /** Last step that it was in. */
  lastStep: number;
  done: boolean;
}

export class Quanta {
  /** Calls that left, in the order in which that was seen. */
  readonly left: Preempted[] = [];
  readonly #quantumMs: number;
  readonly #calls = new Map<string, Followed>();
  #steps = 0;
  #busyMs = 0;

  constructor(quantumMs: number) {
    this.#quantumMs = quantumMs;
  }

  /** Calls that the agent has been given so far. */
  get seenCalls(): number {
    return this.#calls.size;
  }

  /** @param isContended a call of Q1 waits for each slot: who has left Q1 must leave the batch. */
  report({ calls, counters }: Pick<Report, "calls" | "counters">, isContended: boolean): void {
    const steps = counters.steps - this.#steps;
    const busyMs = counters.busyMs - this.#busyMs;
    for (const { call, serviceMs } of calls) {
      const known = this.#calls.get(call) ?? { serviceMs: 0, expiredAt: undefined, lastStep: 0, done: false };
      this.#calls.set(call, known);
      if (steps > 0 && busyMs > 0) this.#follow(call, known, serviceMs, { steps, busyMs, isContended });
    }
    this.#steps = counters.steps;
    this.#busyMs = counters.busyMs;
  }

  #follow(
    call: string,
    known: Followed,
    serviceMs: number,
    { steps, busyMs, isContended }: { steps: number; busyMs: number; isContended: boolean },
  ): void {
    const gainedMs = serviceMs - known.serviceMs;
    const stepsIn = Math.min(steps, Math.round((gainedMs / busyMs) * steps));
    if (known.expiredAt === undefined && serviceMs >= this.#quantumMs) {
      // The steps of a window last about as long as each other; a call that was not in all of them was in the last ones.
      const share = Math.max(0, this.#quantumMs - known.serviceMs) / gainedMs;
      known.expiredAt = this.#steps + steps - stepsIn + Math.ceil(share * stepsIn);
      known.lastStep = this.#steps + steps;
      known.done = !isContended;
    } else if (known.expiredAt !== undefined && !known.done) {
      known.lastStep += stepsIn;
      if (stepsIn < steps) {
        known.done = true;
        this.left.push({ call, stepsLate: known.lastStep - known.expiredAt });
      }
    }
    known.serviceMs = serviceMs;
  }
}
