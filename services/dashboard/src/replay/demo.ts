/**
 * The programs of `npm run demo:policies` for the simulator: long ones keep one engine busy beyond what it can hold,
 * and short ones arrive while they run. The smallest load that shows what scheduling by program is for.
 */
import type { ProgramSpec } from "@autellix/simulation";

/** Twice what the engine computes together: it is full, and as many wait. */
const LONG_PROGRAMS = 8;
const LONG_CALLS = 3;
const LONG_TOKENS = 120;
const LONG_GAP_MS = 200;
const SHORT_PROGRAMS = 12;
const SHORT_TOKENS = 12;
const SHORT_FROM_MS = 4_000;
/** Between two short programs, in the order in which they come: a fixed draw, so that everybody sees the same. */
const SHORT_GAPS_MS = [900, 3_100, 1_200, 4_400, 700, 2_600, 1_900, 3_600, 2_200, 800, 4_100, 1_500];
const PROMPT_TOKENS = 30;
/** As llama.cpp here. */
export const DEMO_BATCH_CALLS = 4;

export function demoPrograms(): ProgramSpec[] {
  const long = Array.from({ length: LONG_PROGRAMS }, (_, i) =>
    chain(`long-${i + 1}`, i * LONG_GAP_MS, LONG_CALLS, LONG_TOKENS),
  );
  let atMs = SHORT_FROM_MS;
  const short = Array.from({ length: SHORT_PROGRAMS }, (_, i) => {
    atMs += SHORT_GAPS_MS[i] ?? 0;
    return chain(`short-${i + 1}`, atMs, 1 + (i % 2), SHORT_TOKENS);
  });
  return [...long, ...short].sort((a, b) => a.arrivesAtMs - b.arrivesAtMs);
}

function chain(id: string, arrivesAtMs: number, calls: number, decodeTokens: number): ProgramSpec {
  return {
    id,
    workload: "demo",
    arrivesAtMs,
    sharedPrompt: "",
    sharedPromptTokens: 0,
    calls: Array.from({ length: calls }, (_, index) => ({
      parents: index === 0 ? [] : [index - 1],
      gapMs: 0,
      extends: undefined,
      newPromptTokens: PROMPT_TOKENS,
      decodeTokens,
    })),
  };
}
