/**
 * A package of this machine's own Debian release, unpacked without root and without touching the system: apt works with
 * lists and a cache of its own in the folder.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { runChild } from "@autellix/runtime";
import type { Env } from "../engines/equipment/python.ts";

/** @returns the folder into which it was unpacked. @throws Error when this is no Debian, or apt fails. */
export async function unpackDebian(
  packageName: string,
  { env, folder, signal }: { env: Env; folder: string; signal: AbortSignal },
): Promise<string> {
  const [lists, cache, unpacked] = [join(folder, "lists"), join(folder, "cache"), join(folder, "unpacked")];
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(join(cache, "archives", "partial"), { recursive: true });
  const settings = [
    `Dir::State::lists=${lists}`,
    `Dir::Cache=${cache}`,
    "Acquire::Languages=none",
    // As root apt would change to a user that cannot write here.
    "APT::Sandbox::User=",
  ].flatMap((setting) => ["-o", setting]);
  const run = (command: string, args: string[]) => runChild(command, args, { env, cwd: folder, signal });
  await run("apt-get", [...settings, "update"]);
  await run("apt-get", [...settings, "download", packageName]);
  const archive = (await readdir(folder)).find((name) => name.endsWith(".deb"));
  if (archive === undefined) throw new Error("apt downloaded no package");
  await run("dpkg-deb", ["-x", join(folder, archive), unpacked]);
  await Promise.all([lists, cache, join(folder, archive)].map((path) => rm(path, { recursive: true, force: true })));
  return unpacked;
}
