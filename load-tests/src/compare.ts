/**
 * A against B in one run: the same programs against each side. Two sides at once would share the machine and measure
 * each other, so they take turns; with several rounds the order alternates (A B, B A, …), so that a machine that
 * slows down in between favours neither.
 */
import { type ProcessUse, useBetween } from "./processes.ts";
import type { Variant } from "./report.ts";
import { type Progress, type RunOptions, runOpenLoop } from "./run.ts";
import { startStack } from "./stack.ts";
import type { ProgramSpec } from "./workload.ts";

/** What is measured: an endpoint that runs already, or a stack that is started for each phase. */
export type Side = { name: string; apiKey?: string | undefined; model?: string | undefined } & (
  | { url: string }
  | { stackArgs: readonly string[] }
);

export const ROUNDS_MAX = 20;

export interface CompareOptions {
  sides: readonly Side[];
  rounds: number;
  /** The programs of a round, the same for every side. */
  programsOf: (round: number) => readonly ProgramSpec[];
  run: RunOptions;
  /** Environment of stacks, on top of this process's. */
  env?: Record<string, string>;
  onPhase?: (text: string) => void;
  /** What a stack says while it starts and stops. */
  onStack?: (line: string) => void;
  onProgress?: (side: string, progress: Progress) => void;
  signal?: AbortSignal | undefined;
}

/** @throws when a side cannot be reached or started. */
export async function compare(options: CompareOptions): Promise<Variant[]> {
  const variants = options.sides.map((side): Variant => ({ name: side.name, runs: [] }));
  for (let round = 0; round < Math.min(options.rounds, ROUNDS_MAX); round++) {
    const turns = options.sides.map((side, index) => ({ side, variant: variants[index] }));
    if (round % 2 === 1) turns.reverse();
    for (const { side, variant } of turns) {
      if (!variant || options.signal?.aborted) continue;
      options.onPhase?.(`round ${round + 1} of ${options.rounds}: ${side.name}`);
      await phase(side, variant, round, options);
    }
  }
  return variants;
}

async function phase(side: Side, variant: Variant, round: number, options: CompareOptions): Promise<void> {
  const { signal, env } = options;
  const run: RunOptions = {
    ...options.run,
    seed: (options.run.seed ?? 0) + round,
    signal,
    onProgress: (progress) => options.onProgress?.(side.name, progress),
  };
  const programs = options.programsOf(round);
  const { name, apiKey, model } = side;
  if ("url" in side) {
    variant.runs.push(await runOpenLoop({ name, url: side.url, apiKey, model }, programs, run));
    return;
  }
  const stack = await startStack({ args: side.stackArgs, env, signal, onProgress: options.onStack });
  try {
    const before = stack.processes();
    const url = `${stack.baseUrl}/v1`;
    const result = await runOpenLoop({ name, url, apiKey, model }, programs, { ...run, endPrograms: true });
    variant.runs.push(result);
    variant.use = addUse(variant.use ?? [], useBetween(before, stack.processes()));
  } finally {
    await stack.stop();
  }
}

/** CPU of the same process over phases adds up; memory is the highest. */
function addUse(sum: readonly ProcessUse[], more: readonly ProcessUse[]): ProcessUse[] {
  const byName = new Map(sum.map((use) => [use.name, use]));
  for (const use of more) {
    const before = byName.get(use.name);
    byName.set(use.name, {
      ...use,
      cpuMs: use.cpuMs + (before?.cpuMs ?? 0),
      rssBytes: Math.max(use.rssBytes, before?.rssBytes ?? 0),
    });
  }
  return [...byName.values()];
}
