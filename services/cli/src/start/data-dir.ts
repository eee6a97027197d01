/**
 * One supervisor per data folder. Its lock file names the supervisor and the processes it started, so that the next
 * start after a crash can wait for what still stops, and end what does not.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { holdFolder, STOP_MS_MAX, sendSignal } from "@autellix/runtime";
import { z } from "zod";
import { ReadableError } from "../usage.ts";
import type { Console } from "./console.ts";

/** Services stop by themselves within `STOP_MS_MAX` once their supervisor is gone. */
const ORPHAN_MS_MAX = STOP_MS_MAX + 2_000;
const POLL_MS = 100;

const processSchema = z.object({
  pid: z.number().int().positive(),
  /** Tells a process from a later one with the same pid; empty where the system does not say. */
  bornAt: z.string(),
});
type Process = z.infer<typeof processSchema>;
const lockSchema = z.object({ supervisor: processSchema, children: z.array(processSchema) });
type Lock = z.infer<typeof lockSchema>;

export interface DataDirLock {
  /** Notes a process, so that nothing of it can be left behind unseen. */
  addChild(pid: number): void;
  release(): void;
}

/** @throws ReadableError when another supervisor uses the folder, or it cannot be written. */
export async function lockDataDir(dataDir: string, console: Console, signal: AbortSignal): Promise<DataDirLock> {
  const path = join(dataDir, "supervisor.json");
  const lock: Lock = { supervisor: describe(process.pid), children: [] };
  try {
    await mkdir(dataDir, { recursive: true });
    const stale = take(path, lock, dataDir);
    if (stale !== undefined) await endOrphans(stale.children, console, signal);
  } catch (error) {
    if (error instanceof ReadableError || signal.aborted) throw error;
    throw new ReadableError(
      `the data folder ${dataDir} cannot be used (${(error as Error).message}); choose another with --data-dir`,
    );
  }
  const held = holdFolder(path);
  return {
    addChild(pid) {
      lock.children = [...lock.children.filter(isSame), describe(pid)];
      // By rename: a crash in between must not leave half a file.
      writeFileSync(`${path}.new`, JSON.stringify(lock));
      renameSync(`${path}.new`, path);
    },
    release() {
      rmSync(path, { force: true });
      held.release();
    },
  };
}

/** @returns the lock of a supervisor that is gone, if there was one. */
function take(path: string, lock: Lock, dataDir: string): Lock | undefined {
  const stale = readLock(path);
  if (stale !== undefined && isSame(stale.supervisor)) {
    throw new ReadableError(
      `the data folder ${dataDir} is used by another autellix (process ${stale.supervisor.pid}); stop that one or choose another folder with --data-dir`,
    );
  }
  rmSync(path, { force: true });
  writeFileSync(path, JSON.stringify(lock), { flag: "wx" });
  return stale;
}

function readLock(path: string): Lock | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return lockSchema.parse(JSON.parse(text));
  } catch {
    return undefined; // half a file of a crash says nothing
  }
}

async function endOrphans(children: readonly Process[], console: Console, signal: AbortSignal): Promise<void> {
  const until = performance.now() + ORPHAN_MS_MAX;
  const left = () => children.filter(isSame);
  if (left().length > 0) console.line("waiting for what an earlier start left behind to end …");
  while (left().length > 0 && performance.now() < until) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  for (const { pid } of left()) sendSignal(-pid, "SIGKILL");
}

function describe(pid: number): Process {
  return { pid, bornAt: bornAt(pid) };
}

function isSame({ pid, bornAt: born }: Process): boolean {
  return sendSignal(pid, 0) && bornAt(pid) === born && !isZombie(pid);
}

/** Start time in clock ticks since boot, from Linux; empty elsewhere and for a process that is gone. */
function bornAt(pid: number): string {
  return statFields(pid)[19] ?? "";
}

/** Dead, but not yet collected by whoever adopted it. */
function isZombie(pid: number): boolean {
  return statFields(pid)[0] === "Z";
}

/** The fields of `/proc/<pid>/stat` after the program's name, which may itself hold spaces and parentheses. */
function statFields(pid: number): string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return []; // gone, or no Linux
  }
}
