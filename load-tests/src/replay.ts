/** `npm run replay`: a recorded input log through the core again, or through a simulation under other policies. */
import { open } from "node:fs/promises";
import { InputLogError } from "@autellix/protocol/input-log";
import { RecordedCalls, replay } from "@autellix/simulation";
import { UsageError } from "./options.ts";
import { HELP, parseReplayOptions } from "./replay/options.ts";
import { inputText, replayText } from "./replay/text.ts";

const DIVERGED_EXIT_CODE = 1;
const UNREADABLE_EXIT_CODE = 2;

async function main(args: readonly string[]): Promise<number> {
  const options = parseReplayOptions(args);
  if (!options) {
    process.stdout.write(HELP);
    return 0;
  }
  const calls = new RecordedCalls();
  let startedAt: number | undefined;
  const file = await open(options.log);
  const result = await replay(file.readLines(), (replayed) => {
    calls.hear(replayed.input);
    startedAt ??= replayed.input.at;
    if (options.printsCommands) console.log(inputText(replayed, startedAt));
  });
  console.log(replayText(options.log, result));
  if (result.divergence) return DIVERGED_EXIT_CODE;
  return 0;
}

/** @returns one line for a person; undefined for a defect, which shows its stack. */
function readableText(error: unknown): string | undefined {
  if (error instanceof UsageError) return `${error.message}\n\n${HELP}`;
  if (error instanceof InputLogError) return `${error.code}: ${error.message}`;
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
