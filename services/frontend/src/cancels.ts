/**
 * Cancels in flight: each is repeated, to a new leader too, until a terminal outcome is known (design §2, Cancel).
 */
import { type CallAddress, type CallKey, type ControlAnswer, callKey } from "@autellix/protocol";
import type { Emit, OutcomeRead } from "./events.ts";
import { CANCEL_PAUSE_MS, type Limits } from "./limits.ts";

interface Cancel {
  address: CallAddress;
  pauseMs: number;
  nextAtMs: number;
  untilMs: number;
}

export class Cancels {
  readonly #open = new Map<CallKey, Cancel>();
  readonly #limits: Limits;
  readonly #emit: Emit;

  constructor(limits: Limits, emit: Emit) {
    this.#limits = limits;
    this.#emit = emit;
  }

  get size(): number {
    return this.#open.size;
  }

  /** The first cancel goes out at once. */
  start(address: CallAddress, atMs: number): void {
    const key = callKey(address.tenant, address.callId);
    if (this.#open.has(key)) return;
    if (this.#open.size >= this.#limits.cancelsMax) {
      // Sent once; should it be lost, the call runs to its end or its deadline for nobody.
      this.#emit({ kind: "warn", key, message: "too many open cancels: this one is not repeated" });
    } else {
      const untilMs = atMs + this.#limits.cancelMsMax;
      this.#open.set(key, { address, pauseMs: CANCEL_PAUSE_MS.first, nextAtMs: atMs + CANCEL_PAUSE_MS.first, untilMs });
    }
    this.#emit({ kind: "cancel", key, address });
  }

  /** The call has ended, or was never stored. */
  stop(key: CallKey): void {
    this.#open.delete(key);
  }

  answered(key: CallKey, answer: ControlAnswer | undefined): void {
    const cancel = this.#open.get(key);
    if (!cancel || !answer?.ok) return; // no answer decides nothing: repeated when due
    if (answer.call === "ended") this.stop(key);
    // Not known (any more): it ended long ago, or this cancel has overtaken it. The record tells.
    else if (answer.call === "unknown")
      this.#emit({ kind: "readOutcome", key, address: cancel.address, purpose: "cancel" });
  }

  outcomeRead(key: CallKey, read: OutcomeRead): void {
    if (read.kind === "outcome" || read.kind === "broken") this.stop(key);
  }

  tick(atMs: number): void {
    for (const [key, cancel] of this.#open) {
      if (atMs >= cancel.untilMs) {
        this.stop(key);
        this.#emit({ kind: "warn", key, message: "the cancel was not confirmed in time" });
      } else if (atMs >= cancel.nextAtMs) {
        cancel.pauseMs = Math.min(cancel.pauseMs * 2, CANCEL_PAUSE_MS.max);
        cancel.nextAtMs = atMs + cancel.pauseMs;
        this.#emit({ kind: "cancel", key, address: cancel.address });
      }
    }
  }
}
