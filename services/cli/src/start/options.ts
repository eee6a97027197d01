/** What can be said on the command line of `npm start`; the help text is made of the same table. */
import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { balancers, policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { PresetError, readPreset } from "@autellix/engines/preset-file";
import { type Env, LOG_LEVELS } from "@autellix/runtime";
import { UsageError } from "../usage.ts";
import { DIALECTS, type HttpOptions, httpOptions } from "./http-options.ts";
import { METRICS_PORT_FIRST, PORT_MAX } from "./metrics-ports.ts";
import { bytes, choice, httpUrl, share, wholeNumber } from "./option-values.ts";

interface OptionRow {
  /** What the value is; none for a flag. */
  value?: string;
  repeatable?: true;
  help: string;
}

const DEFAULTS = {
  engines: 2,
  frontends: 2,
  schedulers: 1,
  port: 8080,
  natsPort: 4222,
  dashboardPort: 8090,
  policy: "plas",
  balancer: "locality",
  engine: "llama",
  logLevel: "info",
} as const;
/** More processes than this on one machine is a typing error. */
const PROCESSES_MAX = 64;
const POLICIES = Object.keys(policies);
const BALANCERS = Object.keys(balancers);
const PRESETS = Object.keys(presets);
const ENGINES = ["llama", "simulated", "http"] as const;

const table = {
  model: {
    value: "FILE|hf:…|tiny|NAME",
    repeatable: true,
    help: "a GGUF file, a model of the hub (hf:user/repo:quant) or the tiny random model; one pool each, repeatable (default: SmolLM2-135M-Instruct); http: the server's name of its model, where it has several",
  },
  engine: {
    value: "NAME",
    help: `llama (llama.cpp on this machine), simulated (cost model, no model needed) or http (a server that runs already: vLLM, SGLang, llama-server, …) (default: ${DEFAULTS.engine})`,
  },
  engines: {
    value: "N",
    help: `worker agents, one engine each, per pool (default: ${DEFAULTS.engines}; http: one for each --url)`,
  },
  url: { value: "URL", repeatable: true, help: "http: where a server is; repeatable, all with the same model" },
  dialect: { value: "NAME", help: `http: ${DIALECTS.join(", ")} (default: ${DIALECTS[0]})` },
  slots: {
    value: "N",
    help: "http: calls that a server computes together, where it does not say so (vLLM: its --max-num-seqs)",
  },
  "api-key-env": { value: "NAME", help: "http: environment variable that holds the server's API key" },
  ca: { value: "FILE", help: "http: certificates (PEM) that the server's may go back to" },
  alias: {
    value: "NAME",
    repeatable: true,
    help: "another name under which clients may use the model; repeatable, for one model only",
  },
  "host-kv-bytes": {
    value: "N",
    help: "KV that an engine may keep in host memory; 0: none (default: the engine's own; not for http)",
  },
  frontends: { value: "N", help: `frontends, on PORT, PORT+1, … (default: ${DEFAULTS.frontends})` },
  schedulers: {
    value: "N",
    help: `schedulers per pool; one leads, the others stand by (default: ${DEFAULTS.schedulers})`,
  },
  policy: { value: "NAME", help: `who is served first: ${POLICIES.join(", ")} (default: ${DEFAULTS.policy})` },
  balancer: {
    value: "NAME",
    help: `which engine a call goes to: ${BALANCERS.join(", ")} (default: ${DEFAULTS.balancer})`,
  },
  port: { value: "PORT", help: `HTTP port of the first frontend (default: ${DEFAULTS.port})` },
  "nats-url": {
    value: "URL",
    help: "use a running nats-server (2.11 or newer, with JetStream) instead of an own one (also: NATS_URL)",
  },
  "nats-port": { value: "PORT", help: `port of the own nats-server (default: ${DEFAULTS.natsPort})` },
  "dashboard-port": { value: "PORT", help: `HTTP port of the dashboard (default: ${DEFAULTS.dashboardPort})` },
  "no-dashboard": { help: "start no dashboard" },
  "metrics-port": {
    value: "PORT|off",
    help: `/metrics of the services, each on a port of its own from this one upwards (default: the first free ones from ${METRICS_PORT_FIRST}; they are listed in the data folder, prometheus-targets.json)`,
  },
  "data-dir": { value: "FOLDER", help: "queue, logs and keys (default: .data in the repository)" },
  "api-keys": {
    value: "FILE",
    help: "only keys of this file may call; made by `npm run keys -- create NAME` (default: any key, tenant default)",
  },
  preset: {
    value: "NAME|FILE",
    help: `cost model of the simulated engine: ${PRESETS.join(", ")}, or a file of npm run calibrate (default: a100-8b)`,
  },
  "input-log": {
    value: "FILE",
    help: "record what schedulers decide by, without any text: inputs.jsonl gives inputs.<pool>.<epoch>.jsonl, for `npm run replay`",
  },
  trace: {
    value: "FILE",
    help: "record sizes and times of calls, without any text: trace.jsonl gives trace.frontend-<n>.jsonl, for `npm run simulate`",
  },
  otlp: {
    value: "URL",
    help: "send a trace for each program to this collector (OTLP over HTTP), http://127.0.0.1:4318 for a Jaeger on this machine",
  },
  "trace-sample": { value: "SHARE", help: "share of programs that are traced, 0 to 1 (default: 1)" },
  "log-level": { value: "LEVEL", help: `${LOG_LEVELS.join(", ")} (default: ${DEFAULTS.logLevel})` },
  pretty: { help: "show the log lines of all processes in the terminal, too" },
  help: { help: "show this" },
} as const satisfies Record<string, OptionRow>;

export type EngineKind = (typeof ENGINES)[number];
export type ModelSpec =
  | { kind: "default" }
  | { kind: "tiny" }
  | { kind: "hub"; uri: string }
  | { kind: "file"; path: string }
  /** On a server that runs already. */
  | { kind: "served"; name: string };

export interface StartOptions {
  models: ModelSpec[];
  engine: EngineKind;
  /** Set for the engine `http`. */
  http: HttpOptions | undefined;
  /** More names of the one model. */
  aliases: string[];
  hostKvBytesMax: number | undefined;
  /** Per pool. */
  engines: number;
  frontends: number;
  /** Per pool. */
  schedulers: number;
  /** Names of the core's records. */
  policy: string;
  balancer: string;
  port: number;
  /** Set when an outside nats-server is to be used. */
  natsUrl: string | undefined;
  natsPort: number;
  /** Undefined: no dashboard. */
  dashboardPort: number | undefined;
  /** First of a row, one for each service; undefined: where there is room. */
  metricsPort: number | "off" | undefined;
  dataDir: string;
  apiKeysFile: string | undefined;
  preset: string | undefined;
  inputLogFile: string | undefined;
  traceFile: string | undefined;
  /** A collector's endpoint. */
  otlpUrl: string | undefined;
  /** 0 … 1, as text. */
  traceSample: string | undefined;
  logLevel: string;
  pretty: boolean;
}

/**
 * @param defaultDataDir used without `--data-dir`.
 * @param cwd what relative paths are relative to.
 * @returns undefined when help was asked for. @throws UsageError with one line for the first thing that is wrong.
 */
export function parseStartOptions(
  args: readonly string[],
  env: Env,
  defaultDataDir: string,
  cwd: string,
): StartOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const engine = choice("engine", values.engine ?? DEFAULTS.engine, ENGINES);
  const http = httpOptions(values, engine, cwd);
  const options: StartOptions = {
    models: (values.model ?? []).map((text) => (http ? serverModel(text) : modelSpec(text, cwd))),
    engine,
    http,
    aliases: values.alias ?? [],
    hostKvBytesMax: bytes("host-kv-bytes", values["host-kv-bytes"]),
    engines: http ? http.urls.length : count("engines", values.engines, DEFAULTS.engines),
    frontends: count("frontends", values.frontends, DEFAULTS.frontends),
    schedulers: count("schedulers", values.schedulers, DEFAULTS.schedulers),
    policy: choice("policy", values.policy ?? DEFAULTS.policy, POLICIES),
    balancer: choice("balancer", values.balancer ?? DEFAULTS.balancer, BALANCERS),
    port: wholeNumber("port", values.port ?? String(DEFAULTS.port), PORT_MAX),
    natsUrl: values["nats-url"] || env.NATS_URL || undefined,
    natsPort: wholeNumber("nats-port", values["nats-port"] ?? String(DEFAULTS.natsPort), PORT_MAX),
    dashboardPort: values["no-dashboard"]
      ? undefined
      : wholeNumber("dashboard-port", values["dashboard-port"] ?? String(DEFAULTS.dashboardPort), PORT_MAX),
    metricsPort: metricsPort(values["metrics-port"]),
    dataDir: resolve(cwd, values["data-dir"] ?? defaultDataDir),
    apiKeysFile: values["api-keys"] === undefined ? undefined : resolve(cwd, values["api-keys"]),
    preset: values.preset === undefined ? undefined : preset(values.preset, cwd),
    inputLogFile: values["input-log"] === undefined ? undefined : resolve(cwd, values["input-log"]),
    traceFile: values.trace === undefined ? undefined : resolve(cwd, values.trace),
    otlpUrl: values.otlp === undefined ? undefined : httpUrl("otlp", values.otlp),
    traceSample: values["trace-sample"] === undefined ? undefined : share("trace-sample", values["trace-sample"]),
    logLevel: choice("log-level", values["log-level"] ?? DEFAULTS.logLevel, LOG_LEVELS),
    pretty: values.pretty ?? false,
  };
  if (options.models.length === 0) options.models.push({ kind: "default" });
  if (options.port + options.frontends - 1 > PORT_MAX)
    throw new UsageError(`--port ${options.port} leaves no room for ${options.frontends} frontends below ${PORT_MAX}`);
  if (values["no-dashboard"] && values["dashboard-port"] !== undefined)
    throw new UsageError("--dashboard-port is of no use with --no-dashboard");
  if (options.preset !== undefined && options.engine !== "simulated")
    throw new UsageError("--preset is for --engine simulated");
  if (http && values.engines !== undefined)
    throw new UsageError("--engines is not for http: there is one for each --url");
  if (http && options.hostKvBytesMax !== undefined) throw new UsageError("--host-kv-bytes is not for --engine http");
  if (http && options.aliases.length > 0 && values.model === undefined)
    throw new UsageError("--alias needs --model with the server's own name of the model");
  if (options.aliases.some((name) => name === "")) throw new UsageError("--alias needs a name");
  if (options.models.length > 1 && (http || options.aliases.length > 0))
    throw new UsageError(`${http ? "--engine http" : "--alias"} is for one model`);
  if (values["input-log"] === "") throw new UsageError("--input-log needs a file");
  if (values.trace === "") throw new UsageError("--trace needs a file");
  return options;
}

