/**
 * Programs by size: a mean hides who pays, so slowdown is reported for each tenth of the programs.
 */
import type { ProgramSpec } from "@autellix/simulation";

export const DECILES = 10;

/** Sums that runs can be added up by; index 0 is the smallest tenth. */
export interface DecileSums {
  programs: number[];
  slowdown: number[];
  slowdownMax: number[];
}

/**
 * Tokens that a program makes an engine compute when every prefix is found: answers and what prompts add. It is the
 * program's work, whatever a system's cache does.
 */
export function workTokensOf(program: ProgramSpec): number {
  let tokens = program.sharedPromptTokens;
  for (const call of program.calls)
    tokens += call.decodeTokens + (call.samePromptAs === undefined ? call.newPromptTokens : 0);
  return tokens;
}

/** Upper ends of the first nine tenths. @param sizes of a sample of the workload, the same for every run. */
export function decileEdges(sizes: readonly number[]): number[] {
  const sorted = [...sizes].sort((a, b) => a - b);
  return Array.from({ length: DECILES - 1 }, (_, index) => {
    const at = Math.ceil(((index + 1) / DECILES) * sorted.length) - 1;
    return sorted[Math.max(0, at)] ?? 0;
  });
}

/** @returns 0 for the smallest tenth. */
export function decileOf(edges: readonly number[], size: number): number {
  const index = edges.findIndex((edge) => size <= edge);
  return index === -1 ? edges.length : index;
}

export function emptyDeciles(): DecileSums {
  const zeros = () => Array.from({ length: DECILES }, () => 0);
  return { programs: zeros(), slowdown: zeros(), slowdownMax: zeros() };
}

export function addToDecile(sums: DecileSums, decile: number, slowdown: number): void {
  sums.programs[decile] = (sums.programs[decile] ?? 0) + 1;
  sums.slowdown[decile] = (sums.slowdown[decile] ?? 0) + slowdown;
  sums.slowdownMax[decile] = Math.max(sums.slowdownMax[decile] ?? 0, slowdown);
}

export function mergeDeciles(parts: readonly DecileSums[]): DecileSums {
  const merged = emptyDeciles();
  for (const part of parts)
    for (let i = 0; i < DECILES; i++) {
      merged.programs[i] = (merged.programs[i] ?? 0) + (part.programs[i] ?? 0);
      merged.slowdown[i] = (merged.slowdown[i] ?? 0) + (part.slowdown[i] ?? 0);
      merged.slowdownMax[i] = Math.max(merged.slowdownMax[i] ?? 0, part.slowdownMax[i] ?? 0);
    }
  return merged;
}

/** Mean slowdown of each tenth; `undefined` for one without programs. */
export function meanSlowdowns(sums: DecileSums): (number | undefined)[] {
  return sums.programs.map((programs, i) => (programs === 0 ? undefined : (sums.slowdown[i] ?? 0) / programs));
}
