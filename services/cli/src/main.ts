/** Entry of every command of this repository; `scripts/start.mjs` runs it on Node 24. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { keysCommand } from "./keys.ts";
import { modelCommand } from "./model.ts";
import { observeCommand } from "./observe/command.ts";
import { isObserveCommand, OBSERVE_COMMANDS, observeHelp } from "./observe/options.ts";
import { startCommand } from "./start/command.ts";
import { testCommand } from "./suites/test.ts";
import { verifyCommand } from "./suites/verify.ts";
import { exitCodeOf, UsageError } from "./usage.ts";

const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const COMMANDS = [
  "start",
  "test",
  "test-engines",
  "test-system",
  "test-containers",
  "verify",
  "keys",
  "model",
  "run",
  ...OBSERVE_COMMANDS,
];

process.exitCode = await main().catch(exitCodeOf);
// The channel to `scripts/start.mjs` would keep this process alive.
if (process.connected) process.disconnect();

async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  const { env } = process;
  // npm runs scripts in the repository, and says here where the person is.
  const cwd = env.INIT_CWD ?? process.cwd();
  switch (command) {
    case "start":
      return startCommand(args, { env, cwd, root: ROOT, servicesDir: join(ROOT, "services") });
    case "test":
    case "test-engines":
    case "test-system":
    case "test-containers":
      return testCommand(command, args, { env, root: ROOT });
    case "verify":
      return verifyCommand({ env, root: ROOT });
    case "keys":
      return keysCommand(args, join(ROOT, ".data"), cwd, (text) => process.stdout.write(text));
    case "model":
      return modelCommand(args, { env, cwd });
    case "run":
      return runScript(args);
    case "help":
    case "--help":
    case "-h":
      process.stdout.write(observeHelp());
      return 0;
    default:
      if (isObserveCommand(command)) return observeCommand(command, args, env);
      throw new UsageError(`"${command ?? ""}" is none of ${COMMANDS.join(", ")}`);
  }
}

/** Runs a script of the repository as if it had been started by itself, on Node 24 and with everything installed. */
async function runScript([script, ...args]: string[]): Promise<number> {
  if (script === undefined) throw new UsageError("run needs the path of a script");
  const path = join(ROOT, script);
  process.argv = [process.execPath, path, ...args];
  await import(path);
  return Number(process.exitCode ?? 0);
}
