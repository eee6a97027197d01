/**
 * Folders of test equipment in the cache, outside of the clone. One appears there whole or not at all: it is made beside
 * its place and renamed. A folder that an interrupted run left half-made is taken over and gone on with; a second run
 * that needs what a first one is making waits for it.
 */
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { sendSignal } from "@autellix/runtime";

/** Written last: what the folder holds. */
const READY_FILE = "ready.json";
/** Touched while somebody works in a half-made folder. */
const BEAT_FILE = "working";
const BEAT_MS = 2_000;
/** A half-made folder without a beat for so long was left by a process that is gone. */
const SILENCE_MS_MAX = 30_000;
const POLL_MS = 500;
const HOST = hostname().replace(/[^A-Za-z0-9]/g, "_");

export interface MakeOptions {
  /** The folder of all equipment. */
  cache: string;
  /** Name of the folder; holds the version, so that another version is another folder. */
  name: string;
  /** Ends the work; what was made so far stays for the next run. */
  signal: AbortSignal;
  /** What is going on, in one line. */
  say(text: string): void;
  /** @throws an error when a folder that was made before cannot be used any more: it is then made anew. */
  check(folder: string, signal: AbortSignal): Promise<void>;
  /**
   * Fills the folder. It may hold what an interrupted run has made; nothing in it may depend on its path.
   * Waits for all that it started, also when it fails.
   */
  make(folder: string, signal: AbortSignal): Promise<void>;
}

/** @returns the path of the whole, checked folder. @throws what `make` throws; the signal's reason when it aborts. */
export async function obtainFolder(options: MakeOptions): Promise<string> {
  const { cache, name, signal, say, check } = options;
  const place = join(cache, name);
  await mkdir(cache, { recursive: true });
  let told = false;
  for (;;) {
    signal.throwIfAborted();
    if (await isReady(place)) {
      try {
        await check(place, signal);
        return place;
      } catch (error) {
        signal.throwIfAborted();
        say(`${place} is broken (${error instanceof Error ? error.message : String(error)}); it is made anew`);
        await removeWhole(place);
      }
    }
    const mine = await claim(cache, name);
    if (mine !== undefined) {
      await fill(mine, place, options);
      continue;
    }
    if (!told) say("another process is making it; waiting …");
    told = true;
    // Of two that gave way to each other one comes back first.
    await pause(POLL_MS + (process.pid % POLL_MS), undefined, { signal });
  }
}

async function isReady(place: string): Promise<boolean> {
  return readFile(join(place, READY_FILE)).then(
    () => true,
    () => false,
  );
}

/** Out of its place first, in one step: nobody may see it half-removed. */
async function removeWhole(place: string): Promise<void> {
  const away = `${place}.removed-${HOST}-${process.pid}`;
  await rename(place, away).catch(ignoreAbsent);
  await rm(away, { recursive: true, force: true, maxRetries: 3 });
}

async function fill(mine: string, place: string, { cache, name, signal, make }: MakeOptions): Promise<void> {
  const beat = setInterval(() => {
    // The folder has been taken over by somebody who thinks that this process is gone: `make` will notice.
    void touch(mine).catch(() => {});
  }, BEAT_MS);
  try {
    await make(mine, signal);
    signal.throwIfAborted();
    await writeFile(join(mine, READY_FILE), `${JSON.stringify({ name })}\n`);
  } finally {
    clearInterval(beat);
    // Whoever comes next need not wait for the silence.
    await rm(join(mine, BEAT_FILE), { force: true });
  }
  // Somebody who took this process for gone may have been quicker; theirs is as good.
  await rename(mine, place).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
  });
  // What interrupted runs have left is of no use any more.
  for (const { entry, worked } of await partials(cache, `${name}.partial-`))
    if (!worked) await rm(join(cache, entry), { recursive: true, force: true, maxRetries: 3 });
}

/** @returns a half-made folder that is this process's alone; undefined while somebody else works on one. */
async function claim(cache: string, name: string): Promise<string | undefined> {
  const prefix = `${name}.partial-`;
  const own = `${prefix}${HOST}-${process.pid}`;
  const mine = join(cache, own);
  const all = await partials(cache, prefix);
  if (all.some(({ entry, worked }) => worked && entry !== own)) return undefined;
  const abandoned = all.some(({ entry }) => entry === own) ? undefined : all[0]?.entry;
  if (abandoned === undefined) await mkdir(mine, { recursive: true });
  // Of several that want it, the rename gives it to one.
  else if ((await rename(join(cache, abandoned), mine).then(() => true, ignoreAbsent)) !== true) return undefined;
  await touch(mine);
  // Another may have begun in the same moment. Each is visible before it looks, so at least one of them sees the other.
  if (!(await partials(cache, prefix)).some(({ entry, worked }) => worked && entry !== own)) return mine;
  await rm(join(mine, BEAT_FILE), { force: true });
  return undefined;
}

interface Partial {
  entry: string;
  worked: boolean;
}

async function partials(cache: string, prefix: string): Promise<Partial[]> {
  const entries = (await readdir(cache)).filter((entry) => entry.startsWith(prefix));
  return Promise.all(entries.map(async (entry) => ({ entry, worked: await isWorkedOn(cache, entry, prefix) })));
}

async function isWorkedOn(cache: string, entry: string, prefix: string): Promise<boolean> {
  const beat = await stat(join(cache, entry, BEAT_FILE)).catch(() => undefined);
  if (beat === undefined || Date.now() - beat.mtimeMs > SILENCE_MS_MAX) return false;
  const owner = entry.slice(prefix.length);
  const pid = Number(owner.slice(owner.lastIndexOf("-") + 1));
  // Whether a process of another host lives only its beat can say.
  return owner !== `${HOST}-${pid}` || sendSignal(pid, 0);
}

async function touch(folder: string): Promise<void> {
  const file = join(folder, BEAT_FILE);
  const now = new Date();
  await utimes(file, now, now).catch(() => writeFile(file, ""));
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
