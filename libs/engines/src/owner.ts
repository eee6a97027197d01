/** Names folders after the process that owns them, so that a later process can tell whether it still runs. */
import { readFile, readlink } from "node:fs/promises";

/** A folder of a process that we cannot see (another container) is dead when it has not been touched for so long. */
const UNSEEN_AGE_MS_MAX = 3_600_000;
const NAME_PATTERN = /^(\w+)-(\d+)-(\w+)-/;
const UNKNOWN = "x";

/** `<process namespace>-<pid>-<start time>`: pids come again, start times of one pid do not. */
export async function ownerName(): Promise<string> {
  return `${await namespace()}-${process.pid}-${(await startTime(process.pid)) ?? UNKNOWN}`;
}

/**
 * @param name begins with an `ownerName`; of anything else nobody knows, so it is taken for alive.
 * @param touchedMs when it was last changed.
 */
export async function isOwnerAlive(name: string, touchedMs: number): Promise<boolean> {
  const [, space, pid, start] = NAME_PATTERN.exec(name) ?? [];
  if (space === undefined || pid === undefined) return true;
  if (space !== (await namespace())) return Date.now() - touchedMs < UNSEEN_AGE_MS_MAX;
  const now = await startTime(Number(pid));
  if (now !== undefined) return now === start;
  return start === UNKNOWN && isRunning(Number(pid));
}

/** Containers may share `/dev/shm` and have the same pids. */
async function namespace(): Promise<string> {
  const link = await readlink("/proc/self/ns/pid").catch(() => "");
  return /\d+/.exec(link)?.[0] ?? UNKNOWN;
}

/** In ticks since the boot; undefined where the system does not say it, or there is no such process. */
async function startTime(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  // Field 22; field 2 is the name in brackets, which may hold spaces.
  return text?.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
