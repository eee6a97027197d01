/**
 * Fig. 12 and 13: latency over the rate of arrivals, and the highest rate at the same latency, for each workload, system
 * and protocol; with waiting, swaps, cache hits and slowdown by size from the same points.
 */
import type { Line, Plot } from "../../svg.ts";
import type { Bench } from "../bench.ts";
import { DECILE_HEAD, decileCells, POINT_HEAD, pointCells } from "../columns.ts";
import { formatKnee, type Knee, rateOf } from "../knee.ts";
import { gridOf, type LatencyKind, paperLine, paperRateAt } from "../paper-figures.ts";
import type { PointResult } from "../point.ts";
import { describeProtocol, finite, steady } from "../protocols.ts";
import { type Piece, ratioCell, type Scope, type Section, type Table } from "../section.ts";
import type { Protocol } from "../spec.ts";

/** Latencies at which systems are compared, s/token: the paper's text, and those of fig. 15 and 18. */
export const LIMITS = [0.5, 1] as const;
const LIMIT_MAX = Math.max(...LIMITS);
const QUICK_RATES_MAX = 3;

export const latency: Piece = {
  id: "fig12",
  about: "fig. 12 and 13: latency over rate, tails, rates at 0.5 and 1.0 s/token, slowdown by size",
  inDefault: true,
  run: async (bench, scope) => {
    const protocols = (workload: string) => [
      ...(scope.finite ? [finite(scope, workload)] : []),
      ...(scope.steady ? [steady(scope, workload)] : []),
    ];
    const sections = scope.workloads.map((workload) =>
      Promise.all(protocols(workload).map((protocol) => sectionOf(bench, scope, workload, protocol))),
    );
    return (await Promise.all(sections)).flat();
  },
};

interface Curve {
  system: string;
  /** At the rates of the grid, up to the last one that was played. */
  curve: PointResult[];
  /** Those, and the ones near the knees. */
  points: PointResult[];
  knees: Knee[];
}

async function sectionOf(bench: Bench, scope: Scope, workload: string, protocol: Protocol): Promise<Section> {
  const grid = scope.quick ? quickGrid(gridOf(workload)) : gridOf(workload);
  const curves = await Promise.all(
    scope.systems.map(async (system): Promise<Curve> => {
      const spec = { workload, protocol, system, engines: 1, preset: scope.preset };
      const curve = await bench.curve(spec, grid, LIMIT_MAX);
      // The search begins where the curve has been: it takes the same points from the bench, and adds some near the knee.
      const searches = scope.quick ? [] : await Promise.all(LIMITS.map((limit) => bench.knee(spec, { grid, limit })));
      const points = byRate([...curve, ...searches.flatMap((search) => search.points)]);
      return { system, curve, points, knees: searches.map(({ knee }) => knee) };
    }),
  );
  const name = `${workload}-${protocol.kind}`;
  return {
    id: name,
    title: `Latency over rate: ${workload}, ${protocol.kind === "finite" ? "finite trace" : "steady state"} (fig. 12, 13)`,
    protocols: [describeProtocol(protocol)],
    notes: [],
    tables: [
      ...(scope.quick ? [] : [kneeTable(workload, curves)]),
      lowLoadTable(curves),
      decileTable(curves),
      pointTable(curves),
    ],
    plots: plotsOf(name, workload, protocol, curves),
    points: curves.flatMap((curve) => curve.points),
  };
}

/** Ascending; each rate once. */
function byRate(points: readonly PointResult[]): PointResult[] {
  const rates = new Map(points.map((point) => [point.spec.ratePerS, point]));
  return [...rates.values()].sort((a, b) => a.spec.ratePerS - b.spec.ratePerS);
}

function quickGrid(grid: readonly number[]): number[] {
  const every = Math.ceil(grid.length / QUICK_RATES_MAX);
  return grid.filter((_, index) => index % every === 0);
}

