/** Parts that only faults are planted with: an old nats-server and a clock that is set wrong, from Debian's packages. */
import { access } from "node:fs/promises";
import { join } from "node:path";
import { versionAtLeast } from "@autellix/protocol";
import { cacheDir, runChild, unpackDebian } from "@autellix/runtime";
import { obtainFolder } from "../engines/equipment/folder.ts";
import type { Component } from "../engines/equipment/index.ts";
import type { Env } from "../engines/equipment/python.ts";

const DOWNLOAD_MS_MAX = 10 * 60_000;
/** The first version that is not too old. */
const FIT_VERSION = "2.11.0";

/** `$OLD_NATS_SERVER_BIN` · cache · Debian's package, which is years behind. */
export async function obtainOldNats(env: Env): Promise<Component<{ bin: string; version: string }>> {
  const advice = "set OLD_NATS_SERVER_BIN to a nats-server below 2.11";
  return await component("an old nats-server", advice, async (signal) => {
    const bin =
      env.OLD_NATS_SERVER_BIN ?? join(await unpacked("nats-server", env, signal), "usr", "sbin", "nats-server");
    const { stdout } = await runChild(bin, ["--version"], { env, signal });
    const version = /v?(\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? "0.0.0";
    if (versionAtLeast(version, FIT_VERSION)) throw new Error(`${bin} is ${version}, which is not old`);
    return { bin, version };
  });
}

/** `$FAKETIME_LIB` · cache · Debian's package. A library that is preloaded and shifts the clock of one process. */
export async function obtainFaketime(env: Env): Promise<Component<{ library: string }>> {
  return await component("libfaketime", "set FAKETIME_LIB to libfaketime.so.1", async (signal) => {
    if (env.FAKETIME_LIB) return { library: env.FAKETIME_LIB };
    const folder = await unpacked("libfaketime", env, signal);
    const { stdout } = await runChild("find", [folder, "-name", "libfaketime.so.1"], { env, signal });
    const library = stdout.trim().split("\n")[0] ?? "";
    await access(library);
    return { library };
  });
}

async function unpacked(packageName: string, env: Env, signal: AbortSignal): Promise<string> {
  const folder = await obtainFolder({
    cache: join(cacheDir(env), "equipment"),
    name: `${packageName}-debian`,
    signal,
    say: (text) => process.stdout.write(`${packageName}: ${text}\n`),
    check: async (place) => await access(join(place, "unpacked")),
    make: async (place, stop) => void (await unpackDebian(packageName, { env, folder: place, signal: stop })),
  });
  return join(folder, "unpacked");
}

async function component<T>(
  name: string,
  advice: string,
  obtain: (signal: AbortSignal) => Promise<T>,
): Promise<Component<T>> {
  try {
    return await obtain(AbortSignal.timeout(DOWNLOAD_MS_MAX));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { missing: `${name} is missing: ${reason.replaceAll("\n", " ")}; ${advice}` };
  }
}
