/**
 * What must not outlive this process: child process groups and temporary folders. Code that makes one registers it
 * and releases it; the exit handler is for exits that skip that (a second Ctrl-C, a crash). A kill -9 runs no handler:
 * there the children notice by themselves (`child.ts`), and stale folders are swept at the next start (`cache.ts`).
 */
import { rmSync } from "node:fs";

const groups = new Set<number>();
const folders = new Set<string>();
let armed = false;

/** Kills the process group on exit, until it is released. */
export function holdGroup(pid: number): { release(): void } {
  arm();
  groups.add(pid);
  return { release: () => void groups.delete(pid) };
}

/** Removes the folder on exit, until it is released. */
export function holdFolder(path: string): { release(): void } {
  arm();
  folders.add(path);
  return { release: () => void folders.delete(path) };
}

/** @returns whether a signal could be sent; false when no such process or group is left. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    // EPERM: it exists and is not ours.
    if ((error as NodeJS.ErrnoException).code === "EPERM") return true;
    throw error;
  }
}

function arm(): void {
  if (armed) return;
  armed = true;
  process.once("exit", () => {
    for (const pid of groups) sendSignal(-pid, "SIGKILL");
    for (const path of folders) rmSync(path, { recursive: true, force: true });
  });
}
