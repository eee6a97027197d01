/** Columns that every table of points has: no latency without the share of work that was completed. */
import type { Cell } from "../table.ts";
import type { PointResult } from "./point.ts";
import { fixed, meanCell, percent } from "./section.ts";

export const POINT_HEAD = [
  "mean s/token ± 95 %",
  "P95",
  "P99",
  "waiting",
  "work done",
  "worst slowdown",
  "hit rate",
  "swap transfers",
  "preemptions/call",
  "promotions/call",
  "batch",
  "programs",
  "wall s",
] as const;

export function pointCells(point: PointResult): Cell[] {
  return [
    meanCell(point),
    fixed(point.p95),
    fixed(point.p99),
    percent(point.waitingShare),
    percent(point.workShare),
    fixed(point.slowdownWorst, 1),
    percent(point.hitRate),
    Math.round(point.engine.swapTransfers),
    fixed(point.preemptionsPerCall),
    fixed(point.promotionsPerCall),
    fixed(point.engine.batchMean, 1),
    `${point.programs} (${point.seeds.length} seeds)`,
    fixed(point.wallS, 1),
  ];
}

const DECILE_NAMES = ["smallest", "2", "3", "4", "5", "6", "7", "8", "9", "largest"] as const;
export const DECILE_HEAD = [...DECILE_NAMES.map((name) => `tenth ${name}`), "worst", "work done"] as const;

/** Mean slowdown of each tenth of the programs by size: who pays for a low mean. */
export function decileCells(point: PointResult): Cell[] {
  return [
    ...point.slowdowns.map((slowdown) => fixed(slowdown, 1)),
    fixed(point.slowdownWorst, 1),
    percent(point.workShare),
  ];
}
