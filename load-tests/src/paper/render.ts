/** The report: Markdown for people, JSON for machines, SVG plots beside them. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Machine } from "../machine.ts";
import { renderPlot } from "../svg.ts";
import { markdownTable } from "../table.ts";
import type { PointResult } from "./point.ts";
import type { Section, Table } from "./section.ts";

export interface PaperReport {
  machine: Machine;
  preset: string;
  /** Hash of the configuration that all runs share. */
  frozen: string;
  code: string;
  /** Runs by the hash of the code that played them. */
  runsByCode: Readonly<Record<string, number>>;
  quick: boolean;
  wallS: number;
  sections: readonly Section[];
}

export function renderReport(report: PaperReport): string {
  return `${[
    "# The paper's evaluation, on the simulator",
    report.quick
      ? "**Quick run: few rates, seeds and programs. It shows that everything works; its numbers are no findings.**"
      : "",
    headOf(report),
    READING,
    ...report.sections.map(renderSection),
  ]
    .filter((block) => block !== "")
    .join("\n\n")}\n`;
}

const READING = `How to read it. Latency is program-level token latency: response time over tokens generated, s/token (threads: response
time along the critical path over all tokens). Mean ± half of its 95 % interval over seeds (Student's t); P99 from 1,000 programs on. *work done*:
share of the measured programs' tokens that was completed; below 99 % a point is unstable, and its latency is a lower bound. *worst slowdown*: response over the response with
an engine of one's own. Swap transfers are of one run, all its engines. Systems are compared on the same programs (common random numbers). Dashed lines are the paper's.`;

function headOf({ machine, preset, frozen, code, runsByCode, wallS, sections }: PaperReport): string {
  const old = Object.entries(runsByCode).filter(([hash]) => hash !== code);
  const points = sections.flatMap((section) => section.points);
  return [
    `- \`${machine.command}\``,
    `- ${machine.cpu}, ${machine.cores} cores, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, ${machine.platform}, Node ${machine.node}`,
    `- commit ${machine.commit}, code ${code}, frozen configuration ${frozen}, engine ${preset}`,
    `- ${Object.values(runsByCode).reduce((a, b) => a + b, 0)} runs, ${wallS.toFixed(0)} s${sampleSizes(points)}`,
    ...old.map(([hash, runs]) => `- **${runs} runs were stored by other code (${hash}); \`--fresh\` plays them anew**`),
  ].join("\n");
}

function sampleSizes(points: readonly PointResult[]): string {
  if (points.length === 0) return "";
  const range = (values: readonly number[]) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return low === high ? String(low) : `${low}–${high}`;
  };
  return `; ${points.length} points of ${range(points.map((p) => p.programs))} programs, ${range(points.map((p) => p.seeds.length))} seeds (1, 2, …)`;
}

function renderSection({ title, protocols, notes, tables, plots }: Section): string {
  const links = Object.keys(plots).map((name) => `![${name}](${name}.svg)`);
  return [
    `## ${title}`,
    [...new Set(protocols)].map((protocol) => `- Protocol: ${protocol}.`).join("\n"),
    ...notes,
    ...(links.length === 0 ? [] : [links.join("\n")]),
    ...tables.map(renderTable),
  ].join("\n\n");
}

function renderTable({ title, head, rows }: Table): string {
  const table = rows.length === 0 ? "No point." : markdownTable(head, rows);
  return title === "" ? table : `### ${title}\n\n${table}`;
}

/** Writes `report.md`, `report.json` and the plots into the folder. */
export function writePaperReport(folder: string, report: PaperReport): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "report.md"), renderReport(report));
  writeFileSync(join(folder, "report.json"), `${JSON.stringify(report)}\n`);
  for (const { plots } of report.sections)
    for (const [name, plot] of Object.entries(plots)) writeFileSync(join(folder, `${name}.svg`), renderPlot(plot));
}
