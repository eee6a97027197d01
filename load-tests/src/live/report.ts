/** What `npm run bench:live` says. */
import type { EnginePreset } from "@autellix/engines/cost";
import type { ProgramResult } from "../run.ts";
import { type Spread, spread, summarise } from "../stats.ts";
import { type Cell, formatMs, formatTable } from "../table.ts";
import type { Arm, ArmResult } from "./arm.ts";
import type { Pace } from "./pace.ts";
import { type Prediction, predict } from "./predict.ts";

/** Of the steady protocol's programs, those that arrive while the system fills. */
const WARM_UP_SHARE = 0.2;
/** Issue "engines": how far the simulator may be off. */
const BUSY_ERROR_WANTED = 0.05;
const PROGRAM_ERROR_WANTED = 0.15;

/** Of the engine. */
export interface Costs {
  /** As it was calibrated before all runs. */
  preset: EnginePreset;
  /** Of right before and right after the run, where it was calibrated again. */
  around?: EnginePreset;
  pace?: Pace;
}

export interface ArmReport {
  arm: Arm;
  /** Of counted programs, arrival to end. */
  programMs: Spread;
  byKind: Record<string, Spread>;
  firstTokenMs: Spread;
  /** Longest time between two pieces of text of one answer. */
  pauseMsMax: number;
  tokensPerS: number;
  finished: number;
  offered: number;
  elapsedMs: number;
  busyMs: number;
  swapMs: number;
  swaps: number;
  /** Of the time from the first arrival to the end. */
  swapShare: number;
  planIdleShare: number;
  prefilledTokens: number;
  cachedTokens: number;
  predicted: Prediction;
  /** Predicted over measured, minus 1. */
  busyError: number;
  programError: number;
  /** Where the engine was calibrated again: how its steps went around the run, and what the first preset predicts. */
  pace?: Pace | undefined;
  busyErrorOfFirst?: number;
}

export function armReport({ arm, run, counters, recording }: ArmResult, costs: Costs): ArmReport {
  const counts = (program: number) => arm.protocol === "finite" || program >= WARM_UP_SHARE * run.programs.length;
  const counted = run.programs.filter((program, index) => counts(index) && program.status === "finished");
  const { swapMs = 0, swapOuts = 0, swapIns = 0, planIdleMs = 0, prefilledTokens = 0, cachedTokens = 0 } = counters;
  const programMs = spread(counted.map(({ totalMs }) => totalMs));
  const { preset, around, pace } = costs;
  const predicted = predict(recording, around ?? preset, counts);
  const busyMs = counters.busyMs + swapMs;
  const errorOf = ({ busyMs: simulatedMs }: Prediction) => simulatedMs / busyMs - 1;
  const { elapsedMs } = run;
  return {
    arm,
    programMs,
    byKind: byKind(counted),
    firstTokenMs: spread(counted.flatMap(({ calls }) => calls.map((call) => call.firstTokenMs))),
    pauseMsMax: counted.flatMap(({ calls }) => calls).reduce((max, call) => Math.max(max, call.pauseMsMax ?? 0), 0),
    tokensPerS: summarise(run).tokensPerSecond,
    finished: run.programs.filter(({ status }) => status === "finished").length,
    offered: run.programs.length,
    elapsedMs,
    busyMs,
    swapMs,
    swaps: swapOuts + swapIns,
    swapShare: swapMs / elapsedMs,
    planIdleShare: planIdleMs / elapsedMs,
    prefilledTokens,
    cachedTokens,
    predicted,
    busyError: errorOf(predicted),
    programError: predicted.programMs / programMs.mean - 1,
    ...(around && { pace, busyErrorOfFirst: errorOf(predict(recording, preset, counts)) }),
  };
}

function byKind(programs: readonly ProgramResult[]): Record<string, Spread> {
  const kinds = Map.groupBy(programs, ({ kind }) => kind);
  return Object.fromEntries([...kinds].map(([kind, own]) => [kind, spread(own.map(({ totalMs }) => totalMs))]));
}

export function liveText(reports: readonly ArmReport[]): string {
  const blocks: string[] = [];
  for (const [protocol, own] of Map.groupBy(reports, ({ arm }) => arm.protocol)) {
    blocks.push(
      protocol === "finite" ? "finite trace: all programs, run to their end" : "steady: programs after the warm-up",
    );
    blocks.push(formatTable(HEAD, own.map(row)));
    blocks.push(formatTable(PREDICTION_HEAD, own.map(predictionRow)));
  }
  blocks.push(
    "Program times are from arrival to the end of the last call, pauses between calls included. A pause is the longest time between two pieces of text of one answer. The simulator has the costs that the engine had right before and right after the run; what it says is the median over engines that are up to 3 % slower and faster, in brackets the least and the most: short memory magnifies each difference. Steps' time: right before, right after, over that of the first calibration.",
  );
  return blocks.join("\n\n");
}

const HEAD = [
  "policy",
  "host tier",
  "programs",
  "mean",
  "short",
  "long",
  "95 %",
  "first token",
  "tokens/s",
  "longest pause",
  "swaps",
  "swap time %",
  "waits for plans %",
  "tokens found",
  "tokens computed",
];

function row(report: ArmReport): Cell[] {
  const { arm, programMs, byKind: kinds } = report;
  return [
    arm.policy,
    arm.hostTier ? "yes" : "no",
    report.finished === report.offered ? report.finished : `${report.finished} of ${report.offered}`,
    formatMs(programMs.mean),
    formatMs(kinds.short?.mean ?? Number.NaN),
    formatMs(kinds.long?.mean ?? Number.NaN),
    formatMs(programMs.p95),
    formatMs(report.firstTokenMs.mean),
    report.tokensPerS,
    formatMs(report.pauseMsMax),
    report.swaps,
    (100 * report.swapShare).toFixed(2),
    (100 * report.planIdleShare).toFixed(2),
    report.cachedTokens,
    report.prefilledTokens,
  ];
}

const PREDICTION_HEAD = [
  "policy",
  "host tier",
  "busy",
  "simulated",
  "error",
  `≤ ${100 * BUSY_ERROR_WANTED} %`,
  "mean program",
  "simulated",
  "error",
  `≤ ${100 * PROGRAM_ERROR_WANTED} %`,
  "swaps",
  "steps' time",
  "error with the first preset",
];

function predictionRow(report: ArmReport): Cell[] {
  const { arm, busyMs, programMs, predicted, busyError, programError, pace, busyErrorOfFirst } = report;
  return [
    arm.policy,
    arm.hostTier ? "yes" : "no",
    formatMs(busyMs),
    `${formatMs(predicted.busyMs)} (${predicted.busyRangeMs.map(formatMs).join(" … ")})`,
    signed(busyError),
    Math.abs(busyError) <= BUSY_ERROR_WANTED ? "yes" : "NO",
    formatMs(programMs.mean),
    formatMs(predicted.programMs),
    signed(programError),
    // Only the finite trace is asked for: a steady system near its capacity magnifies each difference.
    arm.protocol === "steady" ? "" : Math.abs(programError) <= PROGRAM_ERROR_WANTED ? "yes" : "NO",
    predicted.swaps,
    pace ? `${pace.before.toFixed(2)}, ${pace.after.toFixed(2)}` : "",
    busyErrorOfFirst === undefined ? "" : signed(busyErrorOfFirst),
  ];
}

function signed(share: number): string {
  return `${share < 0 ? "−" : "+"}${(100 * Math.abs(share)).toFixed(1)} %`;
}
