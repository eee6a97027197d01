/**
 * Seeded random numbers from integer operations, additions and multiplications only, so that a seed gives the same
 * file on every platform (`Math.log` and `Math.cos` need not be bit-equal).
 */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 ≤ x < 1; mulberry32 by Tommy Ettinger (public domain). */
  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** Mean 0, deviation 1: the sum of twelve uniform numbers is close enough to a normal one. */
  normal(): number {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += this.uniform();
    return sum;
  }
}
