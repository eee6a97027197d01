/** When a call whose request failed is tried again, and when no more. */
import { ServerFailure } from "./failure.ts";
import type { HttpLimits } from "./options.ts";

/** Failures of one call in a row, without a token between them. */
export class Retries {
  readonly #limits: HttpLimits;
  #failures = 0;
  #tries = 0;

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  /** Tokens have come since. */
  moved(): void {
    this.#failures = 0;
    this.#tries = 0;
  }

  /** @returns the pause before the next try, in ms. @throws the failure when that was the last one. */
  pauseMs(failure: ServerFailure, crashed: boolean): number {
    const { triesMax, retryMsMin, retryMsMax } = this.#limits;
    // A server that is down is waited for; crashes have their own count.
    if (failure.kind !== "unreachable" && !crashed && ++this.#tries >= triesMax) throw failure;
    return Math.min(retryMsMax, retryMsMin * 2 ** this.#failures++);
  }
}

/** The server went down under a call too often. */
export function crashedTooOften(times: number, cause: ServerFailure): ServerFailure {
  return new ServerFailure("refused", `the server went down ${times} times under it`, {
    sentence: `The engine's server went down ${times} times while it worked on this call, which is given up.`,
    cause,
  });
}
