/**
 * Does the ladder find itself? Runs that start with a ladder twenty times too high or too low, against the run that
 * starts calibrated, the same programs in each; and what the best ladder set by hand would have brought.
 */
import { type Confidence, confidence95 } from "../../stats.ts";
import type { Bench } from "../bench.ts";
import { loadPoint } from "../operating.ts";
import { meanLatencyOf } from "../point.ts";
import { describeProtocol, steady } from "../protocols.ts";
import { fixed, type Piece, percent, type Scope, type Section } from "../section.ts";
import type { LadderShape, PointSpec, SystemChanges } from "../spec.ts";

const SEEDS = Array.from({ length: 10 }, (_, index) => index + 1);
const QUICK_SEEDS = SEEDS.slice(0, 3);
const WRONG_BY = 20;
/** Of the calibrated run's mean. */
const WITHIN = 0.05;
/** A ladder decides nothing where first come, first served does as well. */
const MATTERS_FROM = 0.1;
const SHAPE = { levels: 7, factor: 2 } as const;
/** Of the calibrated first level. */
const HAND_SET = [1 / 20, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 20] as const;

export const calibration: Piece = {
  id: "calibration",
  about: `ladder that starts ${WRONG_BY}× too high and too low, fixed ladders, the best one set by hand; 10 paired seeds`,
  inDefault: false,
  run: async (bench, scope) => await Promise.all(scope.workloads.map((workload) => sectionOf(bench, scope, workload))),
};

interface Paired {
  name: string;
  mean: number;
  /** Difference of the means over the reference's mean. */
  difference: Confidence;
  work: number;
}

async function sectionOf(bench: Bench, scope: Scope, workload: string): Promise<Section> {
  const seeds = scope.quick ? QUICK_SEEDS : SEEDS;
  const finiteAt = await loadPoint(bench, scope, { workload }, 1);
  const settings = [finiteAt];
  if (scope.steady)
    settings.push({
      ...(await loadPoint(bench, scope, { workload }, 0.7)),
      protocol: steady(scope, workload, seeds.length),
    });
  const blocks = await Promise.all(settings.map((common) => blockOf(bench, common, seeds)));
  return {
    id: `calibration-${workload}`,
    title: `Calibration of the ladder: ${workload}`,
    protocols: settings.map(({ protocol }) => describeProtocol(protocol)),
    notes: blocks.map(({ note }) => note),
    tables: blocks.map(({ title, rows }) => ({
      title,
      head: ["ladder", "mean s/token", "difference ± 95 %", "within 5 %", "work done"],
      rows: rows.map(({ name, mean, difference, work }) => [
        name,
        fixed(mean, 4),
        `${percent(difference.mean)} ± ${percent(difference.halfWidth)}`,
        verdict(difference),
        percent(work),
      ]),
    })),
    plots: {},
    points: [],
  };
}

/** Equal only when the whole interval says so. */
function verdict({ mean, halfWidth }: Confidence): string {
  if (Math.abs(mean) + halfWidth <= WITHIN) return "yes";
  return Math.abs(mean) - halfWidth > WITHIN ? "no" : "undecided";
}

async function blockOf(bench: Bench, common: PointSpec, seeds: readonly number[]) {
  // The percentile that the ladder looks for, from a run of its own.
  const pilot = await bench.point({ ...common, wantsCallService: true }, seeds.slice(0, 3));
  const first = Math.max(1, Math.round(pilot.callServiceP25Ms ?? Number.NaN));
  const shape = (factor: number): LadderShape => ({ first: first * factor, ...SHAPE });
  const reference = await playPaired(bench, common, seeds, "starts calibrated", { calibration: shape(1) });
  const others = await Promise.all([
    playPaired(bench, common, seeds, `starts ${WRONG_BY}× too high`, { calibration: shape(WRONG_BY) }, reference.means),
    playPaired(
      bench,
      common,
      seeds,
      `starts ${WRONG_BY}× too low`,
      { calibration: shape(1 / WRONG_BY) },
      reference.means,
    ),
    ...HAND_SET.map((factor) =>
      playPaired(
        bench,
        common,
        seeds,
        `fixed, p25 × ${Number(factor.toPrecision(3))}`,
        { fixedLadder: shape(factor) },
        reference.means,
      ),
    ),
    playPaired(bench, { ...common, system: "vllm-opt" }, seeds, "vllm-opt (fcfs)", {}, reference.means),
  ]);
  const rows = [reference, ...others].map(({ row }) => row);
  const fixedRows = rows.filter(({ name }) => name.startsWith("fixed"));
  const best = fixedRows.reduce((a, b) => (b.mean < a.mean ? b : a));
  const fcfs = rows.at(-1);
  const matters = Math.abs(fcfs?.difference.mean ?? 0) >= MATTERS_FROM;
  return {
    title: `${common.ratePerS} programs/s, ${common.protocol.kind}, ${seeds.length} paired seeds; p25 of calls' service ${first} ms`,
    rows,
    note: `${common.protocol.kind}: fcfs differs by ${percent(fcfs?.difference.mean)}, so the criterion ${matters ? "counts" : "does not count"} here. The best ladder set by hand (${best.name}) is ${percent(best.difference.mean)} from the calibrated run.`,
  };
}

async function playPaired(
  bench: Bench,
  common: PointSpec,
  seeds: readonly number[],
  name: string,
  changes: SystemChanges,
  reference?: readonly number[],
): Promise<{ row: Paired; means: number[] }> {
  const runs = await Promise.all(seeds.map((seed) => bench.run({ ...common, changes, seed })));
  const means = runs.map(meanLatencyOf);
  const base = reference ?? means;
  const baseMean = base.reduce((sum, value) => sum + value, 0) / base.length;
  const differences = means.map((value, index) => (value - (base[index] ?? Number.NaN)) / baseMean);
  const offered = runs.reduce((sum, run) => sum + run.offeredWork, 0);
  const completed = runs.reduce((sum, run) => sum + run.completedWork, 0);
  const row = {
    name,
    mean: means.reduce((sum, value) => sum + value, 0) / means.length,
    difference: confidence95(differences),
    work: completed / offered,
  };
  return { row, means };
}
