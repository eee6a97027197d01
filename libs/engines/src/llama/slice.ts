/** How many prompt tokens one step may evaluate, so that it stays within `stepMsMax`. */

/**
 * On the CPU. From 64 positions on, llama.cpp's attention takes another path with other rounding; below it, a model
 * with quantised weights gives the same bits however its prompt is cut: engines that measured different sizes, and
 * calls that are recomputed elsewhere, give the same text.
 */
export const CPU_SLICE_TOKENS_MAX = 32;
/** On a GPU small slices would waste it. Cutting elsewhere changes the last bits there. */
export const GPU_SLICE_TOKENS_MAX = 512;
/** Share of `stepMsMax` that a measured step may take: attention grows with the context, neighbours come and go. */
const HEADROOM = 0.6;

export interface SliceMeasure {
  /** Evaluates that many tokens on an empty context. */
  evaluate(tokens: number): Promise<void>;
  nowMs(): number;
  stepMsMax: number;
  /** A power of two. */
  sliceTokensMax: number;
  /** Tokens that one step generates beside the slice. */
  neighbours: number;
}

/** @returns the largest power of two that fits, 1 at least: a step cannot be shorter than one token. */
export async function measureSlice(measure: SliceMeasure): Promise<number> {
  // The first pass touches all weights; its time says nothing.
  await measure.evaluate(1);
  const tokenMs = await timed(measure, 1);
  // From the small end, so that a slow model is not kept busy for minutes by a slice that it will never use.
  let best = 1;
  for (let tokens = 2; tokens <= measure.sliceTokensMax; tokens *= 2) {
    const stepMs = (await timed(measure, tokens)) + measure.neighbours * tokenMs;
    if (stepMs > measure.stepMsMax * HEADROOM) break;
    best = tokens;
  }
  return best;
}

/** The better of two times: on a machine that is starting up, one of them is often somebody else's. */
async function timed(measure: SliceMeasure, tokens: number): Promise<number> {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 2; i++) {
    const startMs = measure.nowMs();
    await measure.evaluate(tokens);
    bestMs = Math.min(bestMs, measure.nowMs() - startMs);
  }
  return bestMs;
}
