/** A program as the simulator plays it. All of it is known here; the core sees a call when it arrives. */

export interface CallSpec {
  /** Calls of this program, by index, that must have ended before; all are lower than the call's own index. */
  parents: readonly number[];
  /** Interrupt (think or tool time) between the end of the last parent and the arrival of this call. ms */
  gapMs: number;
  /** Open loop: it arrives this long after its program, whether its parents have ended or not. ms */
  arrivesMs?: number;
  /** Branch of the program, when it has several. */
  thread?: string;
  /** Call whose whole context (prompt and answer) this prompt begins with; undefined: it begins with the shared prompt. */
  extends: number | undefined;
  /** Tokens that the prompt adds to what it extends. */
  newPromptTokens: number;
  /**
   * Earlier call with the very same prompt (same `extends`, same `newPromptTokens`, same text): siblings that sample
   * one question several times. A prefix cache that holds that prompt holds this one. Never more than one hop.
   */
  samePromptAs?: number;
  decodeTokens: number;
}

export interface ProgramSpec {
  id: string;
  /** Which workload it was drawn from: for mixes. */
  workload: string;
  /** Arrival of its root calls (those without parents), before their own gaps. ms */
  arrivesAtMs: number;
  /** System prompt that every program of this `sharedPrompt` name begins with; 0 tokens = none. */
  sharedPrompt: string;
  sharedPromptTokens: number;
  calls: readonly CallSpec[];
}

/** Prompt tokens of each call, from what it extends. */
export function promptTokensOf(program: ProgramSpec): number[] {
  const prompts: number[] = [];
  for (const call of program.calls) {
    const base = call.extends === undefined ? program.sharedPromptTokens : contextOf(program, prompts, call.extends);
    prompts.push(base + call.newPromptTokens);
  }
  return prompts;
}

function contextOf(program: ProgramSpec, prompts: readonly number[], index: number): number {
  return (prompts[index] ?? 0) + (program.calls[index]?.decodeTokens ?? 0);
}

/** Prompt and answer of the call that has most. */
export function longestContext(programs: readonly ProgramSpec[]): number {
  let longest = 0;
  for (const program of programs) {
    const prompts = promptTokensOf(program);
    for (const [index, { decodeTokens }] of program.calls.entries())
      longest = Math.max(longest, (prompts[index] ?? 0) + decodeTokens);
  }
  return longest;
}
