/** Fig. 16 to 19a: makespan, breakdown of latency, clairvoyant SRPT, swaps by block and by call. */
import { POINT_HEAD, pointCells } from "../columns.ts";
import { formatKnee, rateOf } from "../knee.ts";
import { autellixOf, crossing, gridOf, paper } from "../paper-figures.ts";
import type { PointResult } from "../point.ts";
import { describeProtocol, finite } from "../protocols.ts";
import { fixed, type Piece, percent, ratioCell } from "../section.ts";

const MAKESPAN_PROGRAMS = [1_000, 2_000, 4_000] as const;
/** Above every system's knee on the mix: a makespan of a system that keeps up only says when the last program came. */
const MAKESPAN_RATE = 1;
const MAKESPAN_SYSTEMS = {
  vllm: "vLLM",
  "vllm-opt": "vLLM-opt",
  mlfq: "MLFQ",
  plas: undefined,
  atlas: "Autellix",
} as const;

export const makespan: Piece = {
  id: "fig16",
  about: "fig. 16: makespan of 1,000, 2,000 and 4,000 programs",
  inDefault: false,
  run: async (bench, scope) => {
    const workload = "mixed";
    const sizes = scope.quick ? [] : MAKESPAN_PROGRAMS;
    const rows = await Promise.all(
      sizes.flatMap((programs) =>
        Object.entries(MAKESPAN_SYSTEMS).map(async ([system, theirs]) => {
          const protocol = { kind: "count", programs } as const;
          const spec = { workload, protocol, ratePerS: MAKESPAN_RATE, system, engines: 1, preset: scope.preset };
          return { programs, theirs, point: await bench.point(spec) };
        }),
      ),
    );
    const base = (programs: number) =>
      rows.find((row) => row.programs === programs && row.point.spec.system === "vllm-opt")?.point.makespanS;
    if (rows.length === 0) return [];
    return [
      {
        id: "fig16",
        title: `Makespan: ${workload} at ${MAKESPAN_RATE} programs/s (fig. 16)`,
        protocols: ["finite trace: so many programs arrive and run to their end"],
        notes: [
          "The digest of the paper names neither workload nor rate of its fig. 16: only the proportions can be set side by side.",
        ],
        tables: [
          {
            title: "",
            head: [
              "programs",
              "system",
              "makespan s",
              "over vllm-opt",
              "paper s",
              "paper over vLLM-opt",
              ...POINT_HEAD,
            ],
            rows: rows.map(({ programs, theirs, point }) => {
              const their = theirs && paper.fig16_makespan_s[String(programs)];
              return [
                String(programs),
                point.spec.system,
                Math.round(point.makespanS),
                ratioCell(point.makespanS, base(programs)),
                (theirs && their?.[theirs]) ?? "–",
                ratioCell((theirs && their?.[theirs]) ?? undefined, their?.["vLLM-opt"] ?? undefined),
                ...pointCells(point),
              ];
            }),
          },
        ],
        plots: {},
        points: rows.map(({ point }) => point),
      },
    ];
  },
};

/** Rates near those at which the paper's curves have the totals of its breakdown. */
const BREAKDOWN_RATES = { sharegpt: { name: "ShareGPT", rate: 1.75 }, lats: { name: "LATS", rate: 0.125 } } as const;

/**
 * A program's latency per token in parts. Swaps hold up steps, so they are in service; a plan holds up all that are in
 * the batch and is nobody's service, so it is in waiting.
 */
function parts(point: PointResult) {
  const total = point.mean.mean;
  const { busyMs, planMs, swapMs } = point.engine;
  const waiting = total * point.waitingShare;
  const service = total - waiting;
  const perBusyMs = service / Math.max(1e-9, busyMs);
  const swap = Math.min(service, swapMs * perBusyMs);
  const sched = Math.min(waiting, planMs * perBusyMs);
  return { exec: service - swap, sched, swap, wait: waiting - sched, total };
}

export const breakdown: Piece = {
  id: "fig17",
  about: "fig. 17: execution, scheduling, swap and waiting as parts of latency",
  inDefault: false,
  run: async (bench, scope) => {
    const wanted = Object.entries(BREAKDOWN_RATES).filter(([workload]) => scope.workloads.includes(workload));
    const rows = await Promise.all(
      wanted.flatMap(([workload, { name, rate }]) =>
        [autellixOf(workload), "mlfq", "vllm-opt"].map(async (system) => {
          const spec = {
            workload,
            protocol: finite(scope, workload),
            ratePerS: rate,
            system,
            engines: 1,
            preset: scope.preset,
          };
          const label = system === "mlfq" ? "MLFQ" : system === "vllm-opt" ? "vLLM-opt" : "Autellix";
          return { name, theirs: paper.fig17_breakdown_s_per_token[name]?.[label], point: await bench.point(spec) };
        }),
      ),
    );
    return [
      {
        id: "fig17",
        title: "Breakdown of latency, s/token (fig. 17)",
        protocols: wanted.map(([workload]) => `${workload}: ${describeProtocol(finite(scope, workload))}`),
        notes: [
          "Rates near those at which the paper's curves have its totals. In brackets: the paper's. Time of plans is modelled (see the plan-time sweep).",
        ],
        tables: [
          {
            title: "",
            head: [
              "workload",
              "programs/s",
              "system",
              "execution",
              "scheduling",
              "swap",
              "waiting",
              "total",
              "scheduling share",
              "work done",
            ],
            rows: rows.map(({ name, theirs, point }) => {
              const ours = parts(point);
              const cell = (part: keyof typeof ours) => `${fixed(ours[part], 4)} (${fixed(theirs?.[part], 4)})`;
              return [
                name,
                String(point.spec.ratePerS),
                point.spec.system,
                cell("exec"),
                cell("sched"),
                cell("swap"),
                cell("wait"),
                cell("total"),
                percent(ours.sched / ours.total),
                percent(point.workShare),
              ];
            }),
          },
        ],
        plots: {},
        points: rows.map(({ point }) => point),
      },
    ];
  },
};