/** Highest rates, ours and the paper's, and as ratios over the best fair baseline and over plain vLLM. */
function kneeTable(workload: string, curves: readonly Curve[]): Table {
  const base = (system: string, index: number) => {
    const knee = curves.find((curve) => curve.system === system)?.knees[index];
    return knee && rateOf(knee);
  };
  const rows = curves.map(({ system, knees }) => [
    system,
    ...LIMITS.flatMap((limit, index) => {
      const knee = knees[index];
      const rate = knee && rateOf(knee);
      const [paper, paperBase] = [paperRateAt(workload, system, limit), paperRateAt(workload, "vllm-opt", limit)];
      return [
        knee ? formatKnee(knee) : "–",
        ratioCell(rate, base("vllm-opt", index)),
        paper === undefined ? "–" : paper.toPrecision(3),
        ratioCell(paper, paperBase),
        ratioCell(rate, base("vllm", index)),
      ];
    }),
  ]);
  const head = LIMITS.flatMap((limit) => [
    `programs/s at ${limit.toFixed(1)} s/token`,
    "over vllm-opt",
    "paper",
    "paper over vllm-opt",
    "over vllm",
  ]);
  return { title: "Highest rate at the same mean latency (bisection, 2 %)", head: ["system", ...head], rows };
}

/** What a scheduler costs when there is no queue: the lowest rate of the grid. */
function lowLoadTable(curves: readonly Curve[]): Table {
  const base = curves.find(({ system }) => system === "vllm-opt")?.curve[0];
  const rows = curves.flatMap(({ system, curve: [first] }) =>
    first
      ? [[system, first.spec.ratePerS, first.mean.mean.toFixed(4), ratioCell(first.mean.mean, base?.mean.mean)]]
      : [],
  );
  return { title: "Low load", head: ["system", "programs/s", "mean s/token", "over vllm-opt"], rows };
}

/** At the highest rate that every system reached: the same programs for all. */
function decileTable(curves: readonly Curve[]): Table {
  const shared = Math.min(...curves.map(({ curve }) => curve.length)) - 1;
  const rows = curves.flatMap(({ system, curve }) => {
    const own = curve.at(-1);
    const at = curve[shared];
    const cells = (point: PointResult) => [system, point.spec.ratePerS, ...decileCells(point)];
    return [...(at ? [cells(at)] : []), ...(own && own !== at ? [cells(own)] : [])];
  });
  return {
    title:
      "Mean slowdown (response / response alone) by tenth of program size, at the highest rate that all reached and at each one's own last",
    head: ["system", "programs/s", ...DECILE_HEAD],
    rows,
  };
}

function pointTable(curves: readonly Curve[]): Table {
  const rows = curves.flatMap(({ system, points }) =>
    points.map((point) => [system, String(point.spec.ratePerS), ...pointCells(point)]),
  );
  return { title: "All points", head: ["system", "programs/s", ...POINT_HEAD], rows };
}

function plotsOf(name: string, workload: string, protocol: Protocol, curves: readonly Curve[]): Record<string, Plot> {
  const title = (what: string) => `${workload}, ${protocol.kind}: ${what}`;
  const plot = (what: string, yLabel: string, lines: Line[], yScale: "linear" | "log"): Plot => ({
    title: title(what),
    xLabel: "programs/s",
    yLabel,
    lines,
    yScale,
  });
  const lines = (read: (point: PointResult) => number | undefined): Line[] =>
    curves.map(({ system, points }, colour) => ({
      name: system,
      colour,
      dashed: false,
      points: points.flatMap((point) => {
        const y = read(point);
        return y === undefined ? [] : [{ x: point.spec.ratePerS, y }];
      }),
    }));
  const withPaper = (kind: LatencyKind, read: (point: PointResult) => number | undefined) => [
    ...lines(read),
    ...curves.flatMap(({ system }, colour) => paperLine(workload, system, kind, colour)),
  ];
  return {
    [`${name}-mean`]: plot(
      "mean latency",
      "s/token",
      withPaper("mean", (p) => p.mean.mean),
      "log",
    ),
    [`${name}-p95`]: plot(
      "95th percentile",
      "s/token",
      withPaper("p95", (p) => p.p95),
      "log",
    ),
    [`${name}-p99`]: plot(
      "99th percentile",
      "s/token",
      withPaper("p99", (p) => p.p99),
      "log",
    ),
    [`${name}-waiting`]: plot(
      "waiting share",
      "% of waiting and service",
      lines((p) => 100 * p.waitingShare),
      "linear",
    ),
    [`${name}-swaps`]: plot(
      "swap transfers",
      "transfers a run",
      lines((p) => p.engine.swapTransfers),
      "linear",
    ),
    [`${name}-hits`]: plot(
      "prefix cache hits",
      "% of prompt tokens",
      lines((p) => 100 * p.hitRate),
      "linear",
    ),
    [`${name}-work`]: plot(
      "work completed",
      "% of offered work",
      lines((p) => 100 * p.workShare),
      "linear",
    ),
  };
}
