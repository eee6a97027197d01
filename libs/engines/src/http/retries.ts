/** When a call whose request failed is tried again, and when no more. */
import { AutellixError } from "@autellix/protocol";
import { ServerFailure } from "./failure.ts";
import type { HttpLimits } from "./options.ts";

/** Failures of one call in a row, without a token between them. */
export class Retries {
  readonly #limits: HttpLimits;
  #failures = 0;
  #tries = 0;
  #stalls = 0;

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  /** Tokens have come since. */
  moved(): void {
    this.#failures = 0;
    this.#tries = 0;
    this.#stalls = 0;
  }

  /** @returns the pause before the next try, in ms. @throws the failure when that was the last one. */
  pauseMs(failure: ServerFailure, crashed: boolean): number {
    const { triesMax, stallTriesMax, retryMsMin, retryMsMax } = this.#limits;
    // A server that is down, or says when to come again, is waited for; crashes have their own count.
    const waits = failure.kind === "unreachable" || (failure.status === 429 && failure.retryAfterMs !== undefined);
    if (!waits && !crashed) {
      this.#tries++;
      if (failure.stalled) this.#stalls++;
      if (this.#tries >= triesMax || this.#stalls >= stallTriesMax) throw failure;
    }
    return Math.min(retryMsMax, retryMsMin * 2 ** this.#failures++);
  }
}

/** The stream is lost, and no other can take its place. */
export function gone(cause: ServerFailure): AutellixError {
  const message = `${cause.message} What the answer has so far cannot be gone on with exactly.`;
  return new AutellixError("engine_error", message, { cause });
}

/** The server went down under a call too often. */
export function crashedTooOften(times: number, cause?: ServerFailure): ServerFailure {
  return new ServerFailure("refused", `the server went down ${times} times under it`, {
    sentence: `The engine's server went down ${times} times while it worked on this call, which is given up.`,
    cause,
  });
}
