/**
 * The whole system for one test file: `npm start` as separate processes, on free ports and below one folder. Stopping
 * it checks that nothing is left.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { cacheDir, DEFAULT_MODEL, holdGroup } from "@autellix/runtime";
import { freePort } from "./nats.ts";

export interface TestProcess {
  pid: number;
  /** `frontend-0`, `scheduler-tiny-0`, `worker-agent-tiny-0`, `nats-server`. */
  name: string;
}

export interface TestStack {
  /** `http://127.0.0.1:<port>` of each frontend. */
  readonly urls: readonly string[];
  readonly natsUrl: string;
  /** Of the dashboard; empty without one. */
  readonly dashboardUrl: string;
  /** Queue, logs, `prometheus-targets.json`. */
  readonly dataDir: string;
  /** The processes that the supervisor runs now; an empty list on a system without `/proc`. */
  processes(): TestProcess[];
  /** All log lines of all services so far. */
  logs(): Promise<string>;
  /** As Ctrl-C does. @throws when it has to be killed, or leaves a process or a temporary file behind. */
  stop(): Promise<void>;
}

export interface TestStackOptions {
  /** What `--model` takes. Default: the tiny model, or what the servers serve. */
  models?: readonly string[];
  /** URLs of servers that run already, one engine each. */
  servers?: readonly string[];
  /** Engines and schedulers are per model. */
  engines?: number;
  frontends?: number;
  schedulers?: number;
  /** Default: none, since few tests look at it. */
  dashboard?: boolean;
  /** Whether the services have ports for their metrics. */
  metrics?: boolean;
  /** More options of `npm start`. */
  args?: readonly string[];
  /** Variables for all services, beside those of this process. */
  env?: Readonly<Record<string, string>>;
}

const ROOT = resolve(import.meta.dirname, "../..");
const START_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;
const OUTPUT_CHARS_MAX = 16 * 1024;
const PORT_TRIES_MAX = 50;
/** More than a stack here has services. */
const METRICS_PORTS = 16;
const READY = /^autellix ready (http:\/\/\S+)/m;

/** @throws Error with the end of the output when it does not get ready. */
export async function startTestStack(options: TestStackOptions = {}): Promise<TestStack> {
  const { servers = [], engines = 1, frontends = 1, schedulers = 1, dashboard = false, args = [], env = {} } = options;
  // Stacks that start side by side must not find the same ports free.
  const metricsPort = options.metrics ? String(await freePorts(METRICS_PORTS)) : "off";
  const { models = servers.length > 0 ? [] : ["tiny"] } = options;
  const folder = await mkdtemp(join(tmpdir(), "autellix-e2e-"));
  const temp = join(folder, "temp");
  const dataDir = join(folder, "data");
  await mkdir(temp);
  const port = await freePorts(frontends);
  const natsPort = await freePort();
  const dashboardPort = dashboard ? await freePort() : undefined;
  const own = servers.length > 0 ? {} : { engines };
  const counts = { ...own, frontends, schedulers, port, "nats-port": natsPort, "metrics-port": metricsPort };
  const child = spawn(
    process.execPath,
    [
      join(ROOT, "scripts/start.mjs"),
      "start",
      ...models.flatMap((model) => ["--model", model]),
      ...(servers.length > 0 ? ["--engine", "http"] : []),
      ...servers.flatMap((url) => ["--url", url]),
      ...Object.entries(counts).flatMap(([name, value]) => [`--${name}`, String(value)]),
      ...(dashboardPort === undefined ? ["--no-dashboard"] : ["--dashboard-port", String(dashboardPort)]),
      "--data-dir",
      dataDir,
      ...args,
    ],
    // What it leaves in the folder of temporary files is seen, because the folder is its own.
    { cwd: ROOT, detached: true, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env, TMPDIR: temp } },
  );
  const held = child.pid === undefined ? undefined : holdGroup(child.pid);
  const stop = async () => {
    const running = childrenOf(child.pid);
    const killed = await interrupt(child);
    held?.release();
    const left = [...running.filter(({ pid }) => isRunning(pid)).map(({ name }) => name), ...(await readdir(temp))];
    await rm(folder, { recursive: true, force: true });
    if (killed) throw new Error(`the stack did not stop within ${STOP_MS_MAX} ms`);
    if (left.length > 0) throw new Error(`the stack left behind: ${left.join(", ")}`);
  };
  const output = await readyLine(child);
  if (!READY.test(output)) {
    const logs = await logsBelow(dataDir);
    await stop();
    throw new Error(`the stack did not get ready:\n${output}\n${logs.slice(-OUTPUT_CHARS_MAX)}`);
  }
  return {
    urls: Array.from({ length: frontends }, (_, index) => `http://127.0.0.1:${port + index}`),
    natsUrl: `nats://127.0.0.1:${natsPort}`,
    dashboardUrl: dashboardPort === undefined ? "" : `http://127.0.0.1:${dashboardPort}`,
    dataDir,
    processes: () => childrenOf(child.pid),
    logs: () => logsBelow(dataDir),
    stop,
  };
}

