/**
 * Packages of Debian, unpacked without root and without touching the system: apt runs with its own lists
 * and cache in a temporary folder, on the mirror that the machine is set up for.
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Env } from "../config.ts";
import { runChild } from "./child.ts";

const SOURCES = "/etc/apt";
/** Where new versions appear first. */
const SUITE = "sid";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

interface UnpackOptions {
  env: Env;
  folder: string;
  signal: AbortSignal;
}

/** @returns the folder into which the package was unpacked. @throws Error when this is no Debian or apt fails. */
export async function fromDebian(packageName: string, options: UnpackOptions): Promise<string> {
  const mirror = await debianMirror();
  const sources = join(options.folder, "sources.list");
  await writeFile(sources, `deb [signed-by=${KEYRING}] ${mirror} ${SUITE} main\n`);
  return await unpackDebian(packageName, options, [
    `Dir::Etc::sourcelist=${sources}`,
    "Dir::Etc::sourceparts=-",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
    "Acquire::Retries=0",
    "Acquire::http::Timeout=10",
    "Acquire::https::Timeout=10",
  ]);
}

/**
 * A package, by default of this machine's own release. apt works with lists and a cache of its own in the folder.
 *
 * @param more settings of apt.
 * @returns the folder into which it was unpacked. @throws Error when this is no Debian, or apt fails.
 */
export async function unpackDebian(
  packageName: string,
  { env, folder, signal }: UnpackOptions,
  more: readonly string[] = [],
): Promise<string> {
  const [lists, cache, unpacked] = [join(folder, "lists"), join(folder, "cache"), join(folder, "unpacked")];
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(join(cache, "archives", "partial"), { recursive: true });
  const settings = [
    ...more,
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

/** @returns the address of the Debian mirror in the machine's own apt sources (one-line and deb822 files). */
export async function debianMirror(): Promise<string> {
  const files = [join(SOURCES, "sources.list")];
  const parts = join(SOURCES, "sources.list.d");
  for (const name of await readdir(parts).catch(() => [])) files.push(join(parts, name));
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    const mirror = /^(?:deb\s+(?:\[[^\]]*\]\s*)?|URIs:\s*)(https?:\/\/\S+\/debian\/?)(?:\s|$)/m.exec(text)?.[1];
    if (mirror !== undefined) return mirror;
  }
  throw new Error("this machine is not set up for a Debian mirror");
}
