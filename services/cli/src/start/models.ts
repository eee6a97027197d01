/** From what `--model` says to pools: a name that is valid in subjects, the names clients may use, and a file. */
import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import { cacheDir, DEFAULT_MODEL, type Env, obtainDefaultModel, PartError, reasonOf } from "@autellix/runtime";
import { ReadableError, UsageError } from "../usage.ts";
import { bytesText, type Console } from "./console.ts";
import type { EngineKind, ModelSpec } from "./options.ts";

/** The tiny model is the same everywhere, so that its answers are. */
const TINY_SEED = 1;
const TINY_NAME = "tiny";
const SIMULATED_NAME = "simulated";
/** Pool of a server whose model nobody has named. */
const SERVED_POOL = "served";
/** A download from the hub that stands still for this long is given up. */
const HUB_STALL_MS_MAX = 30_000;
/** A pool may have 64; engine ids are `<pool>-<number>` and may have no more either. */
const POOL_CHARS_MAX = 60;
const GGUF_MAGIC = "GGUF";

export interface PoolSpec {
  /** `[A-Za-z0-9_-]{1,60}`. */
  pool: string;
  /** What clients may write as `model`, the main one first. None: what the server says. */
  modelNames: string[];
  /** For llama.cpp only. */
  modelFile: string | undefined;
}

export interface ModelContext {
  env: Env;
  dataDir: string;
  console: Console;
  signal: AbortSignal;
}

/** @throws ReadableError when a model cannot be had or read; UsageError when two would share a pool. */
export async function resolveModels(
  specs: readonly ModelSpec[],
  { engine, aliases }: { engine: EngineKind; aliases: readonly string[] },
  context: ModelContext,
): Promise<PoolSpec[]> {
  const pools: PoolSpec[] = [];
  for (const spec of specs) {
    const named = engine === "llama" ? await llamaPool(spec, context) : modelessPool(spec, engine);
    const pool = { ...named, modelNames: [...new Set([...named.modelNames, ...aliases])] };
    if (pools.some((other) => other.pool === pool.pool))
      throw new UsageError(`two models would be served by the pool ${pool.pool}; leave one out or rename its file`);
    pools.push(pool);
  }
  return pools;
}

/** Of an engine that needs no file of ours. */
function modelessPool(spec: ModelSpec, engine: EngineKind): PoolSpec {
  switch (spec.kind) {
    case "served":
      return poolOf(spec.name, undefined);
    case "default":
      return engine === "http"
        ? { pool: SERVED_POOL, modelNames: [], modelFile: undefined }
        : poolOf(SIMULATED_NAME, undefined);
    case "tiny":
      return poolOf(TINY_NAME, undefined);
    case "hub":
      return poolOf(nameOfHubModel(spec.uri), undefined, spec.uri);
    case "file":
      return poolOf(nameOfFile(spec.path), undefined);
  }
}

/**
 * The file of a model, fetched if it must be; unlike `resolveModels`, never another model's.
 * @throws ReadableError, PartError when it cannot be had or read.
 */
export async function modelFile(spec: ModelSpec, context: ModelContext): Promise<string> {
  if (spec.kind === "default") return obtainDefault(context);
  const { modelFile: file } = await llamaPool(spec, context);
  if (file === undefined) throw new Error("a pool of llama.cpp has a file");
  return file;
}

async function llamaPool(spec: ModelSpec, context: ModelContext): Promise<PoolSpec> {
  switch (spec.kind) {
    case "served":
      throw new Error(`llama.cpp cannot run ${spec.name}, which is on a server`);
    case "default":
      return defaultPool(context);
    case "tiny":
      return poolOf(TINY_NAME, await tinyModelFile(context.dataDir));
    case "hub":
      return poolOf(nameOfHubModel(spec.uri), await hubModelFile(spec.uri, context), spec.uri);
    case "file":
      await checkModelFile(spec.path);
      return poolOf(nameOfFile(spec.path), spec.path);
  }
}

function obtainDefault({ env, signal, console }: ModelContext): Promise<string> {
  return obtainDefaultModel({
    env,
    signal,
    onProgress: ({ part, step, doneBytes, totalBytes }) =>
      console.progress(part, `from ${step} ${bytesText(doneBytes, totalBytes)}`),
  });
}

