/** How a command of this package ends: interrupted, or unable to do what it was asked; one line for a person, no stack. */
import { closeLine } from "./console.ts";
import { UsageError } from "./options.ts";

const INTERRUPT_EXIT_CODE = 130;
const UNREADABLE_EXIT_CODE = 2;
const FILE_ERRORS = new Set(["ENOENT", "EACCES", "EEXIST", "EISDIR", "ENOSPC", "ENOTDIR", "EPERM", "EROFS"]);

/** A file cannot be read as what it should be; `message` is one line for a person: code, file and line first. */
export class UnreadableFile extends Error {
  override readonly name = "UnreadableFile";
}

/**
 * Ends with code 2, and one line on standard error, for mistakes of the caller's; a defect is thrown on, with its stack.
 *
 * @param command as it is called, for the hint at its help.
 */
export function endUnreadable(error: unknown, command: string): void {
  const text = readableText(error, command);
  if (text === undefined) throw error;
  console.error(text);
  process.exitCode = UNREADABLE_EXIT_CODE;
}

/** Runs a command that Ctrl-C ends in order. @param command as it is called. */
export async function runInterruptible(
  main: (args: readonly string[], signal: AbortSignal) => Promise<void>,
  command: string,
): Promise<void> {
  const stop = new AbortController();
  // One Ctrl-C can arrive twice, from the terminal and forwarded by a parent.
  process.on("SIGINT", () => stop.abort());
  try {
    await main(process.argv.slice(2), stop.signal);
  } catch (error) {
    closeLine();
    if (stop.signal.aborted) process.exitCode = INTERRUPT_EXIT_CODE;
    else endUnreadable(error, command);
  }
}

/** A report was written, but not of all that was asked for. */
export function endIncomplete(missing: number, signal: AbortSignal): void {
  if (missing === 0) return;
  console.error(`${missing} runs were not made: ${signal.aborted ? "interrupted" : "out of time"}`);
  process.exitCode = signal.aborted ? INTERRUPT_EXIT_CODE : 1;
}

function readableText(error: unknown, command: string): string | undefined {
  if (error instanceof UsageError) return `${error.message}; see ${command} -- --help`;
  if (error instanceof UnreadableFile) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  return code !== undefined && FILE_ERRORS.has(code) ? message : undefined;
}
