/**
 * A Docker engine for tests: the one that runs already, or a daemon of our own, which needs root. Our own has its data
 * in the cache, so that images are made once, and it ends with this process, whatever ends that.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { cacheDir, runChild, sendSignal, spawnTied } from "@autellix/runtime";
import type { Env } from "../engines/equipment/python.ts";
import { obtainCompose } from "./compose.ts";
import { isRoot, needPrograms, withSystemPath } from "./machine.ts";

const ANSWER_MS_MAX = 20_000;
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;
/** Another run of tests may use the daemon's data for so long. */
const TURN_MS_MAX = 20 * 60_000;
const POLL_MS = 200;
const STAGE_AGE_MAX = "48h";
/** A command without a limit of its own. */
const COMMAND_MS_MAX = 120_000;

export interface DockerOptions {
  env: Env;
  signal: AbortSignal;
  /** What is going on, in one line. */
  say(text: string): void;
}

/** What tests need to talk to it: plain data, handed from the setup to them. */
export interface DockerAccess {
  /** Variables for docker, compose and testcontainers, beside those of the process. */
  env: Record<string, string>;
  /** How compose is called. */
  compose: readonly [string, ...string[]];
  version: string;
}

export interface Docker extends DockerAccess {
  /** Ends a daemon that was started here, and all that runs in it. */
  close(): Promise<void>;
}

/** @throws Error that says in one line what is missing and how to get it. */
export async function obtainDocker(options: DockerOptions): Promise<Docker> {
  await needPrograms({ docker: "docker.io" }, options);
  const running = await answering({}, options);
  if (running !== undefined) {
    options.say(`docker ${running}: the one that runs`);
    return { env: {}, version: running, compose: await obtainCompose(options), close: async () => {} };
  }
  if (process.platform !== "linux" || !isRoot())
    throw new Error("no Docker engine answers; start one, or run this as root on Linux: it then starts one of its own");
  await needPrograms({ dockerd: "docker.io", iptables: "iptables" }, options);
  const compose = await obtainCompose(options);
  const daemon = await startDaemon(options);
  const version = await answering(daemon.env, options);
  if (version === undefined) throw new Error("dockerd was started, and does not answer");
  options.say(`docker ${version}: a daemon of its own`);
  return { ...daemon, version, compose };
}

/** @returns the version of the engine that answers. */
async function answering(own: Env, { env, signal }: DockerOptions): Promise<string | undefined> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
  const asked = runChild("docker", ["version", "--format", "{{.Server.Version}}"], {
    env: { ...withSystemPath(env), ...own },
    signal: limit,
  });
  return await asked.then(
    ({ stdout }) => stdout.trim(),
    () => {
      signal.throwIfAborted();
      return undefined;
    },
  );
}

async function startDaemon(options: DockerOptions): Promise<{ env: Record<string, string>; close(): Promise<void> }> {
  const { env, signal, say } = options;
  const data = join(cacheDir(env), "docker");
  // A socket's path may have 107 characters, and a cache may be deep.
  const run = `/run/autellix-docker-${createHash("sha256").update(data).digest("hex").slice(0, 12)}`;
  const [socket, pidFile] = [join(run, "docker.sock"), join(run, "docker.pid")];
  const own = { DOCKER_HOST: `unix://${socket}` };
  await mkdir(run, { recursive: true });
  await mkdir(data, { recursive: true });
  await turn(pidFile, options);
  await rm(pidFile, { force: true });
  const child = spawnTied(
    "dockerd",
    [
      `--host=unix://${socket}`,
      `--pidfile=${pidFile}`,
      `--data-root=${join(data, "data")}`,
      `--exec-root=${join(run, "exec")}`,
      "--log-level=warn",
      // When this process is killed, whoever ends the daemon waits 3 s. What runs in it must be gone by then.
      "--shutdown-timeout=1",
    ],
    { env: withSystemPath(env), stdout: "ignore", stderr: "pipe" },
  );
  let output = "";
  child.process.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output = (output + text).slice(-16_384);
  });
  let exited = false;
  void child.exited.then(() => {
    exited = true;
  });
  const untilMs = performance.now() + START_MS_MAX;
  while ((await answering(own, options)) === undefined) {
    if (exited || performance.now() > untilMs) {
      await child.end(STOP_MS_MAX);
      throw new Error(`dockerd does not run here: ${reason(output)}`);
    }
    await pause(POLL_MS, undefined, { signal });
  }
  const docker = async (args: readonly string[]) =>
    (await runChild("docker", args, { env: { ...env, ...own }, signal: AbortSignal.timeout(COMMAND_MS_MAX) })).stdout;
  // What an interrupted run has left in it; nobody else uses this daemon.
  const removeAll = async () => {
    const left = (await docker(["ps", "--all", "--quiet"])).split("\n").filter(Boolean);
    if (left.length > 0) await docker(["rm", "--force", "--volumes", ...left]);
    await docker(["network", "prune", "--force"]);
    await docker(["volume", "prune", "--force"]);
    // Stages that nothing builds on any more; younger ones spare the next build an installation of packages.
    await docker(["image", "prune", "--force", "--filter", `until=${STAGE_AGE_MAX}`]);
    return left.length;
  };
  const left = await removeAll();
  if (left > 0) say(`docker: removed ${left} containers of an interrupted run`);
  return {
    env: own,
    async close() {
      await removeAll();
      await child.end(STOP_MS_MAX);
    },
  };
}

/** Waits until no other daemon works on the same data. */
async function turn(pidFile: string, { signal, say }: DockerOptions): Promise<void> {
  const untilMs = performance.now() + TURN_MS_MAX;
  let told = false;
  for (;;) {
    const pid = Number(await readFile(pidFile, "utf8").catch(() => "0"));
    if (!(pid > 0) || !sendSignal(pid, 0) || !(await isDockerd(pid))) return;
    if (performance.now() > untilMs)
      throw new Error(`another run of tests has its dockerd on the same data (pid ${pid})`);
    if (!told) say(`docker: another run of tests uses it (pid ${pid}); waiting …`);
    told = true;
    await pause(POLL_MS, undefined, { signal });
  }
}

async function isDockerd(pid: number): Promise<boolean> {
  return (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")).trim() === "dockerd";
}

/** The last thing that went wrong, of a log of `time="…" level=… msg="…"`. */
function reason(output: string): string {
  const lines = output.trim().split("\n");
  const last = lines.findLast((line) => /level=(error|fatal)|failed to/.test(line)) ?? lines.at(-1) ?? "";
  return (/msg="((?:\\.|[^"\\])*)"/.exec(last)?.[1] ?? last).slice(0, 300) || "it says nothing";
}
