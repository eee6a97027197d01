/** One core for what is measured, the others for everything around it: on Linux, by `taskset`. */
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Cores {
  /** For `taskset -c`. */
  engine: string;
  others: string;
}

/** The last core for the engine. @returns undefined where nothing can be pinned: one core, or no `taskset`. */
export async function coresToPin(): Promise<Cores | undefined> {
  const last = cpus().length - 1;
  if (last < 1) return undefined;
  try {
    await run("taskset", ["--version"]);
  } catch {
    return undefined; // not Linux, or not installed
  }
  return { engine: String(last), others: last === 1 ? "0" : `0-${last - 1}` };
}

/** Moves a process with all its threads. @throws when it has ended. */
export async function pin(pid: number, cores: string): Promise<void> {
  await run("taskset", ["-a", "-c", "-p", cores, String(pid)]);
}
