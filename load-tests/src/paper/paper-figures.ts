/**
 * The paper's own curves, digitised from its figures, and the numbers of its text: what ours are set beside.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import type { Line } from "../svg.ts";

const curve = z.array(z.tuple([z.number(), z.number()]));
const curves = z.record(z.string(), z.record(z.string(), curve));
const breakdown = z.object({
  exec: z.number(),
  sched: z.number(),
  swap: z.number(),
  wait: z.number(),
  total: z.number(),
});

const schema = z.object({
  note: z.string(),
  fig12_avg_latency_single_engine: curves,
  fig13_tail_8B: curves,
  fig14_multi_engine: curves,
  fig15_scalability_max_rate_at_SLO: z.record(z.string(), z.record(z.string(), z.number())),
  fig16_makespan_s: z.record(z.string(), z.record(z.string(), z.number().nullable())),
  fig17_breakdown_s_per_token: z.record(z.string(), z.record(z.string(), breakdown)),
  fig18_simulation: curves,
  fig19a_swap: z.record(
    z.string(),
    z.object({ vLLM_s: z.number(), Autellix_s: z.number(), vLLM_swaps: z.number(), Autellix_swaps: z.number() }),
  ),
});

export const paper = schema.parse(
  JSON.parse(readFileSync(new URL("../../data/paper-figures.json", import.meta.url), "utf8")),
);

/** The paper's name of a workload in its figures. */
const WORKLOADS: Readonly<Record<string, string>> = {
  sharegpt: "ShareGPT",
  bfcl: "BFCL",
  lats: "LATS",
  mixed: "Mixed",
};

/** The paper's name of a system; PLAS and ATLAS are both "Autellix" there. */
const SYSTEMS: Readonly<Record<string, string>> = {
  vllm: "vLLM",
  "vllm-opt": "vLLM-opt",
  mlfq: "MLFQ",
  plas: "Autellix",
  atlas: "Autellix",
};

/** What the paper runs on a workload: ATLAS where programs have threads, else PLAS. */
export function autellixOf(workload: string): "plas" | "atlas" {
  return workload === "sharegpt" || workload === "bfcl" ? "plas" : "atlas";
}

export type LatencyKind = "mean" | "p95" | "p99";

/** The paper's curve of a system, [programs/s, s/token]; none for what it did not run. 8B model. */
export function paperCurve(
  workload: string,
  system: string,
  kind: LatencyKind,
): readonly [number, number][] | undefined {
  const name = WORKLOADS[workload];
  const theirs = SYSTEMS[system];
  if (!name || !theirs || (theirs === "Autellix" && system !== autellixOf(workload))) return undefined;
  if (kind === "mean") return paper.fig12_avg_latency_single_engine[`${name} 8B`]?.[theirs];
  return paper.fig13_tail_8B[`${name} ${kind.toUpperCase()}`]?.[theirs];
}

/** The same as a dashed line in the colour of our system. */
export function paperLine(workload: string, system: string, kind: LatencyKind, colour: number): Line[] {
  const theirs = paperCurve(workload, system, kind);
  if (!theirs) return [];
  return [{ name: `${SYSTEMS[system]} (paper)`, dashed: true, colour, points: theirs.map(([x, y]) => ({ x, y })) }];
}

/**
 * Rates of the paper's axes in fig. 12, 8B. A curve's last point is often where the drawing was cut, no sample, so
 * only rates that two systems share are taken, and no more than two of a neighbourhood.
 */
const GRIDS: Readonly<Record<string, readonly number[]>> = {
  sharegpt: [0.25, 0.5, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4],
  bfcl: [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9],
  lats: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35],
  mixed: [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75],
};

/** Of workloads that the paper does not have: each twice the one before. */
const OWN_GRID = [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6];

export function gridOf(workload: string): readonly number[] {
  return GRIDS[workload] ?? OWN_GRID;
}

/** Max rate of the paper's curve at a limit, by a straight line between its points. `undefined`: never crosses it. */
export function paperRateAt(workload: string, system: string, limit: number): number | undefined {
  const theirs = paperCurve(workload, system, "mean");
  return theirs && crossing(theirs, limit);
}

/** Where a curve first crosses a value from below. */
export function crossing(points: readonly (readonly [number, number])[], limit: number): number | undefined {
  for (const [index, [x, y]] of points.entries()) {
    const next = points[index + 1];
    if (!next) return undefined;
    if (y <= limit && next[1] > limit) return x + ((limit - y) / (next[1] - y)) * (next[0] - x);
  }
  return undefined;
}

/** Numbers that the paper's text or its other figures state (fig. 4 to 7, §6). */
export const stated = {
  /** Fig. 5: waiting over waiting and execution, FCFS, at two loads. */
  waitingShare: {
    sharegpt: { 0.5: 0.57, 0.9: 0.8 },
    bfcl: { 0.5: 0.39, 0.9: 0.87 },
    lats: { 0.5: 0.64, 0.9: 0.91 },
  } as Readonly<Record<string, Readonly<Record<string, number>>>>,
  /** Fig. 4: calls in the engine, more than under FCFS. */
  concurrencyGain: 10,
  /** Fig. 6: waiting over execution of MCTS programs, by their number of calls. */
  waitByCalls: {
    "≤ 91 calls": { "vllm-opt": "4.7–6.0", mlfq: "7–9", atlas: "0.34–0.59" },
    "92–141 calls": { "vllm-opt": "5.0", mlfq: "6.05", atlas: "5.7" },
  } as Readonly<Record<string, Readonly<Record<string, string>>>>,
} as const;
