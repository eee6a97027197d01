/** What this machine can give: programs on its PATH, and packages of Debian where that is allowed. */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { runChild } from "@autellix/runtime";
import type { Env } from "../engines/equipment/python.ts";

const INSTALL_MS_MAX = 10 * 60_000;
/** Where programs for root are, which a user's PATH may lack. */
const SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

export function withSystemPath(env: Env): Env {
  return { ...env, PATH: [env.PATH ?? "", ...SYSTEM_FOLDERS].join(delimiter) };
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** @returns where the program is, or undefined. */
export async function find(program: string, env: Env): Promise<string | undefined> {
  for (const folder of (withSystemPath(env).PATH ?? "").split(delimiter)) {
    const path = join(folder, program);
    if (folder === "") continue;
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/**
 * Makes programs exist, by Debian's packages when this is root on Debian.
 * @param packages by the program that each brings.
 * @throws Error that says in one line what is missing and how to get it.
 */
export async function needPrograms(
  packages: Readonly<Record<string, string>>,
  { env, signal, say }: { env: Env; signal: AbortSignal; say(text: string): void },
): Promise<void> {
  const missing = async () => {
    const found = await Promise.all(Object.keys(packages).map((program) => find(program, env)));
    return Object.keys(packages).filter((_, index) => found[index] === undefined);
  };
  const programs = await missing();
  if (programs.length === 0) return;
  const names = [...new Set(programs.map((program) => packages[program] ?? program))];
  const advice = `${programs.join(", ")} not found (Debian, as root: apt-get install ${names.join(" ")})`;
  if (!isRoot() || (await find("apt-get", env)) === undefined) throw new Error(advice);
  say(`installing ${names.join(", ")} by apt-get …`);
  const run = (args: string[]) =>
    runChild("apt-get", args, {
      env: { ...env, DEBIAN_FRONTEND: "noninteractive" },
      signal: AbortSignal.any([signal, AbortSignal.timeout(INSTALL_MS_MAX)]),
    });
  // Another apt-get may be at work.
  const wait = ["-o", "DPkg::Lock::Timeout=300"];
  try {
    await run([...wait, "update", "--quiet"]);
    await run([...wait, "install", "--yes", "--quiet", "--no-install-recommends", ...names]);
  } catch (error) {
    signal.throwIfAborted();
    throw new Error(`${advice}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const left = await missing();
  if (left.length > 0) throw new Error(`${left.join(", ")} not found, although ${names.join(", ")} was installed`);
}
