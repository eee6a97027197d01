/**
 * Seeded randomness: the same seed gives the same workload on every machine.
 */

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform whole number in [min, max]. */
  int(min: number, max: number): number;
  /** Exponential with the given mean: gaps of a Poisson process. */
  exponential(mean: number): number;
  /** Log-normal with the given mean and coefficient of variation. */
  logNormal(mean: number, variation: number): number;
  /** Whole number ≥ 1 with the given mean ≥ 1, each further one as likely as the last. */
  geometric(mean: number): number;
}

/** mulberry32: 32 bits of state, which is plenty for a workload. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  return {
    next,
    int: (min, max) => min + Math.floor(next() * (max - min + 1)),
    exponential: (mean) => -mean * Math.log(1 - next()),
    logNormal(mean, variation) {
      const variance = Math.log(1 + variation * variation);
      return mean * Math.exp(Math.sqrt(variance) * normal() - variance / 2);
    },
    geometric: (mean) => (mean <= 1 ? 1 : 1 + Math.floor(Math.log(1 - next()) / Math.log(1 - 1 / mean))),
  };
}
