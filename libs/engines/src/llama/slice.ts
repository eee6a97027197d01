/** How many prompt tokens one step may evaluate, so that it stays within `stepMsMax`. */

/**
 * Far apart on purpose: where prompts are cut changes the last bits of the result, so two engines of one model should
 * choose the same size although they measure on a busy machine. The small ones are for models that are slow.
 */
const SLICE_TOKENS = [512, 64, 8, 4, 2];
export const SLICE_TOKENS_MAX = 512;
/** Share of `stepMsMax` that a measured step may take: attention grows with the context, neighbours come and go. */
const HEADROOM = 0.8;

export interface SliceMeasure {
  /** Evaluates that many tokens on an empty context. */
  evaluate(tokens: number): Promise<void>;
  nowMs(): number;
  stepMsMax: number;
  /** Tokens that one step generates beside the slice. */
  neighbours: number;
  contextTokensMax: number;
}

/** @returns the largest size that fits, 1 at least: a step cannot be shorter than one token. */
export async function measureSlice(measure: SliceMeasure): Promise<number> {
  // The first pass touches all weights; its time says nothing.
  await measure.evaluate(1);
  const tokenMs = await timed(measure, 1);
  // From the small end, so that a slow model is not kept busy for minutes by a slice that it will never use.
  let best = 1;
  for (const tokens of [...SLICE_TOKENS].reverse()) {
    if (tokens > measure.contextTokensMax) break;
    const stepMs = (await timed(measure, tokens)) + measure.neighbours * tokenMs;
    if (stepMs > measure.stepMsMax * HEADROOM) break;
    best = tokens;
  }
  return best;
}

async function timed(measure: SliceMeasure, tokens: number): Promise<number> {
  const startMs = measure.nowMs();
  await measure.evaluate(tokens);
  return measure.nowMs() - startMs;
}
