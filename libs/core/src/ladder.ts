/**
 * The ladder of levels Q1 … QK (paper §4.2.2): half-open ranges of attained service, each with a quantum. Its unit is
 * the policy's: milliseconds, or tokens.
 */

export interface Level {
  /** Range of attained service whose calls enter here: `lo ≤ service < hi`. */
  lo: number;
  hi: number;
  /** Service after which a call is demoted; `Infinity` = never. */
  quantum: number;
}

/** Level 0 is Q1, served first. `Q1.lo = 0`, `QK.hi = ∞`, `Q(i+1).lo = Q(i).hi`. */
export type Ladder = readonly Level[];

/** Others' usual choice; the paper publishes none. */
export const LEVELS = 7;
export const FACTOR = 2;

/**
 * Ranges and quanta grow by a factor from level to level. The paper publishes no values; K = 7 and the factor 2 are
 * others' usual choices.
 *
 * @param first upper end of Q1's range and its quantum, > 0.
 * @param factor > 0; each level is so many times as wide as the one before.
 */
export function doublingLadder(first: number, levels = LEVELS, factor = FACTOR): Ladder {
  if (!(first > 0) || levels < 1 || !(factor > 0))
    throw new Error(`a ladder needs a positive first level and factor, got ${first} × ${levels} by ${factor}`);
  const ladder: Level[] = [];
  let lo = 0;
  let quantum = first;
  for (let i = 0; i < levels; i++) {
    const last = i === levels - 1;
    const hi = last ? Number.POSITIVE_INFINITY : lo + quantum;
    ladder.push({ lo, hi, quantum });
    lo = hi;
    quantum *= factor;
  }
  return ladder;
}

/** One level without end: first come, first served. */
export const singleLevel: Ladder = [{ lo: 0, hi: Number.POSITIVE_INFINITY, quantum: Number.POSITIVE_INFINITY }];

/**
 * Index of the level that a call enters (0 = Q1, served first).
 *
 * @param service attained service that the call inherits, ≥ 0.
 * Source: Autellix §4.2.2, Alg. 1 line 12; the range is read as half-open.
 */
export function levelOf(ladder: Ladder, service: number): number {
  for (let i = 0; i < ladder.length; i++) {
    const level = ladder[i];
    if (level && service < level.hi) return i;
  }
  return ladder.length - 1;
}
