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
