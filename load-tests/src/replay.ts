/** `npm run replay`: a recorded input log through the core again, or its traffic under other policies, simulated. */
import { createReadStream } from "node:fs";
import { InputLogError } from "@autellix/protocol/input-log";
import { linesOf } from "@autellix/protocol/lines";
import { replay } from "@autellix/simulation";
import { endUnreadable, UnreadableFile } from "./ending.ts";
import { HELP, parseReplayOptions, type ReplayOptions } from "./replay/options.ts";
import { outcomeText, readRecording } from "./replay/outcome.ts";
import { inputText, replayText } from "./replay/text.ts";

const DIVERGED_EXIT_CODE = 1;

async function main(args: readonly string[]): Promise<number> {
  const options = parseReplayOptions(args);
  if (!options) {
    process.stdout.write(HELP);
    return 0;
  }
  const lines = linesOf(createReadStream(options.log, "utf8"));
  if (options.policies.length === 0) return await replayed(lines, options);
  const recording = await readRecording(lines, options.isOpenLoop);
  if (recording.programs.length === 0)
    throw new UnreadableFile(`log_without_calls: no call in ${options.log} has ended with an answer`);
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

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isLogError = error instanceof InputLogError;
  endUnreadable(isLogError ? new UnreadableFile(`${error.code}: ${error.message}`) : error, "npm run replay");
}