export function startHelp(): string {
  const rows: [string, string][] = Object.entries<OptionRow>(table).map(([name, { value, help }]) => [
    `--${name}${value === undefined ? "" : ` ${value}`}`,
    help,
  ]);
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return `npm start -- [options]\n\n${rows.map(([left, help]) => `  ${left.padEnd(width)}${help}`).join("\n")}\n`;
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const many = { type: "string", multiple: true } as const;
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        model: many,
        engine: text,
        engines: text,
        url: many,
        dialect: text,
        slots: text,
        "api-key-env": text,
        ca: text,
        alias: many,
        "host-kv-bytes": text,
        frontends: text,
        schedulers: text,
        policy: text,
        balancer: text,
        port: text,
        "nats-url": text,
        "nats-port": text,
        "dashboard-port": text,
        "no-dashboard": flag,
        "metrics-port": text,
        "data-dir": text,
        "api-keys": text,
        preset: text,
        "input-log": text,
        trace: text,
        otlp: text,
        "trace-sample": text,
        "log-level": text,
        pretty: flag,
        help: { ...flag, short: "h" },
      } satisfies Record<keyof typeof table, unknown>,
    }).values;
  } catch (error) {
    throw UsageError.fromParseArgs(error, "npm start -- --help");
  }
}

function metricsPort(text: string | undefined): StartOptions["metricsPort"] {
  return text === undefined || text === "off" ? text : wholeNumber("metrics-port", text, PORT_MAX);
}

/** A model is what its server calls it. */
function serverModel(name: string): ModelSpec {
  if (name === "") throw new UsageError("--model needs the server's name of a model");
  return { kind: "served", name };
}

/** @returns what `AUTELLIX_ENGINE_PRESET` takes. */
function preset(text: string, cwd: string): string {
  if (PRESETS.includes(text)) return text;
  const file = resolve(cwd, text);
  try {
    readPreset(file);
  } catch (error) {
    if (!(error instanceof PresetError)) throw error;
    throw new UsageError(`--preset ${error.message.replaceAll(file, text)}`);
  }
  return file;
}

/** What `--model` means, of an engine that loads files. */
export function modelSpec(text: string, cwd: string): ModelSpec {
  if (text === "") throw new UsageError("--model needs a file, hf:… or tiny");
  if (text === "tiny") return { kind: "tiny" };
  if (text.startsWith("hf:")) return { kind: "hub", uri: text };
  return { kind: "file", path: isAbsolute(text) ? text : resolve(cwd, text) };
}

function count(name: string, text: string | undefined, fallback: number): number {
  return text === undefined ? fallback : wholeNumber(name, text, PROCESSES_MAX);
}
