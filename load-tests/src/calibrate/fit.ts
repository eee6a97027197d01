/** The cost model that explains measured points best, and how well it predicts points that it was not fitted to. */
import { type CostModel, type SwapCost, stepCost, swapTime } from "@autellix/engines/cost";
import { quantile } from "../stats.ts";
import { fitRelative } from "./least-squares.ts";
import type { Samples, StepPoint, SwapPoint } from "./samples.ts";

/** Of predictions of held-out points: |predicted − measured| / measured. */
export interface FitError {
  points: number;
  median: number;
  p95: number;
}

export interface Fitted {
  cost: Required<CostModel>;
  /** Undefined where nothing was swapped. */
  swap: SwapCost | undefined;
  kvTokenBytes: number;
  errors: Record<"steps" | "decode" | "prefill" | "mixed" | "swapOut" | "swapIn", FitError>;
}

/** Of the points. */
const HELD_OUT_SHARE = 0.25;
/** Its multiples lie evenly in every regular series of points. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;
const BYTES_PER_MS_MIN = 1;

/** @throws RangeError when there are too few points. */
export function fit({ steps, swaps }: Samples): Fitted {
  const cost = fitSteps(steps.filter(isFitted));
  const held = steps.filter(isHeldOut);
  const ofKind = (kind: StepPoint["kind"]) => held.filter((point) => point.kind === kind);
  const errorsOf = (points: readonly StepPoint[]) =>
    errorOf(points.map((point) => [stepCost(cost, point) + (point.passes - 1) * cost.stepMs, point.durationMs]));
  const out = swaps.filter(({ direction }) => direction === "out");
  const back = swaps.filter(({ direction }) => direction === "in");
  const swap = out.length === 0 ? undefined : fitSwaps(out.filter(isFitted), back.filter(isFitted));
  const swapError = (points: readonly SwapPoint[]) =>
    errorOf(points.filter(isHeldOut).map((point) => [swap === undefined ? 0 : timeOf(swap, point), point.durationMs]));
  return {
    cost,
    swap,
    kvTokenBytes: kvTokenBytesOf(swaps),
    errors: {
      steps: errorsOf(held),
      decode: errorsOf(ofKind("decode")),
      prefill: errorsOf(ofKind("prefill")),
      mixed: errorsOf(ofKind("mixed")),
      swapOut: swapError(out),
      swapIn: swapError(back),
    },
  };
}

function isHeldOut(_: unknown, index: number): boolean {
  return ((index + 1) * GOLDEN_RATIO) % 1 < HELD_OUT_SHARE;
}

function isFitted(_: unknown, index: number): boolean {
  return !isHeldOut(_, index);
}

function fitSteps(points: readonly StepPoint[]): Required<CostModel> {
  const rows = points.map((point) => [
    point.passes,
    point.prefillTokens > 0 ? 1 : 0,
    point.prefillTokens,
    point.contextTokens,
    point.decodeTokens,
    point.attendedTokens,
    point.passes === 1 && point.kind === "mixed" ? 1 : 0,
  ]);
  const fitted = fitRelative(
    rows,
    points.map(({ durationMs }) => durationMs),
  );
  const [stepMs = 0, prefillMs = 0, prefillTokenMs = 0, contextTokenMs = 0, decodeTokenMs = 0] = fitted;
  const [attendedTokenMs = 0, mixedMs = 0] = fitted.slice(5);
  return { stepMs, prefillMs, prefillTokenMs, contextTokenMs, decodeTokenMs, attendedTokenMs, mixedMs };
}

/** One transfer's time is a beginning and its bytes; both directions begin alike in the model, so the mean is taken. */
function fitSwaps(out: readonly SwapPoint[], back: readonly SwapPoint[]): SwapCost {
  const line = (points: readonly SwapPoint[]) => {
    const [beginMs = 0, byteMs = 0] = fitRelative(
      points.map(({ bytes }) => [1, bytes]),
      points.map(({ durationMs }) => durationMs),
    );
    return { beginMs, bytesPerMs: byteMs > 0 ? 1 / byteMs : Number.MAX_SAFE_INTEGER };
  };
  const [o, i] = [line(out), line(back)];
  const transferMs = (o.beginMs + i.beginMs) / 2;
  return {
    outBytesPerMs: Math.max(BYTES_PER_MS_MIN, o.bytesPerMs),
    inBytesPerMs: Math.max(BYTES_PER_MS_MIN, i.bytesPerMs),
    transferMs,
    // A block on its own is a transfer of its own.
    copiesPerBlock: 1,
    copyMs: transferMs,
  };
}

function timeOf(swap: SwapCost, { direction, bytes }: SwapPoint): number {
  return swapTime(swap, direction, "call", { bytes, blocks: 0 });
}

function errorOf(pairs: readonly (readonly [predicted: number, measured: number])[]): FitError {
  const errors = pairs.map(([predicted, measured]) => Math.abs(predicted - measured) / measured).sort((a, b) => a - b);
  return { points: errors.length, median: quantile(errors, 0.5), p95: quantile(errors, 0.95) };
}

/** By the longest context: heads of files and blocks that are not full weigh least there. */
function kvTokenBytesOf(swaps: readonly SwapPoint[]): number {
  const longest = [...swaps].sort((a, b) => b.tokens - a.tokens)[0];
  return longest === undefined ? 0 : longest.bytes / longest.tokens;
}