async function defaultPool(context: ModelContext): Promise<PoolSpec> {
  const { console } = context;
  try {
    return poolOf(DEFAULT_MODEL.name, await obtainDefault(context));
  } catch (error) {
    if (!(error instanceof PartError)) throw error;
    console.line(error.message);
    console.line("Going on with the tiny model instead: its weights are random, so its text is noise.");
    return poolOf(TINY_NAME, await tinyModelFile(context.dataDir));
  }
}

/** Written at each start: it takes milliseconds, and an old one never stays behind. @returns its path. */
export async function tinyModelFile(dataDir: string): Promise<string> {
  const folder = join(dataDir, "models");
  const path = join(folder, `${TINY_NAME}.gguf`);
  await mkdir(folder, { recursive: true });
  const temp = `${path}.${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    await writeTinyModel(temp, { seed: TINY_SEED });
    await rename(temp, path);
  } finally {
    await rm(temp, { force: true });
  }
  return path;
}

/** node-llama-cpp knows the hub's naming of files and quantizations; loaded only when needed. */
async function hubModelFile(uri: string, { env, signal, console }: ModelContext): Promise<string> {
  const { resolveModelFile } = await import("node-llama-cpp");
  const limit = new AbortController();
  const giveUp = () => limit.abort(new Error(`nothing arrived for ${HUB_STALL_MS_MAX / 1000} s`));
  let timer = setTimeout(giveUp, HUB_STALL_MS_MAX);
  console.progress(`model ${uri}`, "looking for it …");
  const ended = AbortSignal.any([signal, limit.signal]);
  try {
    const resolving = resolveModelFile(uri, {
      directory: join(cacheDir(env), "models"),
      cli: false,
      deleteTempFileOnCancel: true,
      signal: ended,
      onProgress({ downloadedSize, totalSize }) {
        clearTimeout(timer);
        timer = setTimeout(giveUp, HUB_STALL_MS_MAX);
        console.progress(`model ${uri}`, bytesText(downloadedSize, totalSize));
      },
    });
    // Not every part of the library follows the signal.
    const aborted = new Promise<never>((_, reject) =>
      ended.addEventListener("abort", () => reject(ended.reason), { once: true }),
    );
    return await Promise.race([resolving, aborted]);
  } catch (error) {
    signal.throwIfAborted();
    throw new ReadableError(
      `model ${uri} could not be obtained: ${reasonOf(error)}. Download a GGUF file yourself and name it with --model FILE.`,
    );
  } finally {
    clearTimeout(timer);
  }
}

/** @throws ReadableError in one line, before any process is started. */
async function checkModelFile(path: string): Promise<void> {
  let magic: string;
  try {
    const file = await open(path, "r");
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(GGUF_MAGIC.length), 0, GGUF_MAGIC.length, 0);
      magic = buffer.toString("latin1", 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const reason = code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a folder" : reasonOf(error);
    throw new ReadableError(`model ${path} cannot be read: ${reason}; give a GGUF file with --model`);
  }
  if (magic !== GGUF_MAGIC) throw new ReadableError(`model ${path} is not a GGUF file; give one with --model`);
}

function poolOf(name: string, modelFile: string | undefined, ...aliases: string[]): PoolSpec {
  const pool = name.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, POOL_CHARS_MAX);
  // A comma separates names where they are handed on.
  const modelNames = [name, ...aliases].map((text) => text.replaceAll(",", "-"));
  return { pool, modelNames: [...new Set(modelNames)], modelFile };
}

/** `SmolLM2-135M-Instruct.Q4_1.gguf` → `SmolLM2-135M-Instruct`. */
export function nameOfFile(path: string): string {
  const name = basename(path).replace(/\.gguf$/i, "");
  return name.replace(/[.-](?:i?q\d\w*|b?f\d+|mxfp\d+)$/i, "") || name || "model";
}

/** `hf:user/SmolLM2-GGUF:Q4_K_M` → `SmolLM2`. */
export function nameOfHubModel(uri: string): string {
  const path = uri.slice("hf:".length).replace(/#.*$/, "");
  const [, repository = path, ...files] = path.split("/");
  const file = files.at(-1);
  if (file?.toLowerCase().endsWith(".gguf")) return nameOfFile(file);
  return repository.replace(/:.*$/, "").replace(/-gguf$/i, "") || "model";
}
