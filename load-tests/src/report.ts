/**
 * A run, or A against B, as a table for people, JSON for machines and a plot.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Machine } from "./machine.ts";
import type { ProcessUse } from "./processes.ts";
import type { RunResult } from "./run.ts";
import { type Spread, type Summary, summarise } from "./stats.ts";
import { cdf, type Plot, renderPlot } from "./svg.ts";
import { type Cell, formatTable } from "./table.ts";

/** One side of a comparison: all its phases. */
export interface Variant {
  name: string;
  runs: RunResult[];
  /** What its processes used, when it was started for the run. */
  use?: ProcessUse[];
}

export interface Report {
  name: string;
  machine: Machine;
  /** What was offered: workload or trace, rate, seed, mode. */
  load: Record<string, unknown>;
  variants: Variant[];
}

/** Results of this repository's measurements. */
export const RESULTS_FOLDER = resolve(import.meta.dirname, "../results");

const ASLEEP_BYTES_MAX = 4 * 2 ** 20;

/** A variant's phases as one run. */
export function merged(variant: Variant): RunResult {
  return {
    target: variant.name,
    startedAt: variant.runs[0]?.startedAt ?? "",
    elapsedMs: variant.runs.reduce((sum, run) => sum + run.elapsedMs, 0),
    programs: variant.runs.flatMap((run) => run.programs),
  };
}

export function formatReport(report: Report): string {
  const summaries = report.variants.map((variant) => summarise(merged(variant)));
  const names = summaries.map((summary) => summary.target);
  const blocks = [formatTable(["", ...names, ...(names.length === 2 ? ["B / A"] : [])], summaryRows(summaries))];
  for (const { target, errors, lateMsMax, programs } of summaries) {
    for (const [error, count] of Object.entries(errors)) blocks.push(`${target}: ${count} calls ended with ${error}`);
    if (lateMsMax > 100)
      blocks.push(
        `${target}: the generator started programs up to ${lateMsMax.toFixed(0)} ms late: it is the bottleneck`,
      );
    if (programs.skipped > 0) blocks.push(`${target}: ${programs.skipped} programs were skipped: too many under way`);
  }
  for (const { name, use } of report.variants) if (use) blocks.push(`${name}\n${formatUse(use)}`);
  const { machine } = report;
  const memory = `${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  blocks.push(
    `${machine.cpu}, ${machine.cores} cores, ${memory}, ${machine.platform}, Node ${machine.node}\ncommit ${machine.commit}\nload ${JSON.stringify(report.load)}\n${machine.command}`,
  );
  return blocks.join("\n\n");
}

function summaryRows(summaries: readonly Summary[]): Cell[][] {
  const row = (name: string, read: (summary: Summary) => number): Cell[] => {
    const values = summaries.map(read);
    const [a, b] = values;
    const ratio = values.length === 2 && a !== undefined && b !== undefined && a !== 0 ? [b / a] : [];
    return [name, ...values, ...ratio];
  };
  const spreadRows = (name: string, read: (summary: Summary) => Spread | undefined): Cell[][] => {
    const some = summaries.some((summary) => (read(summary)?.count ?? 0) > 0);
    if (!some) return [];
    const of = (key: keyof Spread) => (summary: Summary) => read(summary)?.[key] ?? Number.NaN;
    return [row(`${name}, mean`, of("mean")), row(`${name}, p50`, of("p50")), row(`${name}, p95`, of("p95"))];
  };
  const kinds = [...new Set(summaries.flatMap((summary) => Object.keys(summary.programMsByKind)))];
  return [
    row("programs offered", (s) => s.programs.offered),
    row("programs finished", (s) => s.programs.finished),
    row("calls completed", (s) => s.calls.completed),
    row("calls refused (429)", (s) => s.calls.refused),
    row("calls failed", (s) => s.calls.failed),
    row("calls per second", (s) => s.calls.perSecond),
    row("tokens per second", (s) => s.tokensPerSecond),
    ...spreadRows("program ms", (s) => s.programMs),
    ...(kinds.length > 1 ? kinds.flatMap((kind) => spreadRows(`${kind} ms`, (s) => s.programMsByKind[kind])) : []),
    ...spreadRows("first token ms", (s) => s.firstTokenMs),
    ...spreadRows("per token ms", (s) => s.perTokenMs),
    ...spreadRows("call ms", (s) => s.callMs),
    ...spreadRows("waiting ms", (s) => s.waitingMs),
    ...spreadRows("service ms", (s) => s.serviceMs),
  ];
}

/** CPU time and memory of each process. */
export function formatUse(use: readonly ProcessUse[], unit?: { calls: number }): string {
  const rows = use
    .filter(isAwake)
    .map(({ name, cpuMs, rssBytes }) => [
      name,
      cpuMs / 1_000,
      ...(unit ? [cpuMs / unit.calls] : []),
      rssBytes / 2 ** 20,
    ]);
  return formatTable(["process", "CPU s", ...(unit ? ["CPU ms per call"] : []), "memory MiB"], rows);
}

/** Not the shells that wait beside a child, only to end it should its parent die. */
function isAwake({ cpuMs, rssBytes }: ProcessUse): boolean {
  return cpuMs > 0 || rssBytes > ASLEEP_BYTES_MAX;
}

/** How programs' times are spread, by variant, and by kind where there are several. */
export function latencyPlot(report: Report): Plot {
  const lines = report.variants.flatMap((variant) => {
    const finished = merged(variant).programs.filter((program) => program.status === "finished");
    const kinds = [...new Set(finished.map((program) => program.kind))].sort();
    return kinds.map((kind) =>
      cdf(
        kinds.length > 1 ? `${variant.name} ${kind}` : variant.name,
        finished.filter((program) => program.kind === kind).map((program) => program.totalMs / 1_000),
      ),
    );
  });
  return { title: report.name, xLabel: "program, arrival to end (s)", yLabel: "programs (%)", lines };
}

/** Writes `report.json`, `report.txt` and plots into `<folder>/<name>-<date>/`. @returns that folder. */
export async function writeReport(
  folder: string,
  report: { name: string; machine: Machine },
  text: string,
  plots: Record<string, Plot>,
): Promise<string> {
  const date = new Date().toISOString().replace(/[:.]/g, "-").slice(0, 19);
  const path = join(folder, `${report.name.replace(/[^A-Za-z0-9_-]+/g, "-")}-${date}`);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, "report.json"), `${JSON.stringify(report, undefined, 1)}\n`);
  await writeFile(join(path, "report.txt"), `${text}\n`);
  for (const [name, plot] of Object.entries(plots)) await writeFile(join(path, `${name}.svg`), renderPlot(plot));
  return path;
}
