/** Rates at which single points and sweeps are taken: parts of a system's knee, so no number is picked by hand. */
import type { Bench } from "./bench.ts";
import { roundRate } from "./knee.ts";
import { autellixOf, gridOf } from "./paper-figures.ts";
import { finite } from "./protocols.ts";
import type { Scope } from "./section.ts";
import type { PointSpec } from "./spec.ts";

export interface Operating {
  workload: string;
  /** The paper's own policy for the workload without it. */
  system?: string;
  /** s/token; the paper's 0.5 without it. */
  limit?: number;
}

/** The finite trace's knee of a system. A quick run takes the middle of the paper's axis: no search in CI. */
export async function kneeRateOf(bench: Bench, scope: Scope, { workload, system, limit = 0.5 }: Operating) {
  const grid = gridOf(workload);
  if (scope.quick) return grid[Math.floor(grid.length / 2)] ?? 1;
  const spec: Omit<PointSpec, "ratePerS"> = {
    workload,
    protocol: finite(scope, workload),
    system: system ?? autellixOf(workload),
    engines: 1,
    preset: scope.preset,
  };
  const { knee } = await bench.knee(spec, { grid, limit });
  return knee.kind === "none" ? knee.lowestRatePerS : knee.ratePerS;
}

/** @param factor part of the knee; above 1: overload. */
export async function loadPoint(bench: Bench, scope: Scope, operating: Operating, factor: number): Promise<PointSpec> {
  const { workload, system } = operating;
  return {
    workload,
    protocol: finite(scope, workload),
    ratePerS: roundRate((await kneeRateOf(bench, scope, operating)) * factor),
    system: system ?? autellixOf(workload),
    engines: 1,
    preset: scope.preset,
  };
}
