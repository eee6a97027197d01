/**
 * What a person sees while a load runs: one line that renews itself in a terminal, a line now and then in a log.
 */
import type { Progress } from "./run.ts";

const LOG_LINE_MS = 10_000;

let lastLineMs = -LOG_LINE_MS;
let lineOpen = false;

/** A line that stays. */
export function say(text: string): void {
  closeLine();
  process.stderr.write(`${text}\n`);
}

/** A line that the next one replaces. */
export function showStatus(text: string): void {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\u001b[2K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`);
    lineOpen = true;
  } else if (performance.now() - lastLineMs >= LOG_LINE_MS) {
    lastLineMs = performance.now();
    process.stderr.write(`${text}\n`);
  }
}

export function closeLine(): void {
  if (lineOpen) process.stderr.write("\n");
  lineOpen = false;
}

export function progressText(name: string, progress: Progress): string {
  const { elapsedMs, arrived, programs, underWay, finished, failed, callsEnded } = progress;
  const counts = `${arrived} of ${programs} programs started, ${underWay} under way, ${finished} finished, ${failed} not`;
  return `${name} ${(elapsedMs / 1_000).toFixed(0)} s: ${counts}; ${callsEnded} calls ended`;
}
