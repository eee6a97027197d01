/**
 * Tables for people.
 */

export type Cell = string | number | undefined;

/** Columns as wide as they need; numbers to the right. */
export function formatTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const cells = rows.map((row) => head.map((_, column) => cellText(row[column])));
  const widths = head.map((title, column) => Math.max(title.length, ...cells.map((row) => row[column]?.length ?? 0)));
  const isNumber = head.map((_, column) => rows.some((row) => typeof row[column] === "number"));
  const line = (row: readonly string[]) =>
    row
      .map((text, column) => (isNumber[column] ? text.padStart(widths[column] ?? 0) : text.padEnd(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(head), widths.map((width) => "─".repeat(width)).join("──"), ...cells.map(line)].join("\n");
}

function cellText(value: Cell): string {
  if (value === undefined || (typeof value === "number" && Number.isNaN(value))) return "–";
  if (typeof value === "string" || Number.isInteger(value)) return String(value);
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** `1.2 s`, `340 ms`, `2.40 ms`. */
export function formatMs(ms: number): string {
  if (Number.isNaN(ms)) return "–";
  if (ms >= 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(2)} s`;
  return ms >= 100 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`;
}

/** The same as Markdown; a number column is set to the right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const isNumber = head.map((_, column) => rows.some((row) => typeof row[column] === "number"));
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const body = rows.map((row) => line(head.map((_, column) => cellText(row[column]))));
  return [line(head), line(isNumber.map((right) => (right ? "--:" : "---"))), ...body].join("\n");
}
