/** What Algorithm 1 leaves open of promotion: the ratio from which on a call is, and how many may be at a time. */
import type { Bench } from "../bench.ts";
import { loadPoint } from "../operating.ts";
import { describeProtocol, finite, steady } from "../protocols.ts";
import { fixed, type Piece, type Scope, type Section, type Table } from "../section.ts";
import { LOADS, playVariants, type Variant, type VariantPoint, variantTable } from "../variants.ts";

interface Sweep {
  id: string;
  about: string;
  /** Of the workload's section; `symbol` heads the column that names the variants. */
  title: string;
  symbol: string;
  variants: readonly Variant[];
  /** Those of a quick run. */
  quick: readonly string[];
  /** Means are set in proportion to it. */
  base: string;
}

const BETAS = ["never", 1, 2, 4, 8, 16, 32, 64, 128] as const;
const SHARES = ["all", 0.02, 0.05, 0.1, 0.2, 0.4] as const;
/** So far above the knee that queues only grow. */
const HEAVY_OVERLOAD = { name: "heavy overload", factor: 3 } as const;

const sweeps: readonly Sweep[] = [
  {
    id: "beta",
    about: "β = ∞, 1, 2, 4 … 128: mean, tail, worst slowdown, promotions per call, in overload too",
    title: "β",
    symbol: "β",
    variants: BETAS.map((beta) => ({ name: beta === "never" ? "∞" : String(beta), spec: { changes: { beta } } })),
    quick: ["∞", "8"],
    base: "∞",
  },
  {
    id: "promoted",
    about: "places for promoted calls: all that are due (the paper), or a share of an engine's, in overload too",
    title: "Places for promoted calls",
    symbol: "share",
    variants: SHARES.map((promotedShare) => ({ name: String(promotedShare), spec: { changes: { promotedShare } } })),
    quick: ["all", "0.05"],
    base: "all",
  },
];

export const starvationPieces: readonly Piece[] = sweeps.map((sweep) => ({
  id: sweep.id,
  about: sweep.about,
  inDefault: false,
  run: async (bench, scope) =>
    await Promise.all(scope.workloads.map((workload) => sectionOf(sweep, bench, scope, workload))),
}));

async function sectionOf(sweep: Sweep, bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const { id, title, symbol, base } = sweep;
  const loads = scope.quick ? [LOADS[1]] : [...LOADS, HEAVY_OVERLOAD];
  const variants = sweep.variants.filter(({ name }) => !scope.quick || sweep.quick.includes(name));
  const tables: Table[] = [];
  const all: VariantPoint[] = [];
  const summary: (string | number)[][] = [];
  for (const { name, factor } of loads) {
    const at = await loadPoint(bench, scope, { workload }, factor);
    // A steady state has no overload: there it would only be named unstable.
    const protocols = [at.protocol, ...(scope.steady && factor < 1 ? [steady(scope, workload)] : [])];
    for (const protocol of protocols) {
      const common = { ...at, protocol };
      const played = await playVariants(bench, common, variants);
      all.push(...played);
      tables.push(variantTable(`${name}: ${common.ratePerS} programs/s, ${protocol.kind}`, played, base));
      for (const { name: value, point } of played)
        summary.push([
          name,
          protocol.kind,
          value,
          fixed(point.mean.mean),
          fixed(point.p99),
          fixed(point.slowdownWorst, 1),
          fixed(point.slowdowns.at(-1), 1),
          fixed(point.promotionsPerCall, 4),
        ]);
    }
  }
  return {
    id: `${id}-${workload}`,
    title: `${title}: ${workload}`,
    protocols: [
      describeProtocol(finite(scope, workload)),
      ...(scope.steady ? [describeProtocol(steady(scope, workload))] : []),
    ],
    notes: [],
    tables: [
      {
        title: `What is traded by ${symbol}`,
        head: [
          "load",
          "protocol",
          symbol,
          "mean s/token",
          "P99",
          "worst slowdown",
          "mean slowdown of the largest tenth",
          "promotions/call",
        ],
        rows: summary,
      },
      ...tables,
    ],
    plots: {},
    points: all.map(({ point }) => point),
  };
}
