/**
 * The host tier: contexts as files on a file system in memory. One file per context, written and read in one go. Files
 * lie in a folder of this process, which goes with it; what is left for other engines of the host lies beside it.
 */
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { isOwnerAlive, ownerName } from "./owner.ts";

/** Of a context that was left for another engine: it comes within seconds, or never. */
export const LEFT_AGE_MS_MAX = 600_000;
const CLEANING_MS = 60_000;
const DEFAULT_BYTES_MAX = 1024 ** 3;
/** Share of the file system's free space that a tier without a limit of its own takes. */
const DEFAULT_FREE_SHARE = 0.5;
const MEMORY_FOLDER = "/dev/shm";
const LEFT_FOLDER = "left";
/** Only this user may read contexts: they hold what people wrote. */
const PRIVATE_MODE = 0o700;

export interface HostTierOptions {
  /** The tier is in a folder of this user in it. Default: `/dev/shm`; where there is none: no tier. */
  dir: string | undefined;
  /** Default: 1 GiB, or half of what the file system has free. 0: no tier. */
  bytesMax: number | undefined;
  /** Gets whole sentences for the operator. */
  warn: (sentence: string) => void;
}

export interface HostFile {
  readonly path: string;
  readonly bytes: number;
}

export class HostTier {
  readonly bytesMax: number;
  readonly #base: string;
  readonly #own: string;
  #bytes = 0;
  #files = 0;
  readonly #cleaning: NodeJS.Timeout;

  private constructor(base: string, own: string, bytesMax: number) {
    this.#base = base;
    this.#own = own;
    this.bytesMax = bytesMax;
    // The folder may be gone meanwhile; it is made again when it is needed.
    const clean = () => void dropLeft(base, Number.POSITIVE_INFINITY).catch(() => {});
    this.#cleaning = setInterval(clean, CLEANING_MS).unref();
  }

  /**
   * Removes what dead processes have left behind, too.
   * @returns undefined when there is no tier: it is switched off, or its folder cannot be used (then a warning says why).
   */
  static async open(options: HostTierOptions): Promise<HostTier | undefined> {
    const { warn } = options;
    if (options.bytesMax === 0) return undefined;
    try {
      const parent = options.dir ?? (await memoryFolder());
      if (parent === undefined) return undefined;
      const base = join(parent, `autellix-${process.getuid?.() ?? "user"}`);
      await makePrivate(base);
      await makePrivate(join(base, LEFT_FOLDER));
      await removeDead(base);
      await dropLeft(base, Number.POSITIVE_INFINITY);
      const bytesMax = await limit(base, options.bytesMax, warn);
      return new HostTier(base, await mkdtemp(join(base, `${await ownerName()}-`)), bytesMax);
    } catch (error) {
      warn(`There is no host tier for KV: ${error instanceof Error ? error.message : String(error)}.`);
      return undefined;
    }
  }

