/** Text in terminal cells: widths, colours, numbers for people. */
import type { ViewMeasures } from "@autellix/protocol";

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "blue" | "reverse" | number;

const CODES: Record<Exclude<Style, number>, string> = {
  bold: "1",
  dim: "2",
  red: "31",
  green: "32",
  yellow: "33",
  blue: "34",
  reverse: "7",
};

/** @param style a number is one of the 256 colours, as the background of dark text. */
export function paint(text: string, style: Style, colors: boolean): string {
  if (!colors || text === "") return text;
  const code = typeof style === "number" ? `30;48;5;${style}` : CODES[style];
  return `\u001b[${code}m${text}\u001b[0m`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape that begins a colour
const ESCAPES = /\u001b\[[0-9;]*m/g;
const CONTROLS = /\p{Cc}|\p{Cf}/gu;
const COMBINING = /^\p{M}$/u;

/** Cells that the text takes on a terminal; colours take none. */
export function cells(text: string): number {
  let width = 0;
  for (const char of text.replace(ESCAPES, "")) width += cellsOf(char);
  return width;
}

function cellsOf(char: string): number {
  const code = char.codePointAt(0) as number;
  if (code < 0x300) return 1;
  if (COMBINING.test(char)) return 0;
  return isWide(code) ? 2 : 1;
}

/** East Asian wide characters and emoji, by their blocks. */
function isWide(code: number): boolean {
  return (
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x1f300 && code <= 0x1faff) ||
    (code >= 0x20000 && code <= 0x3fffd)
  );
}

/** Exactly so many cells: padded, or cut with an ellipsis. Plain text only; what would move the cursor is dropped. */
export function fit(text: string, width: number, align: "left" | "right" = "left"): string {
  if (width <= 0) return "";
  const plain = text.replace(CONTROLS, "");
  const own = cells(plain);
  if (own <= width) return align === "left" ? plain + " ".repeat(width - own) : " ".repeat(width - own) + plain;
  let cut = "";
  let used = 0;
  for (const char of plain) {
    if (used + cellsOf(char) > width - 1) break;
    cut += char;
    used += cellsOf(char);
  }
  return `${cut}…${" ".repeat(width - used - 1)}`;
}

/** `0 ms`, `830 ms`, `12.3 s`, `4:05 min`, `3:20 h`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 100_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 100) return `${minutes}:${String(Math.floor(ms / 1_000) % 60).padStart(2, "0")} min`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")} h`;
}

/** `950`, `12.3k`, `4.1M`. */
export function short(count: number): string {
  if (count < 1_000) return String(Math.round(count * 10) / 10);
  if (count < 1_000_000) return `${(count / 1_000).toFixed(count < 100_000 ? 1 : 0)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}

/** Attained service in its policy's unit: `12.3 s`, `12.3k tok`. @param measures absent: time. */
export function attainedText(attained: number, measures: ViewMeasures | undefined): string {
  return measures === "tokens" ? `${short(attained)} tok` : duration(attained);
}

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A bar of at most `width` cells. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(Math.max(0, Math.min(1, share)) * width * 8);
  return "█".repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? "");
}

export interface Column<T> {
  title: string;
  /** Cells; absent: as wide as its widest value. */
  width?: number;
  align?: "left" | "right";
  value: (row: T) => string;
}

/** The largest of many; `floor` of none. Not by spreading: a call takes some 100,000 arguments. */
export function largest<T>(values: Iterable<T>, of: (value: T) => number, floor = 0): number {
  let most = floor;
  for (const value of values) most = Math.max(most, of(value));
  return most;
}

/** A table with aligned columns; lines have no trailing spaces. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[]): string[] {
  const values = rows.map((row) => columns.map(({ value }) => value(row).replace(CONTROLS, "")));
  const widths = columns.map(
    ({ title, width }, i) => width ?? largest(values, (row) => cells(row[i] ?? ""), cells(title)),
  );
  const line = (texts: readonly string[]) =>
    columns
      .map(({ align = "left" }, i) => fit(texts[i] ?? "", widths[i] ?? 0, align))
      .join("  ")
      .trimEnd();
  return [line(columns.map(({ title }) => title)), ...values.map(line)];
}
