/**
 * The speed of the machine around a run. One that it shares with others changes within minutes (0.7 to 1.3 of its mean was
 * seen), and a preset that was calibrated before is wrong by as much: a run is simulated with what the engine cost right
 * before and right after it.
 */
import type { CostModel, EnginePreset, SwapCost } from "@autellix/engines/cost";
import { fit } from "../calibrate/fit.ts";
import type { Samples, StepPoint } from "../calibrate/samples.ts";
import { median } from "../stats.ts";

/** Median of the steps' times over those of the first calibration's same steps: above 1 the machine is slower now. */
export interface Pace {
  before: number;
  after: number;
}

/** Every time is the mean of both fits': one fit of all points would follow one half of them and call the other noise. */
export function presetAround(preset: EnginePreset, before: Samples, after: Samples): EnginePreset {
  const [one, two] = [fit(before), fit(after)];
  const costs = Object.entries(one.cost).map(([name, ms]) => [name, (ms + two.cost[name as keyof CostModel]) / 2]);
  const cost = { ...(Object.fromEntries(costs) as Required<CostModel>), planMs: preset.cost.planMs };
  return { ...preset, cost, swap: one.swap && two.swap ? meanSwap(one.swap, two.swap) : preset.swap };
}

function meanSwap(one: SwapCost, two: SwapCost): SwapCost {
  return {
    outBytesPerMs: 2 / (1 / one.outBytesPerMs + 1 / two.outBytesPerMs),
    inBytesPerMs: 2 / (1 / one.inBytesPerMs + 1 / two.inBytesPerMs),
    transferMs: (one.transferMs + two.transferMs) / 2,
    copiesPerBlock: one.copiesPerBlock,
    copyMs: (one.copyMs + two.copyMs) / 2,
  };
}

/** @throws RangeError when no step is in both. */
export function paceOf(first: Samples, now: Samples): number {
  const firstMs = new Map(first.steps.map((point) => [nameOf(point), point.durationMs]));
  const ratios = now.steps.flatMap((point) => {
    const ms = firstMs.get(nameOf(point));
    return ms === undefined ? [] : [point.durationMs / ms];
  });
  if (ratios.length === 0) throw new RangeError("no step was measured both times");
  return median(ratios);
}

function nameOf({ kind, prefillTokens, decodeTokens, contextTokens, attendedTokens }: StepPoint): string {
  return [kind, prefillTokens, decodeTokens, contextTokens, attendedTokens].join(" ");
}