  /** Bytes of this process's files. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * @param bytes upper limit of what `write` will write.
   * @returns undefined when there is no room, in the tier or on its file system.
   */
  async save(bytes: number, write: (path: string) => Promise<number>): Promise<HostFile | undefined> {
    if (!(await this.#hasRoom(bytes))) return undefined;
    const path = join(this.#own, `${this.#files++}.kv`);
    try {
      const written = await write(path);
      // The last bytes leave the C library's buffer when the file is closed: an error there is seen by nobody.
      if ((await stat(path)).size !== written) throw new Error("the file is not whole");
      this.#bytes += written;
      return { path, bytes: written };
    } catch {
      // Whatever went wrong (mostly: somebody else filled the file system meanwhile), the context is still where it was.
      await rm(path, { force: true });
      return undefined;
    }
  }

  async remove(file: HostFile): Promise<void> {
    this.#bytes -= file.bytes;
    await rm(file.path, { force: true });
  }

  /**
   * Puts a file where other engines look for it. It is this tier's no longer.
   * @param header what they must know of it, as JSON.
   * @returns whether it is there.
   */
  async leave(name: string, file: HostFile, header: unknown): Promise<boolean> {
    const [headerPath, statePath] = leftPaths(this.#base, name);
    const draft = join(this.#own, `${this.#files++}.json`);
    try {
      await writeFile(draft, JSON.stringify(header));
      // Its age counts from here, not from the swap.
      const now = new Date();
      await utimes(file.path, now, now);
      // The header is what a taker claims: it comes last, and an older one goes first.
      await rm(headerPath, { force: true });
      await rename(file.path, statePath);
      await rename(draft, headerPath);
      this.#bytes -= file.bytes;
      return true;
    } catch {
      // No room, or somebody took the folder away: the next engine recomputes.
      await Promise.all([rm(draft, { force: true }), this.remove(file)]);
      return false;
    }
  }

  /** Takes what was left under this name; only one taker gets it. @returns undefined when there is nothing. */
  async claim(name: string): Promise<{ file: HostFile; header: unknown } | undefined> {
    const [headerPath, statePath] = leftPaths(this.#base, name);
    const [header, path] = [join(this.#own, `${this.#files}.json`), join(this.#own, `${this.#files}.kv`)];
    this.#files++;
    try {
      await rename(headerPath, header);
      await rename(statePath, path);
      const known: unknown = JSON.parse(await readFile(header, "utf8"));
      await rm(header);
      const { size } = await stat(path);
      if (this.#bytes + size > this.bytesMax) throw new Error("no room");
      this.#bytes += size;
      return { file: { path, bytes: size }, header: known };
    } catch {
      await Promise.all([rm(header, { force: true }), rm(path, { force: true })]);
      return undefined;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#cleaning);
    this.#bytes = 0;
    await rm(this.#own, { recursive: true, force: true });
  }

  /** Makes room at the expense of what was left for others, oldest first. */
  async #hasRoom(bytes: number): Promise<boolean> {
    const rest = this.bytesMax - this.#bytes - bytes;
    if (rest < 0) return false;
    try {
      // Somebody may have cleaned up while we slept.
      await mkdir(this.#own, { recursive: true, mode: PRIVATE_MODE });
      await dropLeft(this.#base, rest);
      return (await freeBytes(this.#base)) >= bytes;
    } catch {
      return false;
    }
  }
}

function leftPaths(base: string, name: string): [header: string, state: string] {
  return [join(base, LEFT_FOLDER, `${name}.json`), join(base, LEFT_FOLDER, `${name}.kv`)];
}

async function memoryFolder(): Promise<string | undefined> {
  const found = await stat(MEMORY_FOLDER).catch(() => undefined);
  return found?.isDirectory() ? MEMORY_FOLDER : undefined;
}

/** Others may write in `/dev/shm` too: a folder that is not ours alone is not used. */
async function makePrivate(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: PRIVATE_MODE });
  const found = await lstat(dir);
  if (!found.isDirectory()) throw new Error(`${dir} is not a folder`);
  const uid = process.getuid?.();
  if (uid === undefined) return;
  if (found.uid !== uid || (found.mode & 0o022) !== 0) throw new Error(`others may write to ${dir}`);
}

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

async function limit(dir: string, wanted: number | undefined, warn: (sentence: string) => void): Promise<number> {
  const free = await freeBytes(dir);
  const bytesMax = Math.floor(
    Math.min(wanted ?? DEFAULT_BYTES_MAX, wanted === undefined ? free * DEFAULT_FREE_SHARE : free),
  );
  if (bytesMax < (wanted ?? DEFAULT_BYTES_MAX)) {
    warn(
      `The host tier for KV has only ${mebibytes(bytesMax)} MiB, since ${dir} has ${mebibytes(free)} MiB free: ` +
        "enlarge that file system (in a container: --shm-size), name another one, or lower hostKvBytesMax.",
    );
  }
  return bytesMax;
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 1024 ** 2);
}

async function removeDead(base: string): Promise<void> {
  for (const name of await readdir(base)) {
    if (name === LEFT_FOLDER) continue;
    const path = join(base, name);
    const found = await lstat(path).catch(() => undefined);
    if (found !== undefined && !(await isOwnerAlive(name, found.mtimeMs))) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

/** Drops what is too old, then the oldest until the rest fits. */
async function dropLeft(base: string, bytesMax: number): Promise<void> {
  const folder = join(base, LEFT_FOLDER);
  const files = [];
  for (const name of await readdir(folder)) {
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (found !== undefined) files.push({ name, bytes: found.size, atMs: found.mtimeMs });
  }
  files.sort((a, b) => b.atMs - a.atMs);
  let bytes = 0;
  for (const file of files) {
    bytes += file.bytes;
    if (bytes > bytesMax || Date.now() - file.atMs > LEFT_AGE_MS_MAX)
      await rm(join(folder, file.name), { force: true });
  }
}
