/** The process table: which programs, in which order. Pure; 10,000 programs sort in some tens of milliseconds. */
import type { ViewProgram } from "@autellix/protocol/view";
import { sortKey } from "./format.ts";

export type Column = "program" | "level" | "waiting" | "running" | "ended" | "service" | "waited" | "attained" | "last";

export interface TableOrder {
  column: Column;
  descending: boolean;
}

export interface TableFilter {
  /** Words that must all be in `tenant/program`; letter case does not count. */
  text: string;
  /** Only programs with calls, only ended ones. */
  show: "all" | "active" | "ended";
}

export interface SortedRows {
  rows: ViewProgram[];
  /** Before the filter. */
  total: number;
}

const numbers: Record<Exclude<Column, "program">, (program: ViewProgram) => number> = {
  level: ({ level }) => level,
  waiting: ({ calls }) => calls.waiting,
  running: ({ calls }) => calls.running,
  ended: ({ calls }) => calls.ended,
  service: ({ serviceMs }) => serviceMs,
  waited: ({ waitingMs }) => waitingMs,
  attained: ({ attained }) => attained,
  last: ({ lastAtMs }) => lastAtMs,
};

/** Of names that were seen: padding 10,000 of them at each sort would cost more than the sort. */
const names = new Map<string, string>();
const NAMES_MAX = 50_000;

function nameKey({ tenant, program }: ViewProgram): string {
  const name = `${program}\u0000${tenant}`;
  let key = names.get(name);
  if (key === undefined) {
    if (names.size >= NAMES_MAX) names.clear();
    key = sortKey(name);
    names.set(name, key);
  }
  return key;
}

function compareNames(a: Row, b: Row): number {
  a.name ??= nameKey(a.program);
  b.name ??= nameKey(b.program);
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

interface Row {
  program: ViewProgram;
  value: number;
  /** Made when it decides. */
  name?: string;
}

export function sortedRows(programs: Iterable<ViewProgram>, order: TableOrder, filter: TableFilter): SortedRows {
  const words = filter.text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const rows: Row[] = [];
  const number = order.column === "program" ? () => 0 : numbers[order.column];
  let total = 0;
  for (const program of programs) {
    total++;
    if (filter.show === "active" && program.calls.waiting + program.calls.running === 0) continue;
    if (filter.show === "ended" && program.state !== "ended") continue;
    if (words.length > 0) {
      const name = `${program.tenant}/${program.program}`.toLowerCase();
      if (!words.every((word) => name.includes(word))) continue;
    }
    rows.push({ program, value: number(program) });
  }
  const sign = order.descending ? -1 : 1;
  const byName = order.column === "program" ? sign : 1;
  // Names only where numbers do not decide: they cost more.
  rows.sort((a, b) => sign * (a.value - b.value) || byName * compareNames(a, b));
  return { rows: rows.map(({ program }) => program), total };
}

/** The rows that are in view, and a few around them. */
export function visibleRange(
  scrollTop: number,
  height: number,
  rowHeight: number,
  count: number,
  around = 6,
): { from: number; to: number } {
  const first = Math.floor(scrollTop / rowHeight);
  const from = Math.max(0, Math.min(first - around, count));
  const to = Math.max(from, Math.min(count, first + Math.ceil(height / rowHeight) + around));
  return { from, to };
}