const SRPT_LIMIT = 0.1;
/** Our systems, and fig. 18's names. */
const SRPT_SYSTEMS = {
  "vllm-opt": "FCFS",
  "program-fcfs": undefined,
  mlfq: "MLFQ",
  autellix: "Autellix",
  srpt: "SRPT",
} as const;

export const srpt: Piece = {
  id: "fig18",
  about: `fig. 18: clairvoyant SRPT, rates at ${SRPT_LIMIT} s/token`,
  inDefault: false,
  run: async (bench, scope) => {
    const workloads = scope.quick ? [] : scope.workloads.filter((name) => name === "sharegpt" || name === "lats");
    return await Promise.all(
      workloads.map(async (workload) => {
        const rows = await Promise.all(
          Object.entries(SRPT_SYSTEMS).map(async ([name, theirs]) => {
            const system = name === "autellix" ? autellixOf(workload) : name;
            const spec = { workload, protocol: finite(scope, workload), system, engines: 1, preset: scope.preset };
            const { knee } = await bench.knee(spec, { grid: gridOf(workload), limit: SRPT_LIMIT });
            const curve = theirs && paper.fig18_simulation[workload === "lats" ? "LATS" : "ShareGPT"]?.[theirs];
            return { system, knee, paperRate: curve && crossing(curve, SRPT_LIMIT) };
          }),
        );
        const base = rows[0];
        return {
          id: `fig18-${workload}`,
          title: `Clairvoyant SRPT: rates at ${SRPT_LIMIT} s/token, ${workload} (fig. 18)`,
          protocols: [describeProtocol(finite(scope, workload))],
          notes: ["All programs of a finite trace are completed: the share of work is 100 % in every cell."],
          tables: [
            {
              title: "",
              head: ["system", "programs/s", "over vllm-opt", "paper", "paper over FCFS"],
              rows: rows.map(({ system, knee, paperRate }) => [
                system,
                formatKnee(knee),
                ratioCell(rateOf(knee), base && rateOf(base.knee)),
                paperRate === undefined ? "–" : paperRate.toPrecision(3),
                ratioCell(paperRate, base?.paperRate),
              ]),
            },
          ],
          plots: {},
          points: [],
        };
      }),
    );
  },
};

export const swaps: Piece = {
  id: "fig19a",
  about: "fig. 19a: one transfer per call against one per block",
  inDefault: false,
  run: async (bench, scope) => {
    if (!scope.workloads.includes("sharegpt")) return [];
    const rates = Object.keys(paper.fig19a_swap).slice(0, scope.quick ? 1 : undefined);
    const rows = await Promise.all(
      rates.flatMap((rate) =>
        (["call", "block"] as const).map(async (swapPer) => {
          const spec = {
            workload: "sharegpt",
            protocol: finite(scope, "sharegpt"),
            ratePerS: Number(rate),
            system: "plas",
            changes: { swapPer },
            engines: 1,
            preset: scope.preset,
          };
          return { rate, swapPer, point: await bench.point(spec) };
        }),
      ),
    );
    const theirs = (rate: string, swapPer: "call" | "block") => {
      const at = paper.fig19a_swap[rate];
      return swapPer === "call" ? [at?.Autellix_s, at?.Autellix_swaps] : [at?.vLLM_s, at?.vLLM_swaps];
    };
    return [
      {
        id: "fig19a",
        title: "Swaps: one transfer per call against one per block, ShareGPT, plas (fig. 19a)",
        protocols: [describeProtocol(finite(scope, "sharegpt"))],
        notes: [
          "Seconds and transfers are of one run. The paper's are of its own runs, whose length it does not state: only the proportions can be set side by side.",
        ],
        tables: [
          {
            title: "",
            head: [
              "programs/s",
              "one transfer per",
              "swap s",
              "paper s",
              "transfers",
              "paper transfers",
              "swap share of engine time",
              ...POINT_HEAD,
            ],
            rows: rows.map(({ rate, swapPer, point }) => [
              rate,
              swapPer,
              fixed(point.engine.swapMs / 1_000, 1),
              ...theirs(rate, swapPer).slice(0, 1),
              Math.round(point.engine.swapTransfers),
              ...theirs(rate, swapPer).slice(1),
              percent(point.engine.swapMs / Math.max(1e-9, point.engine.busyMs)),
              ...pointCells(point),
            ]),
          },
        ],
        plots: {},
        points: rows.map(({ point }) => point),
      },
    ];
  },
};
