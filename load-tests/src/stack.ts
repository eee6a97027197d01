/**
 * A whole Autellix for one measurement: `npm start` as separate processes, with ports and a data folder of its own.
 */
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type ProcessUse, readProcesses } from "./processes.ts";

export interface Stack {
  /** `http://127.0.0.1:<port>` of the first frontend. */
  baseUrl: string;
  natsUrl: string;
  /** Queue, logs, `prometheus-targets.json`. */
  dataDir: string;
  processes(): ProcessUse[];
  /** As Ctrl-C does; what is left after `STOP_MS_MAX` is killed and told as an error. */
  stop(): Promise<void>;
}

export interface StackOptions {
  /** Options of `npm start`: `["--policy", "fcfs", "--model", "tiny"]`. Ports and data folder are added. */
  args: readonly string[];
  /** Whether the services have ports for their metrics. */
  metrics?: boolean;
  /** Variables on top of those that are inherited. */
  env?: Record<string, string> | undefined;
  /** A first start may download a model. */
  startMsMax?: number;
  onProgress?: ((line: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

const START_MS_MAX = 300_000;
const STOP_MS_MAX = 30_000;
const OUTPUT_CHARS_MAX = 64 * 1024;
/** Frontends take ports from the first one upwards. */
const FRONTENDS_MAX = 16;
const PORT_TRIES_MAX = 50;
/** More than a stack here has services. */
const METRICS_PORTS = 16;
const LOG_LINE_CHARS_MAX = 1_000;
const READY = /autellix ready (http:\/\/\S+)/;

/** @throws Error with the end of the stack's output when it does not get ready. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { args, env = {}, startMsMax = START_MS_MAX, onProgress, signal } = options;
  const repository = resolve(import.meta.dirname, "../..");
  const dataDir = await mkdtemp(join(tmpdir(), "autellix-load-"));
  const port = await freePorts(FRONTENDS_MAX);
  const natsPort = await freePorts(1);
  const metricsPort = options.metrics ? String(await freePorts(METRICS_PORTS)) : "off";
  const ports = ["--port", String(port), "--nats-port", String(natsPort), "--metrics-port", metricsPort];
  const own = [...ports, "--data-dir", dataDir];
  // It would want the port of one that may run already, and the time of the CPU.
  if (!args.includes("--dashboard-port")) own.push("--no-dashboard");
  // A group of its own: Ctrl-C in the terminal reaches the load test alone, which then stops the stack in order.
  const command = [process.execPath, join(repository, "scripts/start.mjs"), "start", ...args, ...own];
  const child = spawn("env", [...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...command], {
    cwd: repository,
    detached: true,
    // The channel closes with this process, however it ends: the stack then stops by itself.
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  const exited = new Promise<number | null>((done) => {
    child.once("exit", (code) => done(code));
    child.once("error", () => done(null));
  });

  let output = "";
  const ready = new Promise<string>((done) => {
    const read = (bytes: Buffer) => {
      output = (output + bytes.toString("utf8")).slice(-OUTPUT_CHARS_MAX);
      const last = output.trimEnd().split("\n").at(-1);
      if (last) onProgress?.(last);
      const url = READY.exec(output)?.[1];
      if (url) done(url);
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
  });

  const stop = async () => {
    child.kill("SIGINT");
    const timer = setTimeout(() => killGroup(child.pid), STOP_MS_MAX);
    await exited;
    clearTimeout(timer);
    await rm(dataDir, { recursive: true, force: true });
  };
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), startMsMax);
  const aborted = AbortSignal.any([late.signal, ...(signal ? [signal] : [])]);
  const given = new Promise<undefined>((done) =>
    aborted.addEventListener("abort", () => done(undefined), { once: true }),
  );
  const baseUrl = await Promise.race([ready, exited.then(() => undefined), given]);
  clearTimeout(timer);
  if (baseUrl === undefined) {
    const logs = await lastLogLines(join(dataDir, "logs"));
    await stop();
    throw new Error(
      `the stack did not get ready (${args.join(" ")}); the end of its output:\n${output.slice(-2_000)}\n${logs}`,
    );
  }
  return {
    baseUrl,
    natsUrl: `nats://127.0.0.1:${natsPort}`,
    dataDir,
    processes: () => readProcesses(child.pid ?? -1),
    stop,
  };
}

/** The last line of each log: the folder goes away with the stack. */
async function lastLogLines(folder: string): Promise<string> {
  const names = await readdir(folder).catch(() => []); // it ended before it had logs
  const lines = names.map(async (name) => {
    const text = await readFile(join(folder, name), "utf8");
    return `${name}: ${text.trimEnd().split("\n").at(-1)?.slice(0, LOG_LINE_CHARS_MAX)}`;
  });
  return (await Promise.all(lines)).join("\n");
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  process.stderr.write("the stack did not stop in time: killed\n");
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** @returns the first of `count` ports in a row that are free now. */
async function freePorts(count: number): Promise<number> {
  for (let attempt = 0; attempt < PORT_TRIES_MAX; attempt++) {
    const first = await listenOnce(0);
    if (first === undefined || first + count > 65_535) continue;
    const others = await Promise.all(Array.from({ length: count - 1 }, (_, index) => listenOnce(first + 1 + index)));
    if (others.every((port) => port !== undefined)) return first;
  }
  throw new Error(`found no ${count} free ports in a row`);
}

/** @returns the port, undefined when it is taken. */
function listenOnce(port: number): Promise<number | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(undefined));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(address === null || typeof address === "string" ? undefined : address.port));
    });
  });
}
