/** How long a program takes with an engine of its own: what bounds a steady run. */
import { attendedBy, type CostModel } from "@autellix/engines/cost";
import { type ProgramSpec, promptTokensOf } from "@autellix/simulation";

/**
 * From its arrival to its end, interrupts included, when nothing waits, every prefix is found and each step serves one
 * call: the longest path through its calls. ms
 */
export function aloneWithGapsMs(program: ProgramSpec, cost: CostModel): number {
  const prompts = promptTokensOf(program);
  const ends: number[] = [];
  for (const [index, call] of program.calls.entries()) {
    const ready = Math.max(0, ...call.parents.map((parent) => ends[parent] ?? 0));
    const contextTokens = (prompts[index] ?? 0) + call.decodeTokens / 2;
    const decodeMs = call.decodeTokens * (cost.stepMs + contextTokens * cost.contextTokenMs);
    const { newPromptTokens } = call;
    const attendedMs =
      attendedBy(newPromptTokens, (prompts[index] ?? 0) - newPromptTokens) * (cost.attendedTokenMs ?? 0);
    const prefillMs = (cost.prefillMs ?? 0) + newPromptTokens * cost.prefillTokenMs + attendedMs;
    ends.push(ready + call.gapMs + prefillMs + decodeMs);
  }
  return Math.max(0, ...ends);
}
