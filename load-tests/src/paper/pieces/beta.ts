/** β of Algorithm 1: at which ratio of waiting to service a call is promoted. The paper gives no value. */
import type { Bench } from "../bench.ts";
import { loadPoint } from "../operating.ts";
import { describeProtocol, finite, steady } from "../protocols.ts";
import { fixed, type Piece, type Scope, type Section, type Table } from "../section.ts";
import { LOADS, playVariants, type VariantPoint, variantTable } from "../variants.ts";

const BETAS = ["never", 1, 2, 4, 8, 16, 32, 64, 128] as const;
/** So far above the knee that queues only grow. */
const HEAVY_OVERLOAD = { name: "heavy overload", factor: 3 } as const;

export const beta: Piece = {
  id: "beta",
  about: "β = ∞, 1, 2, 4 … 128: mean, tail, worst slowdown, promotions per call, in overload too",
  inDefault: false,
  run: async (bench, scope) => await Promise.all(scope.workloads.map((workload) => betasOf(bench, scope, workload))),
};

async function betasOf(bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const loads = scope.quick ? [LOADS[1]] : [...LOADS, HEAVY_OVERLOAD];
  const betas = scope.quick ? (["never", 8] as const) : BETAS;
  const tables: Table[] = [];
  const all: VariantPoint[] = [];
  const summary: (string | number)[][] = [];
  for (const { name, factor } of loads) {
    const at = await loadPoint(bench, scope, { workload }, factor);
    // A steady state has no overload: there it would only be named unstable.
    const protocols = [at.protocol, ...(scope.steady && factor < 1 ? [steady(scope, workload)] : [])];
    for (const protocol of protocols) {
      const common = { ...at, protocol };
      const variants = betas.map((value) => ({
        name: value === "never" ? "∞" : String(value),
        spec: { changes: { beta: value } },
      }));
      const played = await playVariants(bench, common, variants);
      all.push(...played);
      tables.push(variantTable(`${name}: ${common.ratePerS} programs/s, ${protocol.kind}`, played, "∞"));
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
    id: `beta-${workload}`,
    title: `β: ${workload}`,
    protocols: [
      describeProtocol(finite(scope, workload)),
      ...(scope.steady ? [describeProtocol(steady(scope, workload))] : []),
    ],
    notes: [],
    tables: [
      {
        title: "What β trades",
        head: [
          "load",
          "protocol",
          "β",
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
