/** Numbers and times as people read them, and short names. Pure, so that it is the same everywhere. */
import type { ViewMeasures } from "@autellix/protocol/view";

/** `250 µs`, `950 ms`, `1.4 s`, `12 s`, `3 m 20 s`, `2 h 5 m`. */
export function formatMs(ms: number): string {
  if (!Number.isFinite(ms)) return "∞";
  if (ms < 0.000_5) return "0 ms";
  if (ms < 0.999_5) return `${Math.round(ms * 1_000)} µs`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} m`;
}

/** `999`, `12.3k`, `4.5M`. */
export function formatCount(count: number): string {
  if (Math.abs(count) < 10_000) return String(Math.round(count));
  if (Math.abs(count) < 999_950) return `${(count / 1_000).toFixed(1)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}

/** Attained service in its policy's unit: `1.4 s`, `12.3k tok`. @param measures absent: time. */
export function formatAttained(attained: number, measures: ViewMeasures | undefined): string {
  return measures === "tokens" ? `${formatCount(attained)} tok` : formatMs(attained);
}

export function formatShare(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** `512 B`, `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const LABEL_CHARS = 3;

/**
 * The name of a program in the room of a chip: first letter and the end of its number (`long-3` → `L3`), else its first
 * characters. It tells neighbours apart, it is no identity.
 *
 * @param charsMax at least 2.
 */
export function chipLabel(program: string, charsMax = LABEL_CHARS): string {
  // Words and a number; hexadecimal ids end in digits, too, and are none.
  const found = /^([A-Za-z])[A-Za-z]*(?:[-_ .:#/][A-Za-z]+)*[-_ .:#/]?(\d+)$/.exec(program);
  if (found) return `${(found[1] ?? "").toUpperCase()}${(found[2] ?? "").slice(1 - charsMax)}`;
  const plain = program.replace(/[^A-Za-z0-9]/g, "");
  return (plain === "" ? program : plain).slice(0, charsMax);
}

const DIGITS = 12;
const ZEROS = "0".repeat(DIGITS);

/** For sorting: numbers inside names count as numbers (`p2` before `p10`). By hand, since tables have 10,000 names. */
export function sortKey(name: string): string {
  let key = "";
  let copied = 0;
  for (let at = 0; at < name.length; at++) {
    if (!isDigit(name, at)) continue;
    const from = at;
    while (isDigit(name, at + 1)) at++;
    key += name.slice(copied, from) + ZEROS.slice(Math.min(DIGITS, at + 1 - from));
    copied = from;
  }
  return key + name.slice(copied);
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 48 && code <= 57;
}

/** `Q3` */
export function levelName(level: number): string {
  return `Q${level + 1}`;
}
