/** Linear fits with coefficients ≥ 0, which is what costs are. */

type Rows = readonly (readonly number[])[];

/** Rounds of new weights; they settle in less. */
const ROUNDS = 20;
/** Relative errors below it count alike. */
const ERROR_MIN = 0.005;
/** Of a pivot among columns of length 1. */
const SINGULAR = 1e-9;

/**
 * The least sum of relative errors: least squares again and again, with less weight for points that are far off. Other
 * processes only ever lengthen a measured time, and squares would follow them.
 *
 * @param targets above 0.
 * @throws RangeError when there are fewer rows than coefficients.
 */
export function fitRelative(rows: Rows, targets: readonly number[]): number[] {
  const width = rows[0]?.length ?? 0;
  if (width === 0 || rows.length < width)
    throw new RangeError(`${rows.length} measured points are too few to fit ${width} numbers`);
  const scaled = rows.map((row, i) => row.map((value) => value / (targets[i] ?? 1)));
  let weights = scaled.map(() => 1);
  let coefficients: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    coefficients = leastSquares(scaled, weights);
    weights = scaled.map((row) => 1 / Math.max(ERROR_MIN, Math.abs(product(row, coefficients) - 1)));
  }
  return coefficients;
}

/**
 * Least squares towards 1. There are so few coefficients that every subset of them is tried: the best solution without
 * a negative one is the constrained minimum.
 */
function leastSquares(rows: Rows, weights: readonly number[]): number[] {
  const width = rows[0]?.length ?? 0;
  let best: { coefficients: number[]; error: number } | undefined;
  for (let subset = 1; subset < 2 ** width; subset++) {
    const columns = Array.from({ length: width }, (_, column) => column).filter((column) => subset & (1 << column));
    const solved = solve(rows, weights, columns);
    if (solved === undefined || solved.some((value) => value < 0)) continue;
    const coefficients = Array.from({ length: width }, (_, column) => solved[columns.indexOf(column)] ?? 0);
    const error = sum(rows, (row, i) => (weights[i] ?? 1) * (product(row, coefficients) - 1) ** 2);
    if (best === undefined || error < best.error) best = { coefficients, error };
  }
  if (best === undefined) throw new RangeError("no cost model fits the measured points");
  return best.coefficients;
}

/** The normal equations of some columns, by elimination. @returns undefined when they have no single solution. */
function solve(rows: Rows, weights: readonly number[], columns: readonly number[]): number[] | undefined {
  // Columns differ by orders of magnitude: each is brought to length 1.
  const lengths = columns.map((column) => Math.sqrt(sum(rows, (row, i) => (weights[i] ?? 1) * at(row, column) ** 2)));
  if (lengths.some((length) => length === 0)) return undefined;
  const size = columns.length;
  const matrix = columns.map((a, i) => [
    ...columns.map(
      (b, j) => sum(rows, (row, k) => (weights[k] ?? 1) * at(row, a) * at(row, b)) / (at(lengths, i) * at(lengths, j)),
    ),
    sum(rows, (row, k) => (weights[k] ?? 1) * at(row, a)) / at(lengths, i),
  ]);
  for (let pivot = 0; pivot < size; pivot++) {
    const best = matrix.slice(pivot).reduce((a, b) => (Math.abs(at(b, pivot)) > Math.abs(at(a, pivot)) ? b : a));
    if (Math.abs(at(best, pivot)) < SINGULAR) return undefined;
    matrix[matrix.indexOf(best)] = matrix[pivot] ?? best;
    matrix[pivot] = best;
    for (const row of matrix) {
      if (row === best) continue;
      const factor = at(row, pivot) / at(best, pivot);
      for (let column = pivot; column <= size; column++) row[column] = at(row, column) - factor * at(best, column);
    }
  }
  return matrix.map((row, i) => at(row, size) / at(row, i) / at(lengths, i));
}

function product(row: readonly number[], coefficients: readonly number[]): number {
  return row.reduce((total, value, column) => total + value * at(coefficients, column), 0);
}

function at(values: readonly number[], index: number): number {
  return values[index] ?? 0;
}

function sum<T>(values: readonly T[], read: (value: T, index: number) => number): number {
  return values.reduce((total, value, index) => total + read(value, index), 0);
}
