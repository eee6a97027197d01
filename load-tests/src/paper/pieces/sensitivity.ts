/** What the conclusions hang on: each number that the paper leaves open, halved and doubled. */
import { sensitivities } from "@autellix/simulation";
import type { Bench } from "../bench.ts";
import { loadPoint } from "../operating.ts";
import { autellixOf } from "../paper-figures.ts";
import { describeProtocol } from "../protocols.ts";
import { meanCell, type Piece, percent, ratioCell, type Scope, type Section } from "../section.ts";

export const sensitivity: Piece = {
  id: "sensitivity",
  about: "think time, tool time, width, tail and sizes, halved and doubled; bursty arrivals",
  inDefault: false,
  run: async (bench, scope) =>
    scope.quick ? [] : await Promise.all(scope.workloads.map((workload) => sensitivitiesOf(bench, scope, workload))),
};

async function sensitivitiesOf(bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const common = await loadPoint(bench, scope, { workload }, 1);
  const systems = ["vllm-opt", "mlfq", autellixOf(workload)];
  const variants = [
    { name: "as frozen", change: {} },
    { name: "bursty arrivals", change: { arrivals: "bursty" as const } },
    ...sensitivities
      .filter(({ workloads }) => workloads.some((name) => name === workload))
      .map(({ name }) => ({ name, change: { sensitivity: name } })),
  ];
  const rows = await Promise.all(
    variants.map(async ({ name, change }) => ({
      name,
      points: await Promise.all(systems.map((system) => bench.point({ ...common, ...change, system }))),
    })),
  );
  return {
    id: `sensitivity-${workload}`,
    title: `What is left open, halved and doubled: ${workload}`,
    protocols: [describeProtocol(common.protocol)],
    notes: [
      `${common.ratePerS} programs/s for all, so a change of the work is a change of the load, too. A conclusion holds where the order of the systems does.`,
    ],
    tables: [
      {
        title: "",
        head: [
          "changed",
          ...systems.map((system) => `${system} s/token ± 95 %`),
          `${systems[0]} over ${systems.at(-1)}`,
          "work done",
        ],
        rows: rows.map(({ name, points }) => [
          name,
          ...points.map(meanCell),
          ratioCell(points[0]?.mean.mean, points.at(-1)?.mean.mean),
          percent(Math.min(...points.map(({ workShare }) => workShare))),
        ]),
      },
    ],
    plots: {},
    points: rows.flatMap(({ points }) => points),
  };
}
