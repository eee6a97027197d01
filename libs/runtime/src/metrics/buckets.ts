/** A histogram as plain numbers: machines and adapters count into it, a scrape reads it. */
export class Buckets {
  /** Upper bounds, rising; a value equal to one belongs to it. */
  readonly bounds: readonly number[];
  /** Values by the first bound that holds them; the last entry has those above all bounds. */
  readonly counts: number[];
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  add(value: number): void {
    const { bounds, counts } = this;
    let place = 0;
    while (place < bounds.length && value > (bounds[place] as number)) place++;
    counts[place] = (counts[place] as number) + 1;
    this.sum += value;
  }
}

/** Seconds from what a plan takes to what a program takes: three bounds for each power of ten. */
export const PLAN_BOUNDS_S = [
  0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5,
] as const;
export const CALL_BOUNDS_S = [
  0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 3_600,
] as const;
export const PROGRAM_BOUNDS_S = [0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000] as const;
/** Of one token. */
export const TOKEN_BOUNDS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50] as const;

/** Counts by a few words, such as a status and a code. Words beyond `MAX` are counted as `other`. */
export class Tally {
  /** More words than any of our tables has. */
  static readonly MAX = 128;
  readonly #names: readonly string[];
  readonly #counts = new Map<string, { labels: Record<string, string>; value: number }>();

  /** @param names of the labels, in the order in which `add` gets their words. */
  constructor(...names: readonly string[]) {
    this.#names = names;
  }

  /** Shown as 0 before anything is counted: what appears with its first count has no rate then. */
  known(...words: readonly string[]): this {
    this.#entry(words);
    return this;
  }

  add(...words: readonly string[]): void {
    this.#entry(words).value++;
  }

  #entry(words: readonly string[]): { labels: Record<string, string>; value: number } {
    let key = words.join("\n");
    let entry = this.#counts.get(key);
    if (!entry && this.#counts.size >= Tally.MAX) {
      key = OTHER;
      entry = this.#counts.get(key);
    }
    if (!entry) {
      const labels = Object.fromEntries(this.#names.map((name, i) => [name, key === OTHER ? OTHER : (words[i] ?? "")]));
      entry = { labels, value: 0 };
      this.#counts.set(key, entry);
    }
    return entry;
  }

  /** What a scrape reads. */
  samples(): Iterable<{ labels: Record<string, string>; value: number }> {
    return this.#counts.values();
  }
}

const OTHER = "other";
