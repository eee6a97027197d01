/**
 * Real engines' servers for tests and measurements, on free ports of 127.0.0.1. None outlives the process that started
 * it, not even one that is killed.
 */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { holdFolder, spawnTied, type TiedChild } from "@autellix/runtime";
import { freePort } from "../support/nats.ts";
import { type Env, OFFLINE } from "./equipment/python.ts";

const POLL_MS = 100;
const VLLM_START_MS_MAX = 240_000;
const LLAMA_SERVER_START_MS_MAX = 60_000;
/** vLLM ends its engine process first. */
const STOP_MS_MAX = 20_000;
const LOG_CHARS_MAX = 4_000;

export interface EngineServer {
  /** `http://127.0.0.1:<port>`; stays the same after a restart. */
  readonly url: string;
  /** Of the process group that holds the server and all its processes. */
  readonly pid: number;
  /** Ends it as an operator would. It can be restarted. */
  terminate(): Promise<void>;
  /** Ends it for good, and removes its files. */
  stop(): Promise<void>;
  /** What a crash does: all its processes are gone at once. It can be restarted. */
  kill(): Promise<void>;
  /** Ends it if it runs, and starts it again on the same port. Resolves when it is ready. */
  restart(): Promise<void>;
  /** What it has said so far. */
  log(): Promise<string>;
}

export interface ServerOptions {
  env: Env;
  /** Gives up waiting; the server is gone then. */
  signal?: AbortSignal;
  /** More arguments of the server's command line. */
  args?: readonly string[];
  /** Default: a free one. */
  port?: number;
}

export interface VllmOptions extends ServerOptions {
  /** A Python that has vLLM. */
  python: string;
  /** Folder with weights, tokenizer and chat template. */
  modelDir: string;
  /** The name it serves. Default: `tiny`. */
  modelName?: string;
  /** Calls that it runs together (`--max-num-seqs`). Default: 8. */
  slots?: number;
  /** Default: 4,096. */
  contextTokensMax?: number;
  /** Whether calls may carry `priority`. Default: true. */
  priority?: boolean;
}

export interface LlamaServerOptions extends ServerOptions {
  bin: string;
  /** A GGUF file. */
  modelFile: string;
  /** The name it serves. Default: `tiny`. */
  modelName?: string;
  /** Default: 4. */
  slots?: number;
  /** Of each slot. Default: 1,024. */
  contextTokensMax?: number;
}

/** vLLM's OpenAI server on one core. @throws Error with the end of its log when it does not get ready. */
export function startVllm(options: VllmOptions): Promise<EngineServer> {
  const { python, modelDir, modelName = "tiny", slots = 8, contextTokensMax = 4_096, priority = true } = options;
  return startServer(options, VLLM_START_MS_MAX, (port, folder) => ({
    command: python,
    args: [
      ...["-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", String(port)],
      ...["--model", modelDir, "--served-model-name", modelName, "--enforce-eager", "--enable-prompt-tokens-details"],
      ...["--max-num-seqs", String(slots), "--max-model-len", String(contextTokensMax)],
      // Sums of 16 bits would make ties of tokens, which the order of the sums decides.
      ...["--dtype", "float32"],
      ...(priority ? ["--scheduling-policy", "priority"] : []),
    ],
    env: {
      ...OFFLINE,
      VLLM_CACHE_ROOT: join(folder, "cache"),
      VLLM_CONFIG_ROOT: join(folder, "config"),
      // Gigabytes.
      VLLM_CPU_KVCACHE_SPACE: "1",
      // One thread: more of them spin, and slow down all that runs beside them.
      VLLM_CPU_OMP_THREADS_BIND: "nobind",
      OMP_NUM_THREADS: "1",
    },
  }));
}

/** llama-server with its slots, metrics and slot files. @throws Error with the end of its log when it does not get ready. */
export function startLlamaServer(options: LlamaServerOptions): Promise<EngineServer> {
  const { bin, modelFile, modelName = "tiny", slots = 4, contextTokensMax = 1_024 } = options;
  return startServer(options, LLAMA_SERVER_START_MS_MAX, (port, folder) => ({
    command: bin,
    args: [
      ...["--host", "127.0.0.1", "--port", String(port), "--model", modelFile, "--alias", modelName],
      ...["--parallel", String(slots), "--ctx-size", String(slots * contextTokensMax), "--threads", "1"],
      ...["--slots", "--metrics", "--slot-save-path", folder, "--gpu-layers", "0"],
    ],
    env: {},
  }));
}

interface Command {
  command: string;
  args: readonly string[];
  env: Env;
}

/** @param commandOf gets the port and a folder of the server's own. */
async function startServer(
  options: ServerOptions,
  startMsMax: number,
  commandOf: (port: number, folder: string) => Command,
): Promise<EngineServer> {
  const { env, signal, args: more = [] } = options;
  const port = options.port ?? (await freePort());
  const folder = await mkdtemp(join(tmpdir(), "autellix-engine-"));
  const held = holdFolder(folder);
  const logFile = join(folder, "server.log");
  const url = `http://127.0.0.1:${port}`;
  const { command, args, env: own } = commandOf(port, folder);
  const removeFiles = async () => {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    held.release();
  };
  const start = async (): Promise<TiedChild> => {
    const log = await open(logFile, "a");
    const child = spawnTied(command, [...args, ...more], {
      env: { ...env, ...own },
      cwd: folder,
      stdout: log.fd,
      stderr: log.fd,
    });
    await log.close();
    try {
      await ready(url, child, startMsMax, signal);
      return child;
    } catch (error) {
      await child.kill9();
      signal?.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`${command} ${reason}:\n${(await textOf(logFile)).slice(-LOG_CHARS_MAX)}`);
    }
  };
  let child: TiedChild;
  try {
    child = await start();
  } catch (error) {
    await removeFiles();
    throw error;
  }
  return {
    url,
    get pid() {
      return child.groupId;
    },
    terminate: () => child.end(STOP_MS_MAX),
    async stop() {
      await child.end(STOP_MS_MAX);
      await removeFiles();
    },
    kill: () => child.kill9(),
    async restart() {
      await child.end(STOP_MS_MAX);
      child = await start();
    },
    log: () => textOf(logFile),
  };
}

async function ready(url: string, child: TiedChild, msMax: number, signal: AbortSignal | undefined): Promise<void> {
  const ended = child.exited.then((code) => ({ code }));
  const until = performance.now() + msMax;
  while (performance.now() < until) {
    signal?.throwIfAborted();
    const seen = await Promise.race([ended, isHealthy(url)]);
    if (seen === true) return;
    if (seen !== false) throw new Error(`ended with code ${seen.code}`);
    await Promise.race([ended, pause(POLL_MS)]);
  }
  throw new Error(`was not ready within ${msMax / 1000} s`);
}

async function isHealthy(url: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) });
    await answer.arrayBuffer();
    return answer.ok;
  } catch {
    return false; // nobody listens yet
  }
}

async function textOf(file: string): Promise<string> {
  const handle = await open(file, "r");
  try {
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}
