/** How a command of this package ends that cannot do what it was asked: one line for a person, no stack. */
import { UsageError } from "./options.ts";

const UNREADABLE_EXIT_CODE = 2;
const FILE_ERRORS = new Set(["ENOENT", "EACCES", "EISDIR", "ENOTDIR"]);

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

function readableText(error: unknown, command: string): string | undefined {
  if (error instanceof UsageError) return `${error.message}; see ${command} -- --help`;
  if (error instanceof UnreadableFile) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  return code !== undefined && FILE_ERRORS.has(code) ? message : undefined;
}
