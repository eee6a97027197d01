/** The engine that the configuration names. */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Engine, openSimulatedEngine } from "@autellix/engines";
import { readPreset } from "@autellix/engines/preset-file";
import { ConfigError, type Env, envChoice, envInt, envList, envText, type Logger, reasonOf } from "@autellix/runtime";
import { z } from "zod";

export const engineConfig = {
  AUTELLIX_ENGINE: envChoice(["llama", "simulated", "http"]).default("llama"),
  /** Names under which the model is offered, comma-separated; the first is its own. `http`: the server's, by default. */
  AUTELLIX_MODEL_NAMES: envList().optional(),
  /** A GGUF file; for `llama` only, which needs it. */
  AUTELLIX_MODEL_FILE: envText().optional(),
  /** `auto` needs the binaries of node-llama-cpp for the GPU. */
  AUTELLIX_GPU: envChoice(["false", "auto"]).default("false"),
  /** Cost model of the simulated engine: a name, or a file of `npm run calibrate`. */
  AUTELLIX_ENGINE_PRESET: envText().default("a100-8b"),
  /** `http`: where the server is, with or without `/v1`. */
  AUTELLIX_ENGINE_URL: envText().optional(),
  AUTELLIX_DIALECT: envChoice(["auto", "vllm", "sglang", "llama-server", "openai"]).default("auto"),
  /** `http`: calls that the server computes together, where it does not say so itself. */
  AUTELLIX_SLOTS: envInt({ min: 1, max: 65_536 }).optional(),
  /** `http`: name of the variable that holds the server's API key, so that the key itself stands in no command line. */
  AUTELLIX_API_KEY_ENV: envText().optional(),
  /** `http`: file with certificates (PEM) that the server's may go back to. */
  AUTELLIX_CA: envText().optional(),
  /** `http`: a stream of the server without an event for so long is given up and begun again. */
  AUTELLIX_STALL_MS_MAX: envInt({ min: 1_000, max: 3_600_000 }).optional(),
  /** Sequences that one step may advance. Default: the engine's own, as for the next two. */
  AUTELLIX_BATCH_CALLS_MAX: envInt({ min: 1, max: 4_096 }).optional(),
  /** Contexts on the engine at once, running, parked or retained: what its memory holds. */
  AUTELLIX_RESIDENT_CALLS_MAX: envInt({ min: 1, max: 65_536 }).optional(),
  /** Prompt and answer of one call, in tokens. */
  AUTELLIX_CONTEXT_TOKENS_MAX: envInt({ min: 16, max: 10_000_000 }).optional(),
  /** KV in host memory; 0: none. Default: the engine's own. */
  AUTELLIX_HOST_KV_BYTES_MAX: envInt({ min: 0, max: 100_000_000_000_000 }).optional(),
  /** `llama`: a folder in memory for it. */
  AUTELLIX_HOST_KV_DIR: envText().optional(),
  /** `llama`: prompt tokens that one step evaluates. Default: measured at the start. */
  AUTELLIX_SLICE_TOKENS: envInt({ min: 1, max: 65_536 }).optional(),
};
const shape = z.object(engineConfig);
export type EngineConfig = z.infer<typeof shape>;

/** @returns which variable is missing, and what it must be. */
export function missingOf(config: EngineConfig): { path: string; message: string } | undefined {
  const { AUTELLIX_ENGINE: engine } = config;
  if (engine === "llama" && config.AUTELLIX_MODEL_FILE === undefined)
    return { path: "AUTELLIX_MODEL_FILE", message: "must name a GGUF file" };
  if (engine === "http" && config.AUTELLIX_ENGINE_URL === undefined)
    return { path: "AUTELLIX_ENGINE_URL", message: "must be the URL of a server" };
  if (engine !== "http" && config.AUTELLIX_MODEL_NAMES === undefined)
    return { path: "AUTELLIX_MODEL_NAMES", message: "must be a comma-separated list" };
  return undefined;
}

export interface OpenContext {
  /** Where the API key is looked up. */
  env: Env;
  log: Logger;
  progress: (text: string) => void;
  signal: AbortSignal;
}

/** @throws Error in one sentence that says what to do. */
export async function openEngine(config: EngineConfig, context: OpenContext): Promise<Engine> {
  const { log } = context;
  if (config.AUTELLIX_ENGINE === "http") return await openHttp(config, context);
  const models = config.AUTELLIX_MODEL_NAMES ?? [];
  const sizes = defined({
    batchCallsMax: config.AUTELLIX_BATCH_CALLS_MAX,
    residentCallsMax: config.AUTELLIX_RESIDENT_CALLS_MAX,
    contextTokensMax: config.AUTELLIX_CONTEXT_TOKENS_MAX,
    hostKvBytesMax: config.AUTELLIX_HOST_KV_BYTES_MAX,
  });
  if (config.AUTELLIX_ENGINE === "simulated") {
    return openSimulatedEngine({ models, ...sizes, preset: readPreset(config.AUTELLIX_ENGINE_PRESET) });
  }
  // Native code: loaded only where it is used.
  const { openLlamaEngine } = await import("@autellix/engines/llama");
  const engine = await openLlamaEngine({
    models,
    ...sizes,
    ...defined({ hostKvDir: config.AUTELLIX_HOST_KV_DIR, sliceTokens: config.AUTELLIX_SLICE_TOKENS }),
    modelFile: config.AUTELLIX_MODEL_FILE ?? "",
    gpu: config.AUTELLIX_GPU === "auto" ? "auto" : false,
    log: (level, message) => log.debug({ llama: level, reason: message }, "llama.cpp says"),
    warn: (reason) => log.warn({ reason }, "the engine has less than it was asked for"),
  });
  log.info({ sliceTokens: engine.sliceTokens }, "engine opened");
  return engine;
}

async function openHttp(config: EngineConfig, { env, log, progress, signal }: OpenContext): Promise<Engine> {
  const { openHttpEngine } = await import("@autellix/engines/http");
  const { AUTELLIX_API_KEY_ENV: keyName, AUTELLIX_CA: caFile } = config;
  const limits = defined({ stallMsMax: config.AUTELLIX_STALL_MS_MAX });
  // Secrets that are mounted as files often end with a line break.
  const apiKey = keyName === undefined ? undefined : env[keyName]?.trim();
  if (keyName !== undefined && !apiKey)
    throw new ConfigError(`AUTELLIX_API_KEY_ENV names ${keyName}, which is not set`);
  return await openHttpEngine({
    url: config.AUTELLIX_ENGINE_URL ?? "",
    dialect: config.AUTELLIX_DIALECT,
    limits,
    ...defined({
      models: config.AUTELLIX_MODEL_NAMES,
      slots: config.AUTELLIX_SLOTS,
      contextTokensMax: config.AUTELLIX_CONTEXT_TOKENS_MAX,
      apiKey,
      ca: caFile === undefined ? undefined : await readCertificates(caFile),
    }),
    log: (level, message) => log[level]({ reason: message }, "the engine's server"),
    progress,
    signal,
  });
}

async function readCertificates(file: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new ConfigError(`AUTELLIX_CA: ${file} cannot be read: ${reasonOf(error)}`);
  }
  try {
    new X509Certificate(text);
  } catch {
    throw new ConfigError(`AUTELLIX_CA: ${file} holds no certificate (PEM)`);
  }
  return text;
}

/** Only the fields that have a value. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
