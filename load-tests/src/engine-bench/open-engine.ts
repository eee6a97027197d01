/** Engines that are measured through the port: which one a command line names, and opening it. */
import { basename } from "node:path";
import { type Engine, openSimulatedEngine } from "@autellix/engines";
import { readPreset } from "@autellix/engines/preset-file";
import { UnreadableFile } from "../ending.ts";
import { UsageError, whole } from "../options.ts";
import { presetOption } from "../preset-option.ts";

const ENGINES = ["llama", "http", "simulated"] as const;
const DIALECTS = ["auto", "vllm", "sglang", "llama-server", "openai"] as const;
type Dialect = (typeof DIALECTS)[number];
const CALLS_MAX = 4_096;
const TOKENS_MAX = 10_000_000;

const text = { type: "string" } as const;
export const ENGINE_FLAGS = {
  engine: text,
  "model-file": text,
  gpu: text,
  url: text,
  dialect: text,
  slots: text,
  preset: text,
  batch: text,
  resident: text,
  "context-tokens": text,
} as const;

export const ENGINE_HELP = `  --engine KIND        ${ENGINES.join(", ")} (default llama)
  --model-file FILE    a GGUF file, for llama
  --gpu auto|false     for llama (default false)
  --url URL            of the server, for http; with --dialect NAME and --slots N where it does not say them
  --preset NAME|FILE   for simulated: calibrating it must give its preset back
  --batch N            sequences that one step advances
  --resident N         contexts on the engine at once
  --context-tokens N   prompt and answer of one call`;

export interface EngineOptions {
  kind: (typeof ENGINES)[number];
  modelFile: string | undefined;
  gpu: "auto" | false;
  url: string | undefined;
  dialect: Dialect | undefined;
  slots: number | undefined;
  preset: string;
  batchCallsMax: number | undefined;
  residentCallsMax: number | undefined;
  contextTokensMax: number | undefined;
  /** Prompt tokens per step, for llama; default: measured at the start. */
  sliceTokens?: number | undefined;
}

type Values = Partial<Record<keyof typeof ENGINE_FLAGS, string>>;

/** @throws UsageError */
export function engineOptionsOf(values: Values): EngineOptions {
  const kind = ENGINES.find((name) => name === (values.engine ?? "llama"));
  if (kind === undefined) throw new UsageError(`--engine must be one of ${ENGINES.join(", ")}, not "${values.engine}"`);
  if (kind === "llama" && !values["model-file"]) throw new UsageError("--engine llama needs a --model-file");
  if (kind === "http" && !values.url) throw new UsageError("--engine http needs a --url");
  const { gpu = "false" } = values;
  if (gpu !== "auto" && gpu !== "false") throw new UsageError(`--gpu must be auto or false, not "${gpu}"`);
  const dialect = DIALECTS.find((name) => name === values.dialect);
  if (dialect !== values.dialect)
    throw new UsageError(`--dialect must be one of ${DIALECTS.join(", ")}, not "${values.dialect}"`);
  const optional = (name: "slots" | "batch" | "resident" | "context-tokens", max: number) =>
    values[name] === undefined ? undefined : whole(name, values[name], 1, 1, max);
  return {
    kind,
    modelFile: values["model-file"],
    gpu: gpu === "auto" ? "auto" : false,
    url: values.url,
    dialect,
    slots: optional("slots", CALLS_MAX),
    preset: presetOption(values.preset ?? "a100-8b"),
    batchCallsMax: optional("batch", CALLS_MAX),
    residentCallsMax: optional("resident", CALLS_MAX),
    contextTokensMax: optional("context-tokens", TOKENS_MAX),
  };
}

/** llama.cpp with these limits, whatever a command line would say. */
export function llamaOptions(
  given: Pick<EngineOptions, "gpu"> & {
    modelFile: string;
    batchCallsMax: number;
    residentCallsMax: number;
    contextTokensMax: number;
    sliceTokens?: number | undefined;
  },
): EngineOptions {
  return { kind: "llama", url: undefined, dialect: undefined, slots: undefined, preset: "", ...given };
}

/** @throws UnreadableFile: one sentence that says what to do. */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  try {
    return await opened(options);
  } catch (error) {
    throw new UnreadableFile(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

async function opened(options: EngineOptions): Promise<Engine> {
  const { batchCallsMax, residentCallsMax, contextTokensMax } = options;
  const context = contextTokensMax === undefined ? {} : { contextTokensMax };
  const limits = {
    ...(batchCallsMax === undefined ? {} : { batchCallsMax }),
    ...(residentCallsMax === undefined ? {} : { residentCallsMax }),
    ...context,
  };
  if (options.kind === "simulated")
    return openSimulatedEngine({ models: ["simulated"], preset: readPreset(options.preset), ...limits });
  if (options.kind === "http") {
    const { openHttpEngine } = await import("@autellix/engines/http");
    const { url = "", dialect = "auto", slots } = options;
    return await openHttpEngine({ url, dialect, ...(slots === undefined ? {} : { slots }), ...context });
  }
  // Native code: loaded only where it is used.
  const { openLlamaEngine } = await import("@autellix/engines/llama");
  const { modelFile = "", gpu, sliceTokens } = options;
  const slice = sliceTokens === undefined ? {} : { sliceTokens };
  return await openLlamaEngine({ modelFile, models: [basename(modelFile, ".gguf")], gpu, ...limits, ...slice });
}
