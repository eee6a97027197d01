/** Sweeps of one choice each, at rates that are parts of the knee: what the paper leaves open, and what we added. */

import type { Bench } from "../bench.ts";
import { loadPoint } from "../operating.ts";
import { describeProtocol, finite, steady } from "../protocols.ts";
import type { Piece, Scope, Section, Table } from "../section.ts";
import type { PointSpec } from "../spec.ts";
import { LOADS, playVariants, type Variant, type VariantPoint, variantTable } from "../variants.ts";

interface Sweep {
  id: string;
  title: string;
  about: string;
  note: string;
  /** Variants for a workload at an operating point; the first, or `base`, is what means are set in proportion to. */
  variants: (common: PointSpec) => readonly Variant[];
  base?: string;
  /** Which loads; all without it. */
  loads?: readonly string[];
  /** Which workloads of the scope; all without it. */
  workloads?: readonly string[];
  /** More than one engine: rates are for each of them. */
  engines?: number;
  /** The steady state beside the finite trace: for what only shows while arrivals go on. */
  steady?: boolean;
}

/** A variant that changes the system. */
function changed(name: string, changes: NonNullable<PointSpec["changes"]>, system?: string): Variant {
  return { name, spec: { changes, ...(system === undefined ? {} : { system }) } };
}

const WINDOWS = [1, 2, 4, 8, 16] as const;
const LEVELS = [3, 5, 7, 9, 12] as const;
const FACTORS = [1.5, 2, 4] as const;
/** Q1's upper end until the ladder has seen calls, ms; the runs follow the load from there. */
const CALIBRATION_FIRST = 1_000;

const sweeps: readonly Sweep[] = [
  {
    id: "windows",
    title: "Windows of N steps",
    about: "windows of N = 1 … 16 steps, with and without reserve",
    note: "N decode steps between two plans; the reserve fills a slot that frees inside the window.",
    base: "N = 8",
    variants: () => [
      ...WINDOWS.map((windowSteps) => changed(`N = ${windowSteps}`, { windowSteps })),
      changed("N = 8, no reserve", { windowSteps: 8, reserveCallsMax: 0 }),
      changed("N = 16, no reserve", { windowSteps: 16, reserveCallsMax: 0 }),
    ],
  },
  {
    id: "ladder",
    title: "Levels K and their factor",
    about: "number of levels and factor from level to level",
    note: "The top level has to reach the service of long programs: its lower end is p25 × (factor^(K−1) − 1) / (factor − 1).",
    base: "K = 7, ×2",
    variants: () =>
      LEVELS.flatMap((levels) =>
        FACTORS.map((factor) =>
          changed(`K = ${levels}, ×${factor}`, { calibration: { first: CALIBRATION_FIRST, levels, factor } }),
        ),
      ),
  },
  {
    id: "misfit",
    title: "The first call that does not fit: stop, or skip it",
    about: "strict stop at the first misfit (the paper) against skipping it",
    note: "`stop` is the paper's. `skip` lets smaller calls pass; a large one can wait longer.",
    base: "stop",
    variants: () => [changed("stop", { misfit: "stop" }), changed("skip", { misfit: "skip" })],
  },
  {
    id: "binding",
    title: "Binding on arrival, or late",
    about: "calls bound to an engine on arrival (the paper) or when one has room; 4 engines",
    note: "On four engines, each policy's rate for each of them.",
    base: "arrival",
    engines: 4,
    loads: ["at the knee", "overload"],
    workloads: ["sharegpt", "lats"],
    variants: () => [
      changed("arrival", { binding: "arrival" }),
      changed("late", { binding: "late" }),
      changed("arrival, sticky", { binding: "arrival", balancer: "sticky" }),
    ],
  },
  {
    id: "cache",
    title: "Prefix cache: none, the engine's LRU, the plan's order",
    about: "what the cache brings, and what an order of eviction by policy adds",
    note: "The baseline with the same caches stands beside it: what both gain is the cache's doing, not the policy's.",
    base: "lru",
    variants: (common) =>
      (["none", "lru", "policy"] as const).flatMap((cache) => [
        changed(cache, { cache }),
        ...(common.system === "vllm-opt" ? [] : [changed(`vllm-opt, ${cache}`, { cache }, "vllm-opt")]),
      ]),
  },
  {
    id: "plan-time",
    title: "Time of a plan: none, half, twice",
    about: "modelled time of planning × 0, ½, 1, 2",
    note: "The paper's own scheduler takes 17–22 % of its latency (fig. 17).",
    base: "×1",
    variants: () => [0, 0.5, 1, 2].map((planFactor) => ({ name: `×${planFactor}`, spec: { planFactor } })),
  },
];

async function play(bench: Bench, scope: Scope, sweep: Sweep, workload: string): Promise<Section> {
  const loads = LOADS.filter(({ name }) =>
    scope.quick ? name === "at the knee" : (sweep.loads?.includes(name) ?? true),
  );
  const engines = sweep.engines ?? 1;
  const tables: Table[] = [];
  const played: VariantPoint[] = [];
  for (const { name, factor } of loads) {
    const at = await loadPoint(bench, scope, { workload }, factor * engines);
    const protocols = [at.protocol, ...(sweep.steady && scope.steady ? [steady(scope, workload)] : [])];
    for (const protocol of protocols) {
      const common = { ...at, engines, protocol };
      const points = await playVariants(bench, common, sweep.variants(common));
      played.push(...points);
      tables.push(variantTable(`${name}: ${common.ratePerS} programs/s, ${protocol.kind}`, points, sweep.base));
    }
  }
  return {
    id: `${sweep.id}-${workload}`,
    title: `${sweep.title}: ${workload}`,
    protocols: [
      describeProtocol(finite(scope, workload)),
      ...(sweep.steady && scope.steady ? [describeProtocol(steady(scope, workload))] : []),
    ],
    notes: [sweep.note],
    tables,
    plots: {},
    points: played.map(({ point }) => point),
  };
}

export const sweepPieces: readonly Piece[] = sweeps.map((sweep) => ({
  id: sweep.id,
  about: sweep.about,
  inDefault: false,
  run: async (bench, scope) => {
    const workloads = scope.workloads.filter((workload) => sweep.workloads?.includes(workload) ?? true);
    return await Promise.all(workloads.map((workload) => play(bench, scope, sweep, workload)));
  },
}));
