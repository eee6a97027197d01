/** Runs one nats-server with JetStream for this process, and ends it with this process. */
import { randomBytes } from "node:crypto";
import { closeSync, fstatSync, openSync } from "node:fs";
import { mkdir, open, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { Env } from "../config.ts";
import { lastLine, spawnTied, type TiedChild } from "./child.ts";
import { PartError } from "./steps.ts";

/** Room that the streams may reserve. Given as a number, so that a small disk does not refuse a stream at the start. */
const STORE_BYTES_MAX = 64 * 1024 * 1024 * 1024;
/** A store with a long history takes time to recover. */
const START_MS_MAX = 60_000;
const POLL_MS = 50;
/** Time that the server may take to end; then it is killed, which loses nothing (S1). */
const STOP_MS_MAX = 5_000;
const LOG_TAIL_BYTES = 4_096;

export interface NatsServerOptions {
  bin: string;
  /** Listens on 127.0.0.1 only. */
  port: number;
  /** Holds the store, the configuration file and, unless `logFile` says otherwise, the log. Made when missing. */
  dataDir: string;
  env: Env;
  logFile?: string;
  signal?: AbortSignal;
}

export interface NatsServer {
  readonly url: string;
  readonly groupId: number;
  /** Resolves with the exit code, whenever and however the server ends. */
  readonly exited: Promise<number>;
  /** Ends it in bounded time. */
  stop(): Promise<void>;
  /** What a crash does. */
  kill9(): Promise<void>;
}

/**
 * Resolves when the server answers on its port (JetStream has recovered its store by then).
 * @throws PartError with one readable line when it ends early (busy port, unreadable store) or does not answer.
 */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer> {
  const { bin, port, dataDir, env } = options;
  const logFile = options.logFile ?? join(dataDir, "nats-server.log");
  // Tells our server from a stranger on the same port.
  const serverName = `autellix-${randomBytes(6).toString("hex")}`;
  await mkdir(dataDir, { recursive: true });
  const configFile = join(dataDir, "nats-server.conf");
  await writeFile(configFile, natsConfig(port, dataDir, serverName));
  options.signal?.throwIfAborted();

  const log = openSync(logFile, "a");
  // An earlier start's last words are not this one's.
  const logStartBytes = fstatSync(log).size;
  let child: TiedChild;
  try {
    child = spawnTied(bin, ["--config", configFile], { env, stdout: log, stderr: log });
  } finally {
    closeSync(log);
  }
  try {
    await answers(child, port, serverName, options.signal);
  } catch (error) {
    await child.kill9();
    options.signal?.throwIfAborted();
    throw new PartError(await readableReason(error, port, logFile, logStartBytes));
  }
  return {
    url: `nats://127.0.0.1:${port}`,
    groupId: child.groupId,
    exited: child.exited,
    kill9: () => child.kill9(),
    stop: () => child.end(STOP_MS_MAX),
  };
}

/** The server makes a folder `jetstream` inside `storeDir`. */
function natsConfig(port: number, storeDir: string, serverName: string): string {
  return `# Written at each start.
server_name: ${JSON.stringify(serverName)}
listen: "127.0.0.1:${port}"
jetstream {
  store_dir: ${JSON.stringify(storeDir)}
  max_file_store: ${STORE_BYTES_MAX}
}
`;
}

async function answers(child: TiedChild, port: number, serverName: string, signal?: AbortSignal): Promise<void> {
  const until = performance.now() + START_MS_MAX;
  const ended = child.exited.then(() => "ended" as const);
  while (performance.now() < until) {
    signal?.throwIfAborted();
    const name = await Promise.race([ended, nameOfServerAt(port)]);
    if (name === "ended") throw new Error("nats-server ended");
    if (name === serverName) return;
    const pause = new Promise((resolve) => setTimeout(resolve, POLL_MS));
    await Promise.race([ended, pause]);
  }
  throw new Error(`nats-server did not answer within ${START_MS_MAX / 1000} s`);
}

/** @returns the name in the greeting of the server at `port`; undefined when none, or none of NATS, is there. */
function nameOfServerAt(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ host: "127.0.0.1", port });
    const finish = (name?: string) => {
      socket.destroy();
      resolve(name);
    };
    socket.setTimeout(1_000, () => finish());
    socket.on("error", () => finish());
    socket.on("close", () => finish());
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (text.includes("\n") || text.length > LOG_TAIL_BYTES) finish(/"server_name":"([^"]*)"/.exec(text)?.[1]);
    });
  });
}

async function readableReason(error: unknown, port: number, logFile: string, logStartBytes: number): Promise<string> {
  const tail = await tailOf(logFile, logStartBytes);
  if (/address already in use/.test(tail))
    return `port ${port} of nats-server is in use; stop what uses it or choose another with --nats-port`;
  const line =
    tail.split("\n").findLast((text) => text.includes("[FTL]") || text.includes("nats-server:")) ?? lastLine(tail);
  const reason = line.replace(/^.*\[(FTL|ERR|INF|WRN)\] /, "");
  return `nats-server could not start: ${reason || (error instanceof Error ? error.message : String(error))} (log: ${logFile})`;
}

async function tailOf(path: string, startBytes: number): Promise<string> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const length = Math.min(Math.max(0, size - startBytes), LOG_TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString("utf8", 0, bytesRead).trimEnd();
  } finally {
    await file.close();
  }
}
