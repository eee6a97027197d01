/** A program's calls over time, as lines of text. */
import { cells, duration, fit, largest, paint, type Style } from "../text.ts";

/** What a stretch of a call's time went to. */
export type Part = "queue" | "prefill" | "decode" | "running" | "parked" | "swap" | "tool";

export interface Stretch {
  part: Part;
  /** Unix ms. */
  fromMs: number;
  toMs: number;
}

export interface WaterfallRow {
  label: string;
  /** Below which of the rows before it. */
  depth: number;
  stretches: readonly Stretch[];
  /** Behind the bar: engine, status, tokens. */
  note: string;
}

export interface Waterfall {
  title: string;
  rows: readonly WaterfallRow[];
  /** What a reader should know, such as that older calls are missing. */
  remarks: readonly string[];
}

const SIGNS: Record<Part, string> = {
  queue: "·",
  prefill: "▒",
  decode: "█",
  running: "█",
  parked: "░",
  swap: "%",
  tool: "-",
};
const STYLES: Record<Part, Style> = {
  queue: "dim",
  prefill: "yellow",
  decode: "green",
  running: "green",
  parked: "blue",
  swap: "red",
  tool: "dim",
};
const NAMES: Record<Part, string> = {
  queue: "waits",
  prefill: "prefill",
  decode: "decode",
  running: "runs",
  parked: "parked",
  swap: "swap",
  tool: "between calls",
};
/** Where two parts fall into one cell, the one that a reader looks for is seen. */
const ORDER: readonly Part[] = ["tool", "queue", "parked", "running", "decode", "prefill", "swap"];
const LABEL_SHARE = 0.3;
const NOTE_SHARE = 0.28;
const BAR_CELLS_MIN = 10;
/** Rows that are drawn; a terminal is no place for more. */
const ROWS_MAX = 500;

/** When the first of them begins and the last one ends, Unix ms. @returns undefined of none. */
export function extentOf(stretches: readonly Stretch[]): { fromMs: number; toMs: number } | undefined {
  if (stretches.length === 0) return undefined;
  let [fromMs, toMs] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const stretch of stretches) {
    fromMs = Math.min(fromMs, stretch.fromMs);
    toMs = Math.max(toMs, stretch.toMs);
  }
  return { fromMs, toMs };
}

/** The first rows, over the time that all of them take; says how many it leaves out. */
export function waterfallLines(waterfall: Waterfall, columns: number, colors: boolean): string[] {
  const all = waterfall.rows.flatMap(({ stretches }) => stretches);
  const rows = waterfall.rows.slice(0, ROWS_MAX);
  const left = waterfall.rows.length - rows.length;
  const remarks = [...waterfall.remarks, ...(left > 0 ? [`${left} later rows are not drawn: --json has them.`] : [])];
  const head = [paint(waterfall.title, "bold", colors)];
  const extent = extentOf(all);
  if (!extent) return [...head, "no call is known", ...remarks];
  const { fromMs } = extent;
  const toMs = Math.max(fromMs + 1, extent.toMs);
  const labels = Math.min(
    largest(rows, ({ label, depth }) => cells(label) + 2 * depth),
    Math.floor(columns * LABEL_SHARE),
  );
  const notes = Math.min(
    largest(rows, ({ note }) => cells(note)),
    Math.floor(columns * NOTE_SHARE),
  );
  const width = Math.max(BAR_CELLS_MIN, columns - labels - notes - 4);
  const lines = rows.map(({ label, depth, stretches, note }) => {
    const drawn = drawnBar(stretches, fromMs, toMs, width, colors);
    return `${fit(`${"  ".repeat(depth)}${label}`, labels)}  ${drawn}  ${cells(note) > notes ? fit(note, notes) : note}`.trimEnd();
  });
  const parts = ORDER.filter((part) => all.some((stretch) => stretch.part === part));
  const legend = parts.map((part) => `${paint(SIGNS[part], STYLES[part], colors)} ${NAMES[part]}`).join("  ");
  return [
    ...head,
    `${" ".repeat(labels)}  ${scale(toMs - fromMs, width)}`,
    ...lines,
    `${" ".repeat(labels)}  ${legend}`,
    ...remarks,
  ];
}

/** `0 ms … 12.3 s` over the bars. */
function scale(spanMs: number, width: number): string {
  const [left, middle, right] = ["0", duration(spanMs / 2), duration(spanMs)];
  const gap = Math.max(1, Math.floor(width / 2) - cells(left) - Math.floor(cells(middle) / 2));
  const rest = Math.max(1, width - cells(left) - gap - cells(middle) - cells(right));
  return `${left}${" ".repeat(gap)}${middle}${" ".repeat(rest)}${right}`;
}

function drawnBar(stretches: readonly Stretch[], fromMs: number, toMs: number, width: number, colors: boolean): string {
  const parts: (Part | undefined)[] = Array.from({ length: width }, () => undefined);
  const place = (ms: number) => ((ms - fromMs) / (toMs - fromMs)) * width;
  for (const { part, fromMs: begin, toMs: end } of stretches) {
    const first = Math.min(width - 1, Math.floor(place(begin)));
    const last = Math.max(first, Math.min(width - 1, Math.ceil(place(end)) - 1));
    for (let at = first; at <= last; at++) {
      const there = parts[at];
      if (there === undefined || ORDER.indexOf(part) > ORDER.indexOf(there)) parts[at] = part;
    }
  }
  let text = "";
  for (let at = 0; at < width; ) {
    const part = parts[at];
    let end = at;
    while (end < width && parts[end] === part) end++;
    text += part === undefined ? " ".repeat(end - at) : paint(SIGNS[part].repeat(end - at), STYLES[part], colors);
    at = end;
  }
  return text;
}
