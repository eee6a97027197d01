/** `npm run replay`: a recorded input log through the core again, or its traffic under other policies, simulated. */
import { open } from "node:fs/promises";
import { InputLogError } from "@autellix/protocol/input-log";
import { replay } from "@autellix/simulation";
import { UsageError } from "./options.ts";
import { HELP, parseReplayOptions, type ReplayOptions } from "./replay/options.ts";
import { outcomeText, readRecording } from "./replay/outcome.ts";
import { inputText, replayText } from "./replay/text.ts";

const DIVERGED_EXIT_CODE = 1;
const UNREADABLE_EXIT_CODE = 2;

async function main(args: readonly string[]): Promise<number> {
  const options = parseReplayOptions(args);
  if (!options) {
    process.stdout.write(HELP);
    return 0;
  }
  const lines = (await open(options.log)).readLines();
  if (options.policies.length === 0) return await replayed(lines, options);
  const recording = await readRecording(lines, options.isOpenLoop);
  if (recording.programs.length === 0) throw new NothingRecorded(options.log);
  console.log(outcomeText(recording, options));
  return 0;
}

async function replayed(lines: AsyncIterable<string>, options: ReplayOptions): Promise<number> {
  let startedAt: number | undefined;
  const result = await replay(lines, (input) => {
    startedAt ??= input.input.at;
    if (options.printsCommands) console.log(inputText(input, startedAt));
  });
  console.log(replayText(options.log, result));
  return result.divergence ? DIVERGED_EXIT_CODE : 0;
}

class NothingRecorded extends Error {
  constructor(log: string) {
    super(`log_without_calls: no call in ${log} has ended with an answer`);
  }
}

/** @returns one line for a person; undefined for a defect, which shows its stack. */
function readableText(error: unknown): string | undefined {
  if (error instanceof UsageError) return `${error.message}; see npm run replay -- --help`;
  if (error instanceof InputLogError) return `${error.code}: ${error.message}`;
  if (error instanceof NothingRecorded) return error.message;
  const { code, message } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "EACCES" || code === "EISDIR" ? message : undefined;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const text = readableText(error);
  if (text === undefined) throw error;
  console.error(text);
  process.exitCode = UNREADABLE_EXIT_CODE;
}
