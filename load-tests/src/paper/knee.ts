/**
 * The knee of a curve: the highest rate at which a system's mean latency stays within a limit. Points at different
 * rates share their seeds (common random numbers), so the curve is smooth enough for a bisection.
 */

/** A curve's value at a rate; `undefined`: unstable there, which is above any limit. */
export type Curve = (ratePerS: number) => Promise<number | undefined>;

export type Knee =
  | { kind: "at"; ratePerS: number /** The lowest rate tried that was too high. */; aboveRatePerS: number }
  /** Even the lowest rate tried was too slow. */
  | { kind: "none"; lowestRatePerS: number }
  /** The highest rate tried was still fast enough. */
  | { kind: "beyond"; ratePerS: number };

export interface KneeOptions {
  /** Rates where the curve is known or cheap, ascending; the bisection begins between two of them. */
  grid: readonly number[];
  limit: number;
  /** Relative width at which the bisection ends. */
  tolerance: number;
}

/** Below the grid the rate is halved, above it doubled, so many times. */
const HALVINGS_MAX = 3;
const DOUBLINGS_MAX = 2;
const BISECTIONS_MAX = 20;

/** The first crossing from below: a system that is fast again at a higher rate is not trusted with it. */
export async function findKnee(curve: Curve, { grid, limit, tolerance }: KneeOptions): Promise<Knee> {
  const within = async (rate: number) => {
    const value = await curve(rate);
    return value !== undefined && value <= limit;
  };
  const bracket = await findBracket(within, grid);
  if (bracket.low === undefined) return { kind: "none", lowestRatePerS: bracket.high ?? Number.NaN };
  if (bracket.high === undefined) return { kind: "beyond", ratePerS: bracket.low };
  let { low, high } = { low: bracket.low, high: bracket.high };
  for (let turn = 0; turn < BISECTIONS_MAX && high - low > tolerance * low; turn++) {
    const middle = roundRate((low + high) / 2);
    if (middle <= low || middle >= high) break;
    if (await within(middle)) low = middle;
    else high = middle;
  }
  return { kind: "at", ratePerS: low, aboveRatePerS: high };
}

async function findBracket(
  within: (rate: number) => Promise<boolean>,
  grid: readonly number[],
): Promise<{ low: number | undefined; high: number | undefined }> {
  const [first] = grid;
  if (first === undefined) throw new Error("a knee needs at least one rate to begin with");
  let low: number | undefined;
  for (const rate of grid) {
    if (await within(rate)) low = rate;
    else if (low !== undefined) return { low, high: rate };
    else return await below(within, rate);
  }
  return await above(within, low ?? first);
}

async function below(within: (rate: number) => Promise<boolean>, tooHigh: number) {
  let high = tooHigh;
  for (let turn = 0; turn < HALVINGS_MAX; turn++) {
    const rate = roundRate(high / 2);
    if (await within(rate)) return { low: rate, high };
    high = rate;
  }
  return { low: undefined, high };
}

async function above(within: (rate: number) => Promise<boolean>, fastEnough: number) {
  let low = fastEnough;
  for (let turn = 0; turn < DOUBLINGS_MAX; turn++) {
    const rate = roundRate(low * 2);
    if (!(await within(rate))) return { low, high: rate };
    low = rate;
  }
  return { low, high: undefined };
}

/** Rates of four digits: the same rate found in two ways is the same point. */
export function roundRate(ratePerS: number): number {
  return Number(ratePerS.toPrecision(4));
}

export function formatKnee(knee: Knee): string {
  if (knee.kind === "none") return "no stable point at this latency";
  return knee.kind === "beyond" ? `> ${label(knee.ratePerS)}` : label(knee.ratePerS);
}

/** The rate for ratios; `undefined` where there is none. */
export function rateOf(knee: Knee): number | undefined {
  return knee.kind === "at" ? knee.ratePerS : undefined;
}

function label(rate: number): string {
  return String(Number(rate.toPrecision(3)));
}
