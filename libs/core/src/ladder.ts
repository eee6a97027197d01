/**
 * The ladder of levels Q1 … QK (paper §4.2.2): half-open ranges of attained service, each with a quantum.
 */
import type { Millis } from "./ids.ts";

export interface Level {
  /** Range of attained service whose calls enter here: `lo ≤ service < hi`. */
  lo: Millis;
  hi: Millis;
  /** Service after which a call is demoted; `Infinity` = never. */
  quantumMs: Millis;
}

/** Level 0 is Q1, served first. `Q1.lo = 0`, `QK.hi = ∞`, `Q(i+1).lo = Q(i).hi`. */
export type Ladder = readonly Level[];

/**
 * Ranges and quanta double from level to level. The paper publishes no values; K = 7 and the factor 2 are others'
 * usual choices.
 *
 * @param firstMs upper end of Q1's range and its quantum, > 0.
 */
export function doublingLadder(firstMs: Millis, levels = 7): Ladder {
  if (!(firstMs > 0) || levels < 1)
    throw new Error(`a ladder needs a positive first level, got ${firstMs} × ${levels}`);
  const ladder: Level[] = [];
  let lo = 0;
  let quantumMs = firstMs;
  for (let i = 0; i < levels; i++) {
    const last = i === levels - 1;
    const hi = last ? Number.POSITIVE_INFINITY : lo + quantumMs;
    ladder.push({ lo, hi, quantumMs });
    lo = hi;
    quantumMs *= 2;
  }
  return ladder;
}

/** One level without end: first come, first served. */
export const singleLevel: Ladder = [{ lo: 0, hi: Number.POSITIVE_INFINITY, quantumMs: Number.POSITIVE_INFINITY }];

/**
 * Index of the level that a call enters (0 = Q1, served first).
 *
 * @param serviceMs attained service that the call inherits, ≥ 0.
 * Source: Autellix §4.2.2, Alg. 1 line 12; the range is read as half-open.
 */
export function levelOf(ladder: Ladder, serviceMs: Millis): number {
  for (let i = 0; i < ladder.length; i++) {
    const level = ladder[i];
    if (level && serviceMs < level.hi) return i;
  }
  return ladder.length - 1;
}
