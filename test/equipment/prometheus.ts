/** A real Prometheus with promtool: Debian's package, unpacked into the cache, so that no daemon is installed. */
import { constants } from "node:fs";
import { access, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { cacheDir, runChild, spawnTied, unpackDebian } from "@autellix/runtime";
import { obtainFolder } from "../engines/equipment/folder.ts";
import type { Component } from "../engines/equipment/index.ts";
import type { Env } from "../engines/equipment/python.ts";
import { freePort } from "../support/nats.ts";

/** Rules and queries are written for it, and everything newer. */
const VERSION_MIN = 2;
const DOWNLOAD_MS_MAX = 10 * 60_000;
const START_MS_MAX = 30_000;

export interface PrometheusBinaries {
  prometheus: string;
  promtool: string;
}

/** `$PROMETHEUS_BIN` (promtool beside it) · PATH · cache · Debian's package. @returns what is missing, in one line. */
export async function obtainPrometheus(env: Env): Promise<Component<PrometheusBinaries>> {
  const signal = AbortSignal.timeout(DOWNLOAD_MS_MAX);
  try {
    const installed = await installedIn(env);
    if (installed) return await checked(installed, env, signal);
    const at = (folder: string) => binariesIn(join(folder, "unpacked", "usr", "bin"));
    const folder = await obtainFolder({
      cache: join(cacheDir(env), "equipment"),
      name: "prometheus-debian",
      signal,
      say: (text) => process.stdout.write(`prometheus: ${text}\n`),
      check: async (place, stop) => void (await checked(at(place), env, stop)),
      make: async (place, stop) => void (await unpackDebian("prometheus", { env, folder: place, signal: stop })),
    });
    return at(folder);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return {
      missing: `Prometheus is missing: ${reason}; put prometheus and promtool on your PATH, or set PROMETHEUS_BIN`,
    };
  }
}

function binariesIn(folder: string): PrometheusBinaries {
  return { prometheus: join(folder, "prometheus"), promtool: join(folder, "promtool") };
}

async function installedIn(env: Env): Promise<PrometheusBinaries | undefined> {
  if (env.PROMETHEUS_BIN) return binariesIn(join(env.PROMETHEUS_BIN, ".."));
  for (const folder of (env.PATH ?? "").split(delimiter)) {
    const found = binariesIn(folder);
    const all = Object.values(found).map((path) => access(path, constants.X_OK));
    if (folder !== "" && (await Promise.allSettled(all)).every(({ status }) => status === "fulfilled")) return found;
  }
  return undefined;
}

async function checked(found: PrometheusBinaries, env: Env, signal: AbortSignal): Promise<PrometheusBinaries> {
  for (const path of Object.values(found)) {
    const { stdout, stderr } = await runChild(path, ["--version"], { env, signal });
    const major = Number(/version (\d+)\./.exec(stdout + stderr)?.[1] ?? 0);
    if (major < VERSION_MIN) throw new Error(`${path} is older than ${VERSION_MIN}.0, or does not say its version`);
  }
  return found;
}

/** What promtool says of a page of metrics or of a file. @throws Error with all that it says, when it finds fault. */
export async function promtool(bin: string, args: readonly string[], env: Env, stdin?: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "autellix-promtool-"));
  try {
    const signal = AbortSignal.timeout(START_MS_MAX);
    const file = join(folder, "stdin");
    await writeFile(file, stdin ?? "");
    // `sh` for the sake of its stdin: a tied child has none.
    const command = ['exec "$0" "$@" < "$PROMTOOL_STDIN" 2>&1 || { echo "promtool failed"; }', bin, ...args];
    const { stdout } = await runChild("/bin/sh", ["-c", ...command], { env: { ...env, PROMTOOL_STDIN: file }, signal });
    if (stdout.includes("promtool failed")) throw new Error(stdout);
    return stdout;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export interface RunningPrometheus {
  url: string;
  /** Answer of its HTTP API. @throws Error with its words when it refuses. */
  api<T>(path: string, parameters?: Record<string, string>): Promise<T>;
  stop(): Promise<void>;
}

/** @param config the text of its configuration file; paths in it are absolute. */
export async function startPrometheus(bin: string, config: string, env: Env): Promise<RunningPrometheus> {
  const folder = await mkdtemp(join(tmpdir(), "autellix-prometheus-"));
  const file = join(folder, "prometheus.yml");
  await writeFile(file, config);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawnTied(
    bin,
    [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=warn",
    ],
    { env, cwd: folder, stderr: 2 },
  );
  const stop = async () => {
    await child.end();
    await rm(folder, { recursive: true, force: true });
  };
  const until = performance.now() + START_MS_MAX;
  const isReady = async () => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok ?? false;
  while (!(await isReady())) {
    if (performance.now() > until) {
      await stop();
      throw new Error(`Prometheus is not ready after ${START_MS_MAX} ms`);
    }
    await pause(100);
  }
  return {
    url,
    async api<T>(path: string, parameters: Record<string, string> = {}) {
      const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
      const answer = (await response.json()) as { status: string; error?: string; data: T };
      if (answer.status !== "success") throw new Error(answer.error ?? `status ${response.status}`);
      return answer.data;
    },
    stop,
  };
}
