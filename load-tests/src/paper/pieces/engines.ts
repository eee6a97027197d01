/** Fig. 14 and 15: load balancers on four engines, and how the highest rate grows with replicas. */
import type { Bench } from "../bench.ts";
import { POINT_HEAD, pointCells } from "../columns.ts";
import { formatKnee, roundRate } from "../knee.ts";
import { autellixOf, gridOf, paper } from "../paper-figures.ts";
import { describeProtocol, finite } from "../protocols.ts";
import { type Piece, ratioCell, type Scope, type Section } from "../section.ts";

/** Our names of the balancers, and the paper's. */
const BALANCERS = {
  locality: "Autellix",
  "least-used": "LeastUsed",
  "round-robin": "RoundRobin",
  sticky: undefined,
} as const;
const ENGINES = 4;
/** The paper's workloads in fig. 14, and the rates of its axes. */
const RATES: Readonly<Record<string, readonly number[]>> = {
  sharegpt: [2, 4, 6, 8, 10, 12, 15, 18],
  lats: [0.4, 0.8, 1, 1.5, 3],
};
const PAPER_PLOT: Readonly<Record<string, string>> = { sharegpt: "ShareGPT 4x8B avg", lats: "LATS 4x8B avg" };
const LIMIT_MAX = 1;

export const balancersPiece: Piece = {
  id: "fig14",
  about: `fig. 14: load balancers on ${ENGINES} engines`,
  inDefault: false,
  run: async (bench, scope) => {
    const workloads = scope.workloads.filter((workload) => RATES[workload]);
    return await Promise.all(workloads.map((workload) => balancersOf(bench, scope, workload)));
  },
};

async function balancersOf(bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const all = RATES[workload] ?? [];
  const rates = scope.quick ? all.slice(0, 1) : all;
  const curves = await Promise.all(
    Object.entries(BALANCERS).map(async ([balancer, theirs]) => {
      const spec = {
        workload,
        protocol: finite(scope, workload),
        system: autellixOf(workload),
        changes: { balancer },
        engines: ENGINES,
        preset: scope.preset,
      };
      return { balancer, theirs, points: await bench.curve(spec, rates, LIMIT_MAX) };
    }),
  );
  const theirCurve = (name: string | undefined) =>
    (name === undefined ? [] : paper.fig14_multi_engine[PAPER_PLOT[workload] ?? ""]?.[name]) ?? [];
  return {
    id: `fig14-${workload}`,
    title: `Load balancers on ${ENGINES} engines: ${workload}, ${autellixOf(workload)} (fig. 14)`,
    protocols: [describeProtocol(finite(scope, workload))],
    notes: ["`locality` is Algorithm 2; `sticky` pins a program from its first call."],
    tables: [
      {
        title: "",
        head: ["balancer", "programs/s", ...POINT_HEAD],
        rows: curves.flatMap(({ balancer, points }) =>
          points.map((point) => [balancer, String(point.spec.ratePerS), ...pointCells(point)]),
        ),
      },
    ],
    plots: {
      [`fig14-${workload}`]: {
        title: `${workload} on ${ENGINES} engines, finite: mean latency`,
        xLabel: "programs/s",
        yLabel: "s/token",
        yScale: "log",
        lines: [
          ...curves.map(({ balancer, points }, colour) => ({
            name: balancer,
            colour,
            points: points.map((point) => ({ x: point.spec.ratePerS, y: point.mean.mean })),
          })),
          ...curves.flatMap(({ theirs }, colour) => {
            const points = theirCurve(theirs).map(([x, y]) => ({ x, y }));
            return points.length === 0 ? [] : [{ name: `${theirs} (paper)`, colour, dashed: true, points }];
          }),
        ],
      },
    },
    points: curves.flatMap(({ points }) => points),
  };
}

const REPLICAS = [1, 2, 4, 8] as const;
const LIMITS = [0.3, 0.5, 1] as const;
/** Many engines' runs are long; this is finer than the claim needs. */
const TOLERANCE = 0.04;

export const replicas: Piece = {
  id: "fig15",
  about: "fig. 15: highest rate on 1, 2, 4 and 8 engines, by balancer",
  inDefault: false,
  run: async (bench, scope) => {
    if (scope.quick || !scope.workloads.includes("sharegpt")) return [];
    return [await replicasOf(bench, scope, "sharegpt")];
  },
};

async function replicasOf(bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const balancers = ["locality", "least-used", "round-robin"] as const;
  const cells = await Promise.all(
    REPLICAS.flatMap((engines) =>
      balancers.map(async (balancer) => {
        const spec = {
          workload,
          protocol: finite(scope, workload),
          system: autellixOf(workload),
          changes: { balancer },
          engines,
          preset: scope.preset,
        };
        const grid = gridOf(workload).map((rate) => roundRate(rate * engines));
        const search = (limit: number) => bench.knee(spec, { grid: grid.slice(4), limit, tolerance: TOLERANCE });
        const searches = await Promise.all(LIMITS.map(search));
        return { engines, balancer, knees: searches.map(({ knee }) => knee) };
      }),
    ),
  );
  const rateAt = (engines: number, balancer: string, index: number) => {
    const knee = cells.find((cell) => cell.engines === engines && cell.balancer === balancer)?.knees[index];
    return knee?.kind === "at" ? knee.ratePerS : undefined;
  };
  return {
    id: "fig15",
    title: `Replicas: highest rate at the same mean latency, ${workload} (fig. 15)`,
    protocols: [describeProtocol(finite(scope, workload))],
    notes: [
      "All programs of a finite trace are completed: the share of work is 100 % in every cell. The speed-up is over one engine with the same balancer.",
    ],
    tables: LIMITS.map((limit, index) => ({
      title: `at ${limit} s/token`,
      head: [
        "engines",
        ...balancers.flatMap((balancer) => [balancer, "speed-up"]),
        "locality over round-robin",
        "paper (locality)",
        "paper's speed-up",
      ],
      rows: REPLICAS.map((engines) => {
        const theirs = paper.fig15_scalability_max_rate_at_SLO[limit === 1 ? "1.0" : String(limit)];
        return [
          engines,
          ...balancers.flatMap((balancer) => {
            const knee = cells.find((cell) => cell.engines === engines && cell.balancer === balancer)?.knees[index];
            return [
              knee ? formatKnee(knee) : "–",
              ratioCell(rateAt(engines, balancer, index), rateAt(1, balancer, index)),
            ];
          }),
          ratioCell(rateAt(engines, "locality", index), rateAt(engines, "round-robin", index)),
          theirs?.[String(engines)] ?? "–",
          ratioCell(theirs?.[String(engines)], theirs?.["1"]),
        ];
      }),
    })),
    plots: {},
    points: [],
  };
}
