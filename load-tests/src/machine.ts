/**
 * What a result depends on beside the code: written into every report.
 */
import { execFile } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import { promisify } from "node:util";

export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  platform: string;
  node: string;
  /** Commit of the checkout, with `+changes` when files differ from it; `unknown` without git. */
  commit: string;
  /** The command, without the paths of this machine. */
  command: string;
}

const run = promisify(execFile);

export async function describeMachine(command: string): Promise<Machine> {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryBytes: totalmem(),
    platform: `${process.platform} ${process.arch} ${release()}`,
    node: process.version,
    commit: await commitOf(import.meta.dirname),
    command,
  };
}

/** `npm run <script> -- <args>`, as it can be pasted into a shell. */
export function commandLine(script: string, args: readonly string[]): string {
  const words = args.map((word) => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`));
  return ["npm run", script, "--", ...words].join(" ");
}

async function commitOf(folder: string): Promise<string> {
  try {
    const [{ stdout: commit }, { stdout: changes }] = await Promise.all([
      run("git", ["rev-parse", "HEAD"], { cwd: folder }),
      run("git", ["status", "--porcelain", "--untracked-files=no"], { cwd: folder }),
    ]);
    return `${commit.trim()}${changes.trim() === "" ? "" : "+changes"}`;
  } catch {
    return "unknown"; // an unpacked archive has no git
  }
}
