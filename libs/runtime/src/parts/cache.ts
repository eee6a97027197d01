/**
 * The cache folder for outside parts, shared by all checkouts of one user. A file appears there whole or not at all:
 * it is made in a folder beside it and renamed.
 */
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { homedir, hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Env } from "../config.ts";
import { holdFolder, sendSignal } from "./leftovers.ts";

const TEMP_PREFIX = "temp-";

/** `$AUTELLIX_CACHE_DIR`, else `$XDG_CACHE_HOME/autellix`, else `~/.cache/autellix`. */
export function cacheDir(env: Env): string {
  if (env.AUTELLIX_CACHE_DIR) return resolve(env.AUTELLIX_CACHE_DIR);
  return join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), ".cache"), "autellix");
}

/** Runs `use` with a fresh folder inside the cache, which is gone afterwards whatever happened. */
export async function withTempFolder<T>(cache: string, use: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(cache, { recursive: true });
  await sweep(cache);
  const folder = await mkdtemp(join(cache, `${TEMP_PREFIX}${host()}-${process.pid}-`));
  const held = holdFolder(folder);
  try {
    return await use(folder);
  } finally {
    // Read-only folders inside (Go's module cache makes them) need no care: nothing here keeps one in the folder.
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    held.release();
  }
}

/** Moves a finished file of the same file system to its place. */
export async function place(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await rename(from, to);
}

/** Removes what a process of this machine left when it was killed with -9. */
async function sweep(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(`${TEMP_PREFIX}${host()}-`)) continue;
    const pid = Number(name.slice(`${TEMP_PREFIX}${host()}-`.length).split("-", 1)[0]);
    if (Number.isInteger(pid) && pid > 0 && !sendSignal(pid, 0))
      await rm(join(cache, name), { recursive: true, force: true });
  }
}

function host(): string {
  return hostname().replace(/[^A-Za-z0-9]/g, "_");
}
