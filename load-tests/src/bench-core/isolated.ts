/** Measurements in processes of their own: each has a fresh heap, and the flags of the scheduler's process. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { CoreLoad } from "./load.ts";
import type { MemoryLoad, MemoryResult } from "./memory.ts";
import type { SpeedResult } from "./speed.ts";

/** MB per half of V8's young generation, as `npm start` sets it for the scheduler (a test compares the two). */
export const SCHEDULER_SEMI_SPACE_MB = 8;

export type Measurement = { kind: "speed"; load: CoreLoad; measureMs: number } | { kind: "memory"; load: MemoryLoad };

export interface ChildOptions {
  semiSpaceMb: number;
  /** Folder for a CPU profile. */
  profileFolder: string | undefined;
  signal: AbortSignal;
}

export function flagsOf({ semiSpaceMb, profileFolder }: Omit<ChildOptions, "signal">): string[] {
  return [
    `--max-semi-space-size=${semiSpaceMb}`,
    "--expose-gc",
    ...(profileFolder === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`]),
  ];
}

export async function measureSpeedApart(
  load: CoreLoad,
  measureMs: number,
  options: ChildOptions,
): Promise<SpeedResult> {
  return (await measureApart({ kind: "speed", load, measureMs }, options)) as SpeedResult;
}

export async function measureMemoryApart(load: MemoryLoad, options: ChildOptions): Promise<MemoryResult> {
  return (await measureApart({ kind: "memory", load }, options)) as MemoryResult;
}

/** @throws when the process ends without a result; what it wrote stands on the terminal. */
function measureApart(measurement: Measurement, options: ChildOptions): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const child = fork(fileURLToPath(new URL("./child.ts", import.meta.url)), [], {
    execArgv: flagsOf(options),
    signal: options.signal,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  let result: { value: unknown } | undefined;
  child.once("message", (value) => {
    result = { value };
  });
  child.once("error", reject);
  child.once("exit", (code, signal) => {
    if (result && code === 0) resolve(result.value);
    else reject(new Error(`the measurement ${JSON.stringify(measurement)} ended with ${signal ?? `code ${code}`}`));
  });
  child.send(measurement);
  return promise;
}
