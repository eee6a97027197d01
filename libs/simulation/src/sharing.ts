/**
 * Sharing of prompts (paper §3.3, Fig. 7): how many of a call's input tokens an ideal cache, endless and fed in
 * order, would hold. Fig. 7 gives two shares by input length, which we read as
 * - *within* a program: the cache has seen the program's earlier calls, and the shared prompt;
 * - *across* programs: it has seen other programs only, so the shared prompt alone.
 * A strict reading of "within", without the shared prompt, contradicts the figure itself: with 0.72 across programs at
 * 1,500 tokens most calls of that length are first calls, which have no earlier call to share with.
 */
import { type ProgramSpec, promptTokensOf } from "./program.ts";

export interface Sharing {
  /** Calls that were looked at. */
  calls: number;
  inputTokens: number;
  /** Share of the input tokens, 0 … 1; NaN without input. */
  within: number;
  across: number;
}

/** Input lengths in [from, to). */
export interface Bucket {
  from: number;
  to: number;
}

export function inputSharing(
  programs: readonly ProgramSpec[],
  { from, to }: Bucket = { from: 0, to: Number.POSITIVE_INFINITY },
): Sharing {
  const sum = { calls: 0, input: 0, within: 0, across: 0 };
  for (const program of programs) {
    const prompts = promptTokensOf(program);
    for (const [index, input] of prompts.entries()) {
      if (input < from || input >= to) continue;
      sum.calls++;
      sum.input += input;
      sum.within += cachedTokens(program, prompts, index);
      sum.across += Math.min(input, program.sharedPromptTokens);
    }
  }
  const { calls, input } = sum;
  return { calls, inputTokens: input, within: sum.within / input, across: sum.across / input };
}

/** What the cache holds of a call's prompt when it arrives. */
function cachedTokens(program: ProgramSpec, prompts: readonly number[], index: number): number {
  const call = program.calls[index];
  if (!call) return 0;
  const input = prompts[index] ?? 0;
  return call.samePromptAs === undefined ? input - call.newPromptTokens : input;
}

export interface SharingPoint {
  inputTokens: number;
  within: number;
  across: number;
}

/** Fig. 7, digitised. */
export const fig7: Readonly<Record<"sharegpt" | "lats", readonly SharingPoint[]>> = {
  sharegpt: [
    { inputTokens: 1_500, within: 0.84, across: 0.72 },
    { inputTokens: 2_000, within: 0.84, across: 0.57 },
    { inputTokens: 4_000, within: 0.91, across: 0.32 },
  ],
  lats: [
    { inputTokens: 1_600, within: 1, across: 0.98 },
    { inputTokens: 2_000, within: 0.99, across: 0.78 },
    { inputTokens: 3_000, within: 0.98, across: 0.6 },
    { inputTokens: 4_000, within: 0.98, across: 0.44 },
  ],
};

/** Calls whose input is this much shorter or longer count for a point of the figure. */
const AROUND = 0.125;

export interface SharingRow {
  paper: SharingPoint;
  ours: Sharing;
}

/** A generated workload beside Fig. 7. */
export function besideFig7(workload: keyof typeof fig7, programs: readonly ProgramSpec[]): SharingRow[] {
  return fig7[workload].map((paper) => ({
    paper,
    ours: inputSharing(programs, {
      from: paper.inputTokens * (1 - AROUND),
      to: paper.inputTokens * (1 + AROUND),
    }),
  }));
}
