/** Bounded numbers as grammars (GBNF). */

/** As many as a double can tell apart. */
const DIGITS_MAX = 16;
const LARGEST = 10n ** BigInt(DIGITS_MAX) - 1n;

export interface Bounds {
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

/** Part of the line, by distance from 0. */
interface Magnitudes {
  low: bigint;
  /** The low end itself is no value. */
  isLowOpen: boolean;
  high: bigint;
  isHighOpen: boolean;
}

/** @returns alternatives; none when no number of at most 16 digits lies within the bounds. */
export function integersWithin(bounds: Bounds): string[] {
  return sides(bounds).flatMap(([sign, { low, isLowOpen, high, isHighOpen }]) =>
    naturals(low + (isLowOpen ? 1n : 0n), high - (isHighOpen ? 1n : 0n)).map((body) => sign + body),
  );
}

/** The same with decimals. Between a bound and the next whole number within it, nothing is allowed: a subset will do. */
export function numbersWithin(bounds: Bounds): string[] {
  return sides(bounds).flatMap(([sign, { low, isLowOpen, high, isHighOpen }]) => {
    const above = naturals(low + (isLowOpen ? 1n : 0n), high - 1n).map((body) => `(${body}) ("." [0-9]{1,16})?`);
    const first = isLowOpen && low < high ? [`"${low}." [0-9]{0,15} [1-9]`] : [];
    const last = isHighOpen || (isLowOpen && low === high) || low > high ? [] : [`"${high}"`];
    return [...above, ...first, ...last].map((body) => sign + body);
  });
}

function sides(bounds: Bounds): [sign: string, magnitudes: Magnitudes][] {
  const low = tighter(bounds.minimum, bounds.exclusiveMinimum, Math.max);
  const high = tighter(bounds.maximum, bounds.exclusiveMaximum, Math.min);
  const found: [string, Magnitudes][] = [];
  if (high.value >= 0) found.push(["", magnitudes(low.value < 0 ? ZERO : low, high)]);
  // −0 is 0: only whole negative numbers from −1 on, and decimals below 0.
  if (low.value < 0) {
    const below = high.value >= 0 ? { value: 0, isOpen: true } : { value: -high.value, isOpen: high.isOpen };
    found.push(['"-" ', magnitudes(below, { value: -low.value, isOpen: low.isOpen })]);
  }
  return found;
}

interface End {
  value: number;
  isOpen: boolean;
}
const ZERO: End = { value: 0, isOpen: false };

function tighter(closed: number | undefined, open: number | undefined, pick: (a: number, b: number) => number): End {
  const none = pick(0, 1) === 1 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const [a, b] = [closed ?? none, open ?? none];
  return { value: pick(a, b), isOpen: open !== undefined && pick(a, b) === b };
}

/** Ends that are no whole numbers move inwards. */
function magnitudes(low: End, high: End): Magnitudes {
  return {
    low: whole(Math.ceil(low.value)),
    isLowOpen: low.isOpen && Number.isInteger(low.value),
    high: whole(Math.floor(high.value)),
    isHighOpen: high.isOpen && Number.isInteger(high.value),
  };
}

function whole(value: number): bigint {
  return value > Number(LARGEST) ? LARGEST : BigInt(value);
}

/** Whole numbers from `low` to `high`, both 0 or more. */
function naturals(low: bigint, high: bigint): string[] {
  const found: string[] = [];
  for (let digits = 1; digits <= DIGITS_MAX; digits++) {
    const [least, most] = [digits === 1 ? 0n : 10n ** BigInt(digits - 1), 10n ** BigInt(digits) - 1n];
    const [from, to] = [low > least ? low : least, high < most ? high : most];
    if (from <= to) found.push(...sameLength(`${from}`, `${to}`));
  }
  return found;
}

/** Numbers of equally many digits, by their common beginning. */
function sameLength(low: string, high: string): string[] {
  if (low === "") return [""];
  const rest = low.length - 1;
  const [a, b] = [Number(low[0]), Number(high[0])];
  const [zeros, nines] = ["0".repeat(rest), "9".repeat(rest)];
  const from = (digit: number, lowRest: string, highRest: string) =>
    sameLength(lowRest, highRest).map((body) => `"${digit}" ${body}`);
  if (a === b) return from(a, low.slice(1), high.slice(1));
  const isLowWhole = low.slice(1) === zeros;
  const isHighWhole = high.slice(1) === nines;
  const [first, last] = [isLowWhole ? a : a + 1, isHighWhole ? b : b - 1];
  const middle = first > last ? [] : [`[${first}-${last}]${rest === 0 ? "" : ` [0-9]{${rest}}`}`];
  return [
    ...(isLowWhole ? [] : from(a, low.slice(1), nines)),
    ...middle,
    ...(isHighWhole ? [] : from(b, zeros, high.slice(1))),
  ];
}
