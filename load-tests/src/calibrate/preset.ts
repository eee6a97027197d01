/** From measured points to a preset's file, and what to say about it. */

import type { EnginePreset, SwapCost } from "@autellix/engines/cost";
import type { EngineInfo } from "@autellix/protocol";
import { formatTable } from "../table.ts";
import type { FitError, Fitted } from "./fit.ts";
import type { Samples } from "./samples.ts";

/** Nothing is ever swapped: the host tier of such a preset has no room. */
const NO_SWAP: SwapCost = { outBytesPerMs: 1, inBytesPerMs: 1, transferMs: 0, copiesPerBlock: 0, copyMs: 0 };
const DIGITS = 6;
/** vLLM's default with chunked prefill. */
const SERVER_SLICE_TOKENS = 512;

export function presetOf(info: EngineInfo, { steps }: Samples, { cost, swap, kvTokenBytes }: Fitted): EnginePreset {
  const { batchCallsMax, residentCallsMax, contextTokensMax, kvBlocks, blockTokens, hostBlocks = 0 } = info;
  const preset = {
    // An agent plans while its engine steps: the engine waits for no plan.
    cost: { ...cost, planMs: 0 },
    batchCallsMax,
    residentCallsMax,
    contextTokensMax,
    kvTokens: kvBlocks * blockTokens,
    // A server cuts prompts as it likes; its points are of whole ones.
    sliceTokens: info.forwards
      ? SERVER_SLICE_TOKENS
      : Math.max(1, ...steps.map(({ prefillTokens }) => Math.round(prefillTokens))),
    kvTokenBytes,
    hostKvTokens: swap === undefined ? 0 : hostBlocks * blockTokens,
    swap: swap ?? NO_SWAP,
  };
  return JSON.parse(JSON.stringify(preset, (_, value) => (typeof value === "number" ? rounded(value) : value)));
}

export function rounded(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toPrecision(DIGITS));
}

export function fitText({ cost, swap, kvTokenBytes, errors }: Fitted): string {
  const numbers = [
    `a step costs ${ms(cost.stepMs)} and ${ms(cost.prefillMs)} when it computes prompts, ${ms(cost.mixedMs)} more when it also generates, a prompt token ${ms(cost.prefillTokenMs)} and ${ms(1_000 * cost.attendedTokenMs)} per 1,000 tokens before it,`,
    `a generated token ${ms(cost.decodeTokenMs)} and ${ms(1_000 * cost.contextTokenMs)} per 1,000 tokens of context`,
    swap === undefined
      ? "nothing was swapped: the engine has no host tier"
      : `a token of context is ${kvTokenBytes.toFixed(0)} bytes; a transfer costs ${ms(swap.transferMs)} and moves ${gbPerS(swap.outBytesPerMs)} out, ${gbPerS(swap.inBytesPerMs)} in`,
  ];
  const rows = Object.entries(errors)
    .filter(([, { points }]) => points > 0)
    .map(([kind, { points, median, p95 }]: [string, FitError]) => [kind, points, percent(median), percent(p95)]);
  const table = formatTable(["held-out points", "count", "median error", "95 % within"], rows);
  return `${numbers.join("\n")}\n\n${table}`;
}

function ms(value: number): string {
  return `${value.toPrecision(3)} ms`;
}

function gbPerS(bytesPerMs: number): string {
  return `${(bytesPerMs / 1e6).toFixed(2)} GB/s`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
