/**
 * What a run says, in numbers.
 */
import type { CallResult, ProgramResult, ProgramStatus, RunResult } from "./run.ts";

export interface Spread {
  count: number;
  mean: number;
  p50: number;
  p95: number;
  p99: number;
  max: number;
}

/** Linear between the closest ranks. @returns NaN for nothing. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = q * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return below + (above - below) * (at - Math.floor(at));
}

/** @returns NaN for nothing. */
export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

export function spread(values: Iterable<number | undefined>): Spread {
  const sorted = [...values].filter((value) => value !== undefined).sort((a, b) => a - b);
  const sum = sorted.reduce((total, value) => total + value, 0);
  return {
    count: sorted.length,
    mean: sum / sorted.length,
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    max: sorted.at(-1) ?? Number.NaN,
  };
}

/** A mean and half the width of its 95 % interval, NaN for a single value. */
export interface Confidence {
  mean: number;
  halfWidth: number;
}

/** Student's t, two-sided 95 %, by degrees of freedom from 1 on; beyond the list its last value, which is a little wide. */
const T_95 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const T_95_MANY = 2.042;

/** The mean of independent values, with its confidence. @returns NaN for nothing. */
export function confidence95(values: readonly number[]): Confidence {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  if (count < 2) return { mean, halfWidth: Number.NaN };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  return { mean, halfWidth: (T_95[count - 2] ?? T_95_MANY) * Math.sqrt(variance / count) };
}

export interface Summary {
  target: string;
  elapsedMs: number;
  programs: Record<ProgramStatus, number> & { offered: number };
  /** Highest delay of a start: the generator's own fault. */
  lateMsMax: number;
  calls: { ended: number; completed: number; refused: number; failed: number; perSecond: number };
  tokensPerSecond: number;
  /** Arrival to end of finished programs, ms; by kind too. */
  programMs: Spread;
  programMsByKind: Record<string, Spread>;
  callMs: Spread;
  firstTokenMs: Spread;
  /** Mean time between tokens of a call, ms. */
  perTokenMs: Spread;
  /** As the server says; count 0 when it does not. */
  waitingMs: Spread;
  serviceMs: Spread;
  errors: Record<string, number>;
}

export function summarise(run: RunResult): Summary {
  const calls = run.programs.flatMap((program) => program.calls);
  const completed = calls.filter((call) => call.complete && call.error === undefined);
  const finished = run.programs.filter((program) => program.status === "finished");
  const count = (status: ProgramStatus) => run.programs.filter((program) => program.status === status).length;
  const seconds = run.elapsedMs / 1_000;
  const tokens = completed.reduce((sum, call) => sum + (call.completionTokens ?? call.chunks), 0);
  const refused = calls.filter((call) => call.httpStatus === 429).length;
  return {
    target: run.target,
    elapsedMs: run.elapsedMs,
    programs: {
      offered: run.programs.length,
      finished: finished.length,
      refused: count("refused"),
      failed: count("failed"),
      unfinished: count("unfinished"),
      skipped: count("skipped"),
    },
    lateMsMax: run.programs.reduce((max, program) => Math.max(max, program.lateMs), 0),
    calls: {
      ended: calls.length,
      completed: completed.length,
      refused,
      failed: calls.length - completed.length - refused,
      perSecond: completed.length / seconds,
    },
    tokensPerSecond: tokens / seconds,
    programMs: spread(finished.map((program) => program.totalMs)),
    programMsByKind: byKind(finished),
    callMs: spread(completed.map((call) => call.totalMs)),
    firstTokenMs: spread(completed.map((call) => call.firstTokenMs)),
    perTokenMs: spread(completed.map(perTokenMs)),
    waitingMs: spread(completed.map((call) => call.waitingMs)),
    serviceMs: spread(completed.map((call) => call.serviceMs)),
    errors: countErrors(calls),
  };
}

function byKind(programs: readonly ProgramResult[]): Record<string, Spread> {
  const kinds = [...new Set(programs.map((program) => program.kind))].sort();
  return Object.fromEntries(
    kinds.map((kind) => [kind, spread(programs.filter((p) => p.kind === kind).map((p) => p.totalMs))]),
  );
}

function perTokenMs(call: CallResult): number | undefined {
  const tokens = call.completionTokens ?? call.chunks;
  if (call.firstTokenMs === undefined || tokens < 2 || call.chunks < 2) return undefined;
  return (call.totalMs - call.firstTokenMs) / (tokens - 1);
}

function countErrors(calls: readonly CallResult[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { error, complete } of calls) {
    if (complete && error === undefined) continue;
    const name = error ?? "incomplete";
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
