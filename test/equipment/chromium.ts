/** A real browser: Chromium of this machine, or Debian's package, which is installed where the tests may. */
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { runChild } from "@autellix/runtime";
import type { Component } from "../engines/equipment/index.ts";
import type { Env } from "../engines/equipment/python.ts";

/** What the pages are written for: `:has`, `color-mix`, popovers of today. */
const VERSION_MIN = 120;
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const INSTALL_MS_MAX = 10 * 60_000;
const CHECK_MS_MAX = 30_000;
/** Another apt may be at work. */
const APT_LOCK_S_MAX = 300;

export interface Chromium {
  bin: string;
  version: number;
}

/** `$CHROMIUM_BIN` · PATH · Debian's package, installed when this is root on Debian. @returns what is missing, in one line. */
export async function obtainChromium(env: Env): Promise<Component<Chromium>> {
  try {
    const found = (await findChromium(env)) ?? (await install(env));
    const { stdout } = await runChild(found, ["--version"], { env, signal: AbortSignal.timeout(CHECK_MS_MAX) });
    const version = Number(/ (\d+)\./.exec(stdout)?.[1] ?? 0);
    if (version < VERSION_MIN) throw new Error(`${found} is older than ${VERSION_MIN}, or does not say its version`);
    return { bin: found, version };
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).replaceAll("\n", " ");
    return {
      missing: `Chromium is missing: ${reason}; install it (Debian: apt-get install chromium) or set CHROMIUM_BIN`,
    };
  }
}

async function findChromium(env: Env): Promise<string | undefined> {
  const places = (env.PATH ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  for (const place of env.CHROMIUM_BIN ? [env.CHROMIUM_BIN] : places) {
    const isThere = await access(place, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return place;
  }
  return undefined;
}

/** It needs some hundred libraries and fonts, so it is not unpacked beside the system but installed. */
async function install(env: Env): Promise<string> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) throw new Error("it can only be installed as root");
  const signal = AbortSignal.timeout(INSTALL_MS_MAX);
  const apt = (args: readonly string[]) =>
    runChild("apt-get", ["-o", `DPkg::Lock::Timeout=${APT_LOCK_S_MAX}`, ...args], {
      env: { ...env, DEBIAN_FRONTEND: "noninteractive" },
      signal,
    });
  process.stdout.write("chromium: installing Debian's package …\n");
  await apt(["update"]);
  await apt(["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]);
  const found = await findChromium(env);
  if (found === undefined) throw new Error("it was installed, but is not on the PATH");
  return found;
}
