import { PartError } from "@autellix/runtime";

const USAGE_EXIT_CODE = 2;

/** The command line cannot be understood; `message` is one readable line. Exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";

  /** @param help the command that lists the options. */
  static fromParseArgs(error: unknown, help: string): UsageError {
    const text = error instanceof Error ? error.message : String(error);
    // parseArgs explains how to pass a positional that starts with a dash; nobody here takes one.
    return new UsageError(`${text.split(/\. To specify|\n/, 1)[0]}; see ${help}`);
  }
}

/** Something that a person can set right; `message` is for them, exit code 1. */
export class ReadableError extends Error {
  override readonly name = "ReadableError";
}

/**
 * Ends a command that failed: one readable line for what a person can set right.
 * @returns the exit code. @throws the error itself when it is a defect: its stack is wanted then.
 */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof UsageError || error instanceof ReadableError || error instanceof PartError)) throw error;
  process.stderr.write(`autellix: ${error.message}\n`);
  return error instanceof UsageError ? USAGE_EXIT_CODE : 1;
}
