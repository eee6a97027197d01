/** The length of a finite trace's interval: the paper does not state its own, and it sets every rate in overload. */
import type { Bench } from "../bench.ts";
import { formatKnee, type Knee, rateOf } from "../knee.ts";
import { autellixOf, gridOf, paperRateAt } from "../paper-figures.ts";
import { describeProtocol, finite } from "../protocols.ts";
import { type Piece, ratioCell, type Scope, type Section } from "../section.ts";

const FACTORS = [0.5, 1, 2, 4] as const;
const LIMITS = [0.5, 1] as const;

export const interval: Piece = {
  id: "interval",
  about: "length of the finite trace × ½, 1, 2, 4: rates at the same latency, and their ratios",
  inDefault: false,
  run: async (bench, scope) => {
    const known = scope.quick ? [] : scope.workloads.filter((workload) => paperRateAt(workload, "vllm-opt", 0.5));
    return await Promise.all(known.map((workload) => intervalsOf(bench, scope, workload)));
  },
};

async function intervalsOf(bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const systems = ["vllm-opt", "mlfq", autellixOf(workload)];
  const rows = await Promise.all(
    FACTORS.flatMap((factor) =>
      LIMITS.map(async (limit) => {
        const protocol = finite(scope, workload, factor);
        const searches = await Promise.all(
          systems.map((system) =>
            bench.knee(
              { workload, protocol, system, engines: 1, preset: scope.preset },
              { grid: gridOf(workload), limit },
            ),
          ),
        );
        return { protocol, limit, knees: searches.map(({ knee }) => knee) };
      }),
    ),
  );
  const ratio = (knees: readonly Knee[], at: number) => {
    const [knee, base] = [knees[at], knees[0]];
    return knee && base ? ratioCell(rateOf(knee), rateOf(base)) : "–";
  };
  const paperRatio = (limit: number) =>
    ratioCell(paperRateAt(workload, autellixOf(workload), limit), paperRateAt(workload, "vllm-opt", limit));
  return {
    id: `interval-${workload}`,
    title: `Length of the finite trace: ${workload}`,
    protocols: FACTORS.map((factor) => describeProtocol(finite(scope, workload, factor))),
    notes: ["Programs = rate × interval. All of them are completed: the share of work is 100 % in every cell."],
    tables: [
      {
        title: "Highest rate at the same mean latency",
        head: [
          "interval s",
          "at s/token",
          ...systems.flatMap((system, index) => (index === 0 ? [system] : [system, `over ${systems[0]}`])),
          "paper (Autellix over vLLM-opt)",
        ],
        rows: rows.map(({ protocol, limit, knees }) => [
          protocol.kind === "finite" ? String(protocol.intervalS) : "–",
          limit.toFixed(1),
          ...knees.flatMap((knee, index) =>
            index === 0 ? [formatKnee(knee)] : [formatKnee(knee), ratio(knees, index)],
          ),
          paperRatio(limit),
        ]),
      },
    ],
    plots: {},
    points: [],
  };
}
