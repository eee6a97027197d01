/**
 * Seeded randomness of the laboratory. A stream is a key and a counter: number n of a stream is a hash of both
 * (Threefry-2x32, 20 rounds: 32-bit additions, rotations and exclusive-ors only, so the same everywhere). Streams are
 * split by name, not by drawing: what one part draws never shifts what another part gets. That makes common random
 * numbers simple: a changed think time leaves all token counts as they were.
 */

/** Words of a key, and of a block of output. */
type Words = readonly [number, number];

const PARITY = 0x1bd11bda;
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const GROUPS = 5;

/** Threefry-2x32-20 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC '11). All words are unsigned. */
export function threefry(key: Words, counter: Words): [number, number] {
  const keys = [key[0] | 0, key[1] | 0, (key[0] ^ key[1] ^ PARITY) | 0] as const;
  let x = (counter[0] + keys[0]) | 0;
  let y = (counter[1] + keys[1]) | 0;
  for (let group = 0; group < GROUPS; group++) {
    for (let round = 0; round < 4; round++) {
      const bits = ROTATIONS[((group & 1) * 4 + round) as 0];
      x = (x + y) | 0;
      y = ((y << bits) | (y >>> (32 - bits))) ^ x;
    }
    x = (x + keys[((group + 1) % 3) as 0]) | 0;
    y = (y + keys[((group + 2) % 3) as 0] + group + 1) | 0;
  }
  return [x >>> 0, y >>> 0];
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
const WORD = 2 ** 32;
/** Counters above are for splitting, those below for drawing: the two never meet. */
const SPLIT_BIT = 0x80000000;
const TRIES_MAX = 1_000;

export class Random {
  readonly #key: Words;
  #drawn = 0;

  private constructor(key: Words) {
    this.#key = key;
  }

  /** @param seed a whole number ≥ 0 and ≤ 2^53. @throws RangeError for another. */
  static from(seed: number): Random {
    if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`a seed is a whole number ≥ 0, not ${seed}`);
    return new Random(threefry([seed >>> 0, Math.floor(seed / WORD)], [0, 0]));
  }

  /** A stream of its own. The same labels give the same stream, however much was drawn before. */
  split(...labels: readonly (string | number)[]): Random {
    let key = this.#key;
    for (const label of labels) {
      const words = wordsOf(label);
      key = threefry(threefry(key, [words[0], SPLIT_BIT]), [words[1], SPLIT_BIT | (typeof label === "string" ? 1 : 2)]);
    }
    return new Random(key);
  }

  /** Uniform in [0, 1), 53 bits. */
  next(): number {
    const drawn = this.#drawn++;
    const [x, y] = threefry(this.#key, [drawn >>> 0, Math.floor(drawn / WORD)]);
    return ((x >>> 5) * 0x4000000 + (y >>> 6)) / 2 ** 53;
  }

  /** Uniform whole number in [min, max]. */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** Exponential: gaps of a Poisson process. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  /** Mean 0, standard deviation 1 (Box–Muller; always two numbers). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
    return radius * Math.cos(2 * Math.PI * this.next());
  }

  /** Normal with these parameters, drawn again while it is below 0; so its mean is above `mean` unless that is ≫ 0. */
  normalAbove0(mean: number, deviation: number): number {
    for (let i = 0; i < TRIES_MAX; i++) {
      const value = mean + deviation * this.normal();
      if (value >= 0) return value;
    }
    throw new RangeError(`a normal of ${mean} ± ${deviation} is practically never above 0`);
  }

  /** Log-normal by its mean and coefficient of variation (0: always the mean). */
  logNormal(mean: number, variation: number): number {
    const variance = Math.log(1 + variation * variation);
    return mean * Math.exp(Math.sqrt(variance) * this.normal() - variance / 2);
  }

  /**
   * Exponential with one of two means, each of which gives half of the total (balanced means); the coefficient of
   * variation must be ≥ 1, and 1 is the plain exponential. Gaps of bursty arrivals.
   */
  hyperexponential(mean: number, variation: number): number {
    if (!(variation >= 1)) throw new RangeError(`a hyperexponential varies by at least 1, not ${variation}`);
    const squared = variation * variation;
    const likelier = (1 + Math.sqrt((squared - 1) / (squared + 1))) / 2;
    const branch = this.chance(likelier) ? likelier : 1 - likelier;
    return this.exponential(mean / (2 * branch));
  }

  /** One of the items, all equally likely. @throws RangeError for none. */
  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.int(0, items.length - 1)];
    if (item === undefined) throw new RangeError("nothing to pick from");
    return item;
  }
}

