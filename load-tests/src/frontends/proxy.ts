/** A real HAProxy in front of a stack's frontends, with the configuration of `docker-compose.yml`. */
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { type ProcessUse, readProcesses } from "../processes.ts";

const CONFIG = resolve(import.meta.dirname, "../../../infra/haproxy/haproxy.cfg");
const READY_MS_MAX = 10_000;
const POLL_MS = 50;
const STOP_MS_MAX = 5_000;

export interface TestProxy {
  url: string;
  version: string;
  processes(): ProcessUse[];
  stop(): Promise<void>;
}

/**
 * The shipped configuration with these frontends in the place of those that Docker's name server knows.
 * @throws Error when the file has no such place any more.
 */
export function proxyConfig(shipped: string, port: number, frontendPorts: readonly number[]): string {
  const servers = frontendPorts.map((p, index) => `  server frontend-${index} 127.0.0.1:${p}`).join("\n");
  const text = shipped
    .replace(/^resolvers docker\n(?:[ \t].*\n)+/m, "")
    .replace(/^frontend metrics\n(?:[ \t].*\n?)+/m, "")
    .replace(/bind :8080/, `bind 127.0.0.1:${port}`)
    .replaceAll(/^ {2}server-template .*$/gm, servers);
  const backends = text.split(servers).length - 1;
  if (backends !== 2 || !text.includes(`127.0.0.1:${port}`)) throw new Error(`${CONFIG} has changed; this must follow`);
  return text;
}

/** @param bin a path, or a name on the PATH. @throws Error in one line when there is none, or it does not get ready. */
export async function startProxy(bin: string, frontendPorts: readonly number[]): Promise<TestProxy> {
  const said = await promisify(execFile)(bin, ["-v"]).catch(() => undefined);
  const version = /version (\S+)/.exec(said?.stdout ?? "")?.[1];
  if (version === undefined)
    throw new Error("no HAProxy: set HAPROXY_BIN, or put it on your PATH (Debian: apt-get install haproxy)");
  const folder = await mkdtemp(join(tmpdir(), "autellix-proxy-"));
  const port = await freePort();
  const file = join(folder, "haproxy.cfg");
  await writeFile(file, proxyConfig(await readFile(CONFIG, "utf8"), port, frontendPorts));
  const child = spawn(bin, ["-db", "-f", file], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output = (output + text).slice(-4_096);
  });
  const exited = new Promise<void>((done) => {
    child.once("exit", () => done());
    child.once("error", () => done());
  });
  const stop = async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    await exited;
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
  };
  const url = `http://127.0.0.1:${port}`;
  const untilMs = performance.now() + READY_MS_MAX;
  while (!(await isReady(`${url}/readyz`))) {
    if (performance.now() > untilMs || child.exitCode !== null) {
      await stop();
      throw new Error(`HAProxy did not get ready: ${output.trim()}`);
    }
    await pause(POLL_MS);
  }
  return { url, version, processes: () => readProcesses(child.pid ?? -1), stop };
}

function isReady(url: string): Promise<boolean> {
  return new Promise((done) => {
    get(url, (response) => {
      response.resume();
      done(response.statusCode === 200);
    }).once("error", () => done(false));
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done, failed) => server.once("error", failed).listen(0, "127.0.0.1", done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (address === null || typeof address === "string") throw new Error("no TCP port");
  return address.port;
}
