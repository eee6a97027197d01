/**
 * Child processes that never outlive this one, not even when it is killed with -9.
 *
 * A small shell starts the program and a watcher, which reads from a pipe whose other end this process holds. When
 * this process dies the kernel closes the pipe, the watcher reads its end and stops the program. All three are a
 * process group of their own, so a terminal's Ctrl-C does not reach them before their owner has decided what to do.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import type { Env } from "../config.ts";
import { holdGroup, sendSignal } from "./leftovers.ts";

/** Of each output stream of `runChild`, the last this many characters are kept. */
const OUTPUT_CHARS_MAX = 64 * 1024;
/** What the shell returns for a program that does not exist. */
const NOT_FOUND_CODE = 127;

/** Time that a program has between TERM and KILL. */
const KILL_GRACE_MS = 2_000;

const TIE = fileURLToPath(new URL("tie.sh", import.meta.url));

export interface ChildOptions {
  env: Env;
  cwd?: string;
  /** stdout and stderr: a file descriptor, "pipe" or "ignore". */
  stdout?: number | "pipe" | "ignore";
  stderr?: number | "pipe" | "ignore";
}

export interface TiedChild {
  readonly process: ChildProcess;
  /** Of the process group, not of the program itself. */
  readonly groupId: number;
  /** Exit code as a shell gives it: 128 + signal number for a program that a signal ended. */
  readonly exited: Promise<number>;
  /** Asks the program to end. */
  terminate(): void;
  /** What a crash does: the program and all it started are killed. */
  kill9(): Promise<void>;
  /** Ends the program and all it started in bounded time. */
  end(graceMs?: number): Promise<void>;
}

/** Starts a program that ends when this process does. A program that does not exist exits with code 127. */
export function spawnTied(command: string, args: readonly string[], options: ChildOptions): TiedChild {
  const { env, cwd, stdout = "ignore", stderr = "ignore" } = options;
  const stdio: StdioOptions = ["ignore", stdout, stderr, "pipe"];
  const child = spawn("/bin/sh", [TIE, command, ...args], { detached: true, env: { ...env }, cwd, stdio });
  const { pid } = child;
  if (pid === undefined) throw new Error("/bin/sh could not be started");
  const held = holdGroup(pid);
  const tie = child.stdio[3];
  // The watcher's end closes when it exits; what that does to this end does not matter.
  tie?.on("error", () => {});
  const exited = new Promise<number>((resolve) => {
    child.once("exit", (code, signal) => {
      tie?.destroy();
      // What the program started and left behind.
      sendSignal(-pid, "SIGKILL");
      held.release();
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
  return {
    process: child,
    groupId: pid,
    exited,
    terminate: () => void sendSignal(-pid, "SIGTERM"),
    async kill9() {
      sendSignal(-pid, "SIGKILL");
      await exited;
    },
    async end(graceMs = KILL_GRACE_MS) {
      sendSignal(-pid, "SIGTERM");
      const timer = setTimeout(() => sendSignal(-pid, "SIGKILL"), graceMs);
      await exited;
      clearTimeout(timer);
    },
  };
}

export class ChildError extends Error {
  override readonly name = "ChildError";
  readonly code: number;

  constructor(message: string, code: number) {
    super(message);
    this.code = code;
  }
}

/**
 * Runs a program to its end.
 * @returns its output (the last `OUTPUT_CHARS_MAX` characters of each stream).
 * @throws ChildError with the last line that it said, when it fails or does not exist; the signal's reason when
 * `signal` aborts, after the program and all that it started are gone.
 */
export async function runChild(
  command: string,
  args: readonly string[],
  options: { env: Env; cwd?: string; signal: AbortSignal },
): Promise<{ stdout: string; stderr: string }> {
  const { signal, ...rest } = options;
  signal.throwIfAborted();
  const child = spawnTied(command, args, { ...rest, stdout: "pipe", stderr: "pipe" });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child.process[name]?.setEncoding("utf8").on("data", (text: string) => {
      output[name] = (output[name] + text).slice(-OUTPUT_CHARS_MAX);
    });
  }
  const closed = new Promise<void>((resolve) => child.process.once("close", () => resolve()));
  const abort = () => void child.end();
  signal.addEventListener("abort", abort);
  const code = await child.exited;
  signal.removeEventListener("abort", abort);
  signal.throwIfAborted();
  await closed;
  if (code === NOT_FOUND_CODE) throw new ChildError(`${command} is not installed`, code);
  if (code !== 0)
    throw new ChildError(
      lastLine(output.stderr) || lastLine(output.stdout) || `${command} ended with code ${code}`,
      code,
    );
  return output;
}

/** @returns the last line with text in it, shortened to what fits in one line of a message. */
export function lastLine(text: string): string {
  const LINE_CHARS_MAX = 300;
  return text.trimEnd().split("\n").at(-1)?.trim().slice(0, LINE_CHARS_MAX) ?? "";
}
