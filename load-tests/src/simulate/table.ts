/** What a simulation says, for people. */
import type { ProgramSpec, SimulationResult } from "@autellix/simulation";
import { DECILES, decileEdges, decileOf, workTokensOf } from "../paper/deciles.ts";
import { spread } from "../stats.ts";
import { type Cell, formatTable } from "../table.ts";

const MS_PER_S = 1_000;

export interface Played {
  policy: string;
  result: SimulationResult;
}

/** @param programs that all of them played. */
export function simulationText(programs: readonly ProgramSpec[], played: readonly Played[]): string {
  return [
    formatTable(
      SUMMARY_HEAD,
      played.map((one) => summaryRow(programs, one)),
    ),
    "Response: a program's time from its arrival to its end, without the pauses between its calls. s/token: response over all tokens that the program generated.",
    "Mean response by program size, s",
    decileTable(programs, played),
  ].join("\n\n");
}

const SUMMARY_HEAD = [
  "policy",
  "programs",
  "mean s",
  "P95 s",
  "P99 s",
  "s/token",
  "waiting %",
  "preemptions",
  "swaps",
  "hit %",
  "makespan s",
  "work done %",
];

function summaryRow(programs: readonly ProgramSpec[], { policy, result }: Played): Cell[] {
  const ended = result.programs.filter(({ endedAtMs }) => endedAtMs !== undefined);
  const response = spread(ended.map(({ responseMs }) => responseMs / MS_PER_S));
  const token = spread(ended.map(({ responseMs, decodeTokens }) => responseMs / MS_PER_S / decodeTokens));
  const sum = (read: (program: SimulationResult["programs"][number]) => number) =>
    result.programs.reduce((total, program) => total + read(program), 0);
  const engines = (read: (engine: SimulationResult["engine"][number]) => number) =>
    result.engine.reduce((total, engine) => total + read(engine), 0);
  const [waitingMs, serviceMs] = [sum(({ waitingMs: ms }) => ms), sum(({ serviceMs: ms }) => ms)];
  const found = engines((engine) => engine.cachedTokens + engine.hostHitTokens);
  const prefilled = engines((engine) => engine.prefilledTokens);
  const share = (part: number, whole: number) => (whole === 0 ? undefined : (100 * part) / whole);
  return [
    policy,
    ended.length === programs.length ? ended.length : `${ended.length} of ${programs.length}`,
    response.mean,
    response.p95,
    response.p99,
    token.mean < 1 ? token.mean.toFixed(4) : token.mean,
    share(waitingMs, waitingMs + serviceMs),
    result.preemptions,
    engines((engine) => engine.swapOuts + engine.swapIns),
    share(found, found + prefilled),
    result.endedAtMs / MS_PER_S,
    share(result.completedTokens, result.offeredTokens),
  ];
}

/** A row for each tenth of the programs by the work that they are. */
function decileTable(programs: readonly ProgramSpec[], played: readonly Played[]): string {
  const works = programs.map(workTokensOf);
  const edges = decileEdges(works);
  const deciles = works.map((work) => decileOf(edges, work));
  const largest = works.reduce((max, work) => Math.max(max, work), 0);
  const means = played.map(({ result }) => {
    const byDecile = Array.from({ length: DECILES }, () => ({ sum: 0, count: 0 }));
    for (const { index, endedAtMs, responseMs } of result.programs) {
      const decile = byDecile[deciles[index] ?? 0];
      if (!decile || endedAtMs === undefined) continue;
      decile.sum += responseMs / MS_PER_S;
      decile.count++;
    }
    return byDecile.map(({ sum, count }) => (count === 0 ? undefined : sum / count));
  });
  const rows = Array.from({ length: DECILES }, (_, decile): Cell[] => [
    edges[decile] ?? largest,
    deciles.filter((one) => one === decile).length,
    ...means.map((mean) => mean[decile]),
  ]).filter(([, count]) => count !== 0);
  return formatTable(["tokens up to", "programs", ...played.map(({ policy }) => policy)], rows);
}
