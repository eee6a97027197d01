/** Fig. 4, 5 and 6: how much of a program's time is waiting, with how many calls in the engine, and who waits. */
import type { Bench } from "../bench.ts";
import { loadPoint } from "../operating.ts";
import { autellixOf, stated } from "../paper-figures.ts";
import type { PointResult } from "../point.ts";
import { describeProtocol, finite } from "../protocols.ts";
import { fixed, meanCell, type Piece, percent, type Scope, type Section } from "../section.ts";
import { CALL_CLASSES, type CallClass } from "../summary.ts";

/** Parts of the rate at which the baseline's mean is 1 s/token: the paper does not say what its load 1 is. */
const LOADS = [0.5, 0.9] as const;
const BASELINE = "vllm-opt";
const LIMIT = 1;

export const waiting: Piece = {
  id: "fig4-6",
  about: "fig. 4, 5, 6: waiting share at load 0.5 and 0.9, calls in the engine, waiting by program size",
  inDefault: false,
  run: async (bench, scope) => [
    await shares(bench, scope),
    ...(scope.workloads.includes("lats") ? [await byCalls(bench, scope)] : []),
  ],
};

async function pointsAt(bench: Bench, scope: Scope, workload: string, load: number): Promise<PointResult[]> {
  const common = await loadPoint(bench, scope, { workload, system: BASELINE, limit: LIMIT }, load);
  const systems = [BASELINE, "mlfq", autellixOf(workload)];
  return await Promise.all(systems.map((system) => bench.point({ ...common, system })));
}

async function shares(bench: Bench, scope: Scope): Promise<Section> {
  const rows = await Promise.all(
    scope.workloads.flatMap((workload) =>
      LOADS.map(async (load) => ({ workload, load, points: await pointsAt(bench, scope, workload, load) })),
    ),
  );
  return {
    id: "fig4-5",
    title: "Waiting share and calls in the engine (fig. 4, 5)",
    protocols: scope.workloads.map((workload) => `${workload}: ${describeProtocol(finite(scope, workload))}`),
    notes: [
      `Load 1 is read as the highest rate at which ${BASELINE} has a mean of at most ${LIMIT.toFixed(1)} s/token. The paper's waiting shares are FCFS's; its fig. 4 has about ${stated.concurrencyGain} more calls in the engine under Autellix.`,
    ],
    tables: [
      {
        title: "",
        head: [
          "workload",
          "load",
          "programs/s",
          "system",
          "waiting",
          "paper",
          "calls in the engine",
          "calls waiting",
          "mean s/token",
          "work done",
        ],
        rows: rows.flatMap(({ workload, load, points }) =>
          points.map((point) => [
            workload,
            load.toFixed(1),
            String(point.spec.ratePerS),
            point.spec.system,
            percent(point.waitingShare),
            point.spec.system === BASELINE ? percent(stated.waitingShare[workload]?.[load]) : "–",
            fixed(point.callsInEngineMean, 1),
            fixed(point.waitingCallsMean, 1),
            meanCell(point),
            percent(point.workShare),
          ]),
        ),
      },
    ],
    plots: {},
    points: rows.flatMap(({ points }) => points),
  };
}

/** Fig. 6: waiting over execution of programs by their number of calls. */
async function byCalls(bench: Bench, scope: Scope): Promise<Section> {
  const points = await pointsAt(bench, scope, "lats", 0.9);
  const names = CALL_CLASSES.map((upTo, index) => {
    const from = (CALL_CLASSES[index - 1] ?? 0) + 1;
    return upTo === Number.POSITIVE_INFINITY ? `${from} calls and more` : `${from}–${upTo} calls`;
  });
  const ratio = ({ programs, waitingMs, serviceMs }: CallClass) =>
    programs === 0 ? "–" : `${fixed(waitingMs / Math.max(1e-9, serviceMs), 2)} (${programs})`;
  return {
    id: "fig6",
    title: "Waiting over execution by number of calls, LATS (fig. 6)",
    protocols: [describeProtocol(finite(scope, "lats"))],
    notes: [
      `Load 0.9. In brackets: programs. The paper: ${Object.entries(stated.waitByCalls)
        .map(
          ([calls, by]) =>
            `${calls}: ${Object.entries(by)
              .map(([system, value]) => `${system} ${value}`)
              .join(", ")}`,
        )
        .join("; ")}.`,
    ],
    tables: [
      {
        title: "",
        head: ["system", ...names, "work done"],
        rows: points.map((point) => [point.spec.system, ...point.callClasses.map(ratio), percent(point.workShare)]),
      },
    ],
    plots: {},
    points,
  };
}
