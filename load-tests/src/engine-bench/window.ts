/** Decode throughput of a batch: over the time in which all of its calls generate, and nothing else happens. */

/** Tokens after which a call is past its prompt and its first step. */
const WARM_TOKENS = 4;

export interface Throughput {
  tokensPerS: number;
  /** In the window. */
  tokens: number;
  windowMs: number;
  /** Generated before and after it, too. */
  tokensAll: number;
}

/** The calls never generated all together: an answer ended too early, as sampled answers may. */
export class NoWindow extends Error {
  override readonly name = "NoWindow";
}

export class DecodeWindow {
  readonly #batch: number;
  /** For each call: when it had how many tokens. */
  readonly #calls = new Map<string | number, { atMs: number; tokens: number }[]>();

  constructor(batch: number) {
    this.#batch = batch;
  }

  /** @param tokens that the call has generated so far. */
  add(call: string | number, tokens: number, atMs: number): void {
    const known = this.#calls.get(call);
    if (known) known.push({ atMs, tokens });
    else this.#calls.set(call, [{ atMs, tokens }]);
  }

  /** @throws NoWindow */
  throughput(): Throughput {
    const calls = [...this.#calls.values()];
    const fromMs = Math.max(...calls.map((seen) => seen.find(({ tokens }) => tokens >= WARM_TOKENS)?.atMs ?? Infinity));
    const toMs = Math.min(...calls.map((seen) => seen.at(-1)?.atMs ?? 0));
    if (calls.length !== this.#batch || !(toMs > fromMs))
      throw new NoWindow(`${calls.length} of ${this.#batch} calls generated, and never all together`);
    const at = (seen: { atMs: number; tokens: number }[], ms: number) =>
      seen.findLast(({ atMs }) => atMs <= ms)?.tokens ?? 0;
    const tokens = calls.reduce((sum, seen) => sum + at(seen, toMs) - at(seen, fromMs), 0);
    const windowMs = toMs - fromMs;
    const tokensAll = calls.reduce((sum, seen) => sum + (seen.at(-1)?.tokens ?? 0), 0);
    return { tokensPerS: (1_000 * tokens) / windowMs, tokens, windowMs, tokensAll };
  }
}
