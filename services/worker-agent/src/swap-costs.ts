/**
 * Swap or recompute, by what this engine was measured to need for each. Learned while it runs, from the engine's own
 * times: the same measurements give the same choices.
 *
 *   moving     = tokens · bytes per token · (ms per byte out + ms per byte in)
 *   recomputing = tokens · ms per prefilled token
 *
 * Each rate is a sum of the recent measurements over a sum, older ones counting for less: so a long transfer says more
 * about the bandwidth than a short one.
 */

/** What a measurement counts for after each further one: half after about 14. */
const DECAY = 0.95;
/** The dearer way is left only when it is dearer by this factor: two that are about equal would flap. */
const HYSTERESIS = 1.25;
/** While contexts are recomputed, so many of them are, then one is moved: the measured bandwidth may be of bad times. */
export const MOVE_AGAIN_AFTER = 32;

class Rate {
  #sum = 0;
  #over = 0;

  add(amount: number, over: number): void {
    this.#sum = this.#sum * DECAY + amount;
    this.#over = this.#over * DECAY + over;
  }

  /** Undefined before the first measurement. */
  get value(): number | undefined {
    return this.#over > 0 ? this.#sum / this.#over : undefined;
  }
}

export interface MeasuredStep {
  durationMs: number;
  prefilledTokens: number;
  /** Calls that it advanced otherwise. */
  decodedCalls: number;
}

export class SwapCosts {
  readonly #bytesPerToken = new Rate();
  readonly #outMsPerByte = new Rate();
  readonly #inMsPerByte = new Rate();
  readonly #prefillMsPerToken = new Rate();
  /** Of steps that only decode: what a mixed one takes without its prompt tokens. */
  readonly #decodeMsPerStep = new Rate();
  #moves = true;
  #recomputed = 0;

  transferred(
    direction: "out" | "in",
    { tokens, bytes, durationMs }: { tokens: number; bytes: number; durationMs: number },
  ): void {
    if (tokens <= 0 || bytes <= 0) return;
    this.#bytesPerToken.add(bytes, tokens);
    (direction === "out" ? this.#outMsPerByte : this.#inMsPerByte).add(durationMs, bytes);
  }

  stepped({ durationMs, prefilledTokens, decodedCalls }: MeasuredStep): void {
    if (prefilledTokens === 0) {
      if (decodedCalls > 0) this.#decodeMsPerStep.add(durationMs, 1);
      return;
    }
    const decodeMs = decodedCalls > 0 ? (this.#decodeMsPerStep.value ?? 0) : 0;
    this.#prefillMsPerToken.add(Math.max(0, durationMs - decodeMs), prefilledTokens);
  }

  /**
   * Out and back. Undefined before the first transfer; before the first one back, that takes as long as the one out.
   * @returns ms
   */
  moveMs(tokens: number): number | undefined {
    const { value: bytes } = this.#bytesPerToken;
    const out = this.#outMsPerByte.value ?? this.#inMsPerByte.value;
    if (bytes === undefined || out === undefined) return undefined;
    return tokens * bytes * (out + (this.#inMsPerByte.value ?? out));
  }

  /** @returns ms; undefined before the first prefill. */
  recomputeMs(tokens: number): number | undefined {
    const { value: perToken } = this.#prefillMsPerToken;
    return perToken === undefined ? undefined : tokens * perToken;
  }

  /** Asked once for each context that has to leave. Before both ways were measured, it is moved: that measures one. */
  isWorthMoving(tokens: number): boolean {
    const moveMs = this.moveMs(tokens);
    const recomputeMs = this.recomputeMs(tokens);
    if (moveMs === undefined || recomputeMs === undefined) return true;
    if (this.#moves && moveMs > recomputeMs * HYSTERESIS) this.#moves = false;
    else if (!this.#moves && moveMs * HYSTERESIS < recomputeMs) this.#moves = true;
    if (this.#moves) {
      this.#recomputed = 0;
      return true;
    }
    this.#recomputed = (this.#recomputed + 1) % (MOVE_AGAIN_AFTER + 1);
    return this.#recomputed === 0;
  }
}
