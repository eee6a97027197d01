/**
 * Clairvoyant shortest remaining processing time (paper Fig. 18): a policy that knows what each program still has to
 * do, which only a simulator can. A call is ranked by its program's remaining work when it arrives.
 */
import { type Policy, type ProgramId, singleLevel } from "@autellix/core";
import { attendedBy, type EngineCost } from "@autellix/engines/cost";
import type { CallSpec } from "./program.ts";

/** Calls that share a step's weights, typically: it only weighs prompt tokens against generated ones. */
const TYPICAL_BATCH = 64;

export function srptPolicy(remainingMs: (program: ProgramId) => number): Policy {
  return {
    name: "srpt",
    measures: "time",
    inherits: () => 0,
    aggregate: (program, _inherited, served) => program.attained + served,
    ranks: (_program, call) => remainingMs(call.program),
    ladder: singleLevel,
    lastLevel: "stays",
    starvation: "none",
    keeps: "next-to-run",
  };
}

/** What a call costs the engine when its prefix is cached and it shares its steps. ms */
export function workOf(cost: EngineCost, call: CallSpec, promptTokens: number): number {
  const tokenMs =
    cost.stepMs / TYPICAL_BATCH + cost.decodeTokenMs + (promptTokens + call.decodeTokens / 2) * cost.contextTokenMs;
  const newTokens = call.samePromptAs === undefined ? call.newPromptTokens : 0;
  const attendedMs = attendedBy(newTokens, promptTokens - newTokens) * (cost.attendedTokenMs ?? 0);
  const beginMs = newTokens > 0 ? (cost.prefillMs ?? 0) : 0;
  return beginMs + newTokens * cost.prefillTokenMs + attendedMs + call.decodeTokens * tokenMs;
}