function wordsOf(label: string | number): Words {
  if (typeof label === "number") {
    if (!Number.isSafeInteger(label) || label < 0) throw new RangeError(`a label is a whole number ≥ 0, not ${label}`);
    return [label >>> 0, Math.floor(label / WORD)];
  }
  let [forward, backward] = [FNV_OFFSET, FNV_OFFSET];
  for (let i = 0; i < label.length; i++) {
    forward = Math.imul(forward ^ label.charCodeAt(i), FNV_PRIME);
    backward = Math.imul(backward ^ label.charCodeAt(label.length - 1 - i), FNV_PRIME);
  }
  return [forward >>> 0, backward >>> 0];
}

/** A distribution given by pieces: what it weighs from one boundary to the next. Drawn by inversion, one number each. */
class Cumulative {
  readonly #ends: number[] = [];

  constructor(weights: readonly number[]) {
    let sum = 0;
    for (const weight of weights) {
      if (!(weight >= 0)) throw new RangeError(`a weight is ≥ 0, not ${weight}`);
      sum += weight;
      this.#ends.push(sum);
    }
    if (!(sum > 0) || sum === Number.POSITIVE_INFINITY) throw new RangeError("the weights must have a sum above 0");
    for (let i = 0; i < this.#ends.length; i++) this.#ends[i] = (this.#ends[i] ?? 0) / sum;
  }

  /** @returns the piece that holds the quantile, and where in it, in [0, 1). */
  at(quantile: number): { piece: number; inside: number } {
    let [low, high] = [0, this.#ends.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (quantile < (this.#ends[middle] ?? 1)) high = middle;
      else low = middle + 1;
    }
    const start = this.#ends[low - 1] ?? 0;
    return { piece: low, inside: (quantile - start) / ((this.#ends[low] ?? 1) - start) };
  }
}

/** Whole numbers with their probabilities (which are normalised: figures read from a plot do not sum to 1). */
export class Pmf {
  readonly values: readonly number[];
  readonly #cumulative: Cumulative;

  /** @throws RangeError when a value is no number, a weight is negative, or nothing has weight. */
  constructor(weights: Readonly<Record<number, number>>) {
    const entries = Object.entries(weights)
      .map(([value, weight]) => [Number(value), weight] as const)
      .filter(([, weight]) => weight !== 0)
      .sort(([a], [b]) => a - b);
    const bad = entries.find(([value]) => !Number.isFinite(value));
    if (bad) throw new RangeError(`${bad[0]} is no value`);
    this.values = entries.map(([value]) => value);
    this.#cumulative = new Cumulative(entries.map(([, weight]) => weight));
  }

  /** The value at this share of the mass, in [0, 1). */
  quantile(share: number): number {
    return this.values[this.#cumulative.at(share).piece] ?? Number.NaN;
  }

  draw(random: Random): number {
    return this.quantile(random.next());
  }
}

/** Rows of [from, to, density], uniform inside a row; normalised. */
export class Histogram {
  readonly #rows: readonly (readonly [number, number, number])[];
  readonly #cumulative: Cumulative;

  /** @throws RangeError when a row ends before it begins, a density is negative, or nothing has weight. */
  constructor(rows: readonly (readonly [number, number, number])[]) {
    const bad = rows.find(([from, to]) => !(to > from));
    if (bad) throw new RangeError(`a row goes up, not from ${bad[0]} to ${bad[1]}`);
    this.#rows = rows.filter(([, , density]) => density !== 0);
    this.#cumulative = new Cumulative(this.#rows.map(([from, to, density]) => (to - from) * density));
  }

  /** The value at this share of the mass, in [0, 1). */
  quantile(share: number): number {
    const { piece, inside } = this.#cumulative.at(share);
    const [from, to] = this.#rows[piece] ?? [Number.NaN, Number.NaN];
    return from + (to - from) * inside;
  }

  draw(random: Random): number {
    return this.quantile(random.next());
  }
}
