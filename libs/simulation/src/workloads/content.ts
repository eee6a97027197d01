/** What makers of programs share: sizes, gaps, chains. */
import type { Frozen, TokensPerCall } from "../frozen.ts";
import type { CallSpec, ProgramSpec } from "../program.ts";
import type { Random } from "../random.ts";

/** A program without its name and arrival: it depends on the workload, the seed and the program's index alone. */
export type Content = Pick<ProgramSpec, "workload" | "sharedPrompt" | "sharedPromptTokens" | "calls">;

export type Maker = (random: Random, frozen: Frozen) => Content;

/** Streams of a program, one for each thing that is drawn: a changed think time leaves the sizes as they were. */
export interface Streams {
  /** How many calls, and how they hang together. */
  shape: Random;
  prompts: Random;
  decodes: Random;
  gaps: Random;
}

export function streamsOf(random: Random): Streams {
  return {
    shape: random.split("shape"),
    prompts: random.split("prompts"),
    decodes: random.split("decodes"),
    gaps: random.split("gaps"),
  };
}

/** A whole number of tokens from 1 to the frozen maximum. */
export function tokens(count: number, { tokensPerCallMax }: Frozen): number {
  return Math.min(tokensPerCallMax, Math.max(1, Math.round(count)));
}

/** Tool time. ms */
export function toolMs({ gaps }: Streams, { tool }: Frozen): number {
  return Math.round(gaps.logNormal(tool.meanMs, tool.variation));
}

/** Sizes of one call. */
export function sizes(
  { prompts, decodes }: Streams,
  { newPromptTokens, decodeTokens, variation }: TokensPerCall,
  frozen: Frozen,
): Pick<CallSpec, "newPromptTokens" | "decodeTokens"> {
  return {
    newPromptTokens: tokens(prompts.logNormal(newPromptTokens, variation), frozen),
    decodeTokens: tokens(decodes.logNormal(decodeTokens, variation), frozen),
  };
}

/** One thread: each call waits for the last one and goes on with its context. Ends before the context is too long. */
export function chain(
  calls: number,
  { sharedPromptTokens, contextTokensMax }: { sharedPromptTokens: number; contextTokensMax: number },
  call: (index: number) => Pick<CallSpec, "newPromptTokens" | "decodeTokens" | "gapMs">,
): CallSpec[] {
  const specs: CallSpec[] = [];
  let contextTokens = sharedPromptTokens;
  for (let index = 0; index < calls; index++) {
    const spec = call(index);
    contextTokens += spec.newPromptTokens + spec.decodeTokens;
    if (index > 0 && contextTokens > contextTokensMax) break;
    const before = index === 0 ? undefined : index - 1;
    specs.push({ ...spec, parents: before === undefined ? [] : [before], extends: before });
  }
  return specs;
}