/** The default model's file when it is in the cache: a test does not download 98 MB by itself. */
export function cachedDefaultModel(): string | undefined {
  const path = join(cacheDir(process.env), "models", DEFAULT_MODEL.file);
  return existsSync(path) ? path : undefined;
}

/** @returns the output up to the ready line, or up to the end of the process or of its time. */
function readyLine(child: ChildProcess): Promise<string> {
  return new Promise((done) => {
    let output = "";
    const timer = setTimeout(() => done(output), START_MS_MAX);
    const finish = () => {
      clearTimeout(timer);
      done(output);
    };
    const read = (bytes: Buffer) => {
      output = (output + bytes.toString("utf8")).slice(-OUTPUT_CHARS_MAX);
      if (READY.test(output)) finish();
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    child.once("exit", finish);
    child.once("error", finish);
  });
}

/** @returns whether it had to be killed. */
async function interrupt(child: ChildProcess): Promise<boolean> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return false;
  const exited = new Promise((done) => child.once("exit", done));
  let killed = false;
  child.kill("SIGINT");
  const timer = setTimeout(() => {
    killed = true;
    child.kill("SIGKILL"); // its services notice and stop by themselves
  }, STOP_MS_MAX);
  await exited;
  clearTimeout(timer);
  return killed;
}

/** All processes below `root`, from `/proc`; none on a system without it. */
function childrenOf(root: number | undefined): TestProcess[] {
  const parents = new Map<number, number>();
  if (!existsSync("/proc")) return [];
  for (const name of readdirSync("/proc")) {
    const parent = /^\d+$/.test(name) ? statOf(Number(name))?.parent : undefined;
    if (parent !== undefined) parents.set(Number(name), parent);
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === root || isBelow(parent));
  };
  return [...parents.keys()].filter(isBelow).map((pid) => ({ pid, name: nameOf(pid) }));
}

function nameOf(pid: number): string {
  const instance = /(?:^|\0)AUTELLIX_INSTANCE=([^\0]+)/.exec(readProc(pid, "environ"))?.[1];
  return instance ?? readProc(pid, "cmdline").split("\0", 1)[0]?.split("/").at(-1) ?? "";
}

/** A zombie has ended: it only waits for its parent to ask. */
function isRunning(pid: number): boolean {
  const state = statOf(pid)?.state;
  return state !== undefined && state !== "Z";
}

function statOf(pid: number): { state: string; parent: number } | undefined {
  const text = readProc(pid, "stat");
  // The name in parentheses may hold spaces; fields are counted from behind it.
  const [state, parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return state && parent ? { state, parent: Number(parent) } : undefined;
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // it ended meanwhile
  }
}

async function logsBelow(folder: string): Promise<string> {
  if (!existsSync(folder)) return "";
  const names = await readdir(folder, { recursive: true });
  const texts = names.filter((name) => name.endsWith(".log")).map((name) => readFile(join(folder, name), "utf8"));
  return (await Promise.all(texts)).join("\n");
}

/** @returns the first of `count` ports in a row that were free a moment ago. */
async function freePorts(count: number): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES_MAX; tries++) {
    const first = await freePort();
    const others = Array.from({ length: count - 1 }, (_, index) => isFree(first + 1 + index));
    if ((await Promise.all(others)).every(Boolean)) return first;
  }
  throw new Error(`found no ${count} free ports in a row`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
  });
}
