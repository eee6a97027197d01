/** The commands that look at a running system: they read, and change nothing. */
import type { Env } from "@autellix/runtime";
import { ReadableError } from "../usage.ts";
import { doctor } from "./doctor/command.ts";
import { listing } from "./listing.ts";
import { type ObserveCommand, type ObserveOptions, observeHelp, observeOptions } from "./options.ts";
import { topCommand } from "./top/command.ts";
import { traceCommand } from "./trace/command.ts";

/** Columns of a table whose reader is no terminal. */
const COLUMNS_DEFAULT = 120;

type Print = (text: string) => void;

/** @returns the exit code: 0, or 1 when something is wrong or not there. @throws UsageError, ReadableError. */
export async function observeCommand(command: ObserveCommand, args: readonly string[], env: Env): Promise<number> {
  const parsed = observeOptions(command, args, env);
  const { stdout } = process;
  // Who reads has enough, as `head` does: no defect, and nothing more to say.
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit();
  });
  const print: Print = (text) => void stdout.write(text);
  if (parsed === undefined) {
    print(observeHelp(command));
    return 0;
  }
  // See no-color.org: any value that is not empty.
  const options = { ...parsed, colors: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb" };
  try {
    return await carriedOut(command, options, print);
  } catch (error) {
    if (options.json && error instanceof ReadableError && command !== "top")
      print(`${JSON.stringify({ schema: 1, command, error: error.message })}\n`);
    throw error;
  }
}

async function carriedOut(command: ObserveCommand, options: ObserveOptions, print: Print): Promise<number> {
  const { stdout } = process;
  switch (command) {
    case "top":
      return await topCommand(options);
    case "doctor":
      return await doctor({ url: options.nats, pools: options.pools, monitors: options.monitors }, options, print);
    case "trace":
      return await traceCommand(options, stdout.columns || COLUMNS_DEFAULT, print);
    default:
      return await listing(command, options, print);
  }
}
