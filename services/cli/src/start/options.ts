/** What can be said on the command line of `npm start`; the help text is made of the same table. */
import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { balancers, policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { type Env, LOG_LEVELS } from "@autellix/runtime";
import { UsageError } from "../usage.ts";

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
  policy: "plas",
  balancer: "locality",
  engine: "llama",
  logLevel: "info",
} as const;
/** More processes than this on one machine is a typing error. */
const PROCESSES_MAX = 64;
const PORT_MAX = 65_535;
const POLICIES = Object.keys(policies);
const BALANCERS = Object.keys(balancers);
const PRESETS = Object.keys(presets);
const ENGINES = ["llama", "simulated"] as const;

const table = {
  model: {
    value: "FILE|hf:…|tiny",
    repeatable: true,
    help: "a GGUF file, a model of the hub (hf:user/repo:quant) or the tiny random model; one pool each, repeatable (default: SmolLM2-135M-Instruct)",
  },
  engine: {
    value: "NAME",
    help: `llama (llama.cpp on this machine) or simulated (cost model, no model needed) (default: ${DEFAULTS.engine})`,
  },
  engines: { value: "N", help: `worker agents, one engine each, per pool (default: ${DEFAULTS.engines})` },
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
  "data-dir": { value: "FOLDER", help: "queue, logs and keys (default: .data in the repository)" },
  "api-keys": {
    value: "FILE",
    help: "only keys of this file may call; made by `npm run keys -- create NAME` (default: any key, tenant default)",
  },
  preset: { value: "NAME", help: `cost model of the simulated engine: ${PRESETS.join(", ")} (default: a100-8b)` },
  "input-log": {
    value: "FILE",
    help: "record what schedulers decide by, without any text: inputs.jsonl gives inputs.<pool>.<epoch>.jsonl, for `npm run replay`",
  },
  trace: {
    value: "FILE",
    help: "record sizes and times of calls, without any text: trace.jsonl gives trace.frontend-<n>.jsonl, for `npm run simulate`",
  },
  "log-level": { value: "LEVEL", help: `${LOG_LEVELS.join(", ")} (default: ${DEFAULTS.logLevel})` },
  pretty: { help: "show the log lines of all processes in the terminal, too" },
  help: { help: "show this" },
} as const satisfies Record<string, OptionRow>;

export type EngineKind = (typeof ENGINES)[number];
export type ModelSpec =
  | { kind: "default" }
  | { kind: "tiny" }
  | { kind: "hub"; uri: string }
  | { kind: "file"; path: string };

export interface StartOptions {
  models: ModelSpec[];
  engine: EngineKind;
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
  dataDir: string;
  apiKeysFile: string | undefined;
  preset: string | undefined;
  inputLogFile: string | undefined;
  traceFile: string | undefined;
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
  const options: StartOptions = {
    models: (values.model ?? []).map((text) => modelSpec(text, cwd)),
    engine: choice("engine", values.engine ?? DEFAULTS.engine, ENGINES),
    engines: count("engines", values.engines, DEFAULTS.engines),
    frontends: count("frontends", values.frontends, DEFAULTS.frontends),
    schedulers: count("schedulers", values.schedulers, DEFAULTS.schedulers),
    policy: choice("policy", values.policy ?? DEFAULTS.policy, POLICIES),
    balancer: choice("balancer", values.balancer ?? DEFAULTS.balancer, BALANCERS),
    port: wholeNumber("port", values.port ?? String(DEFAULTS.port), PORT_MAX),
    natsUrl: values["nats-url"] || env.NATS_URL || undefined,
    natsPort: wholeNumber("nats-port", values["nats-port"] ?? String(DEFAULTS.natsPort), PORT_MAX),
    dataDir: resolve(cwd, values["data-dir"] ?? defaultDataDir),
    apiKeysFile: values["api-keys"] === undefined ? undefined : resolve(cwd, values["api-keys"]),
    preset: values.preset === undefined ? undefined : choice("preset", values.preset, PRESETS),
    inputLogFile: values["input-log"] === undefined ? undefined : resolve(cwd, values["input-log"]),
    traceFile: values.trace === undefined ? undefined : resolve(cwd, values.trace),
    logLevel: choice("log-level", values["log-level"] ?? DEFAULTS.logLevel, LOG_LEVELS),
    pretty: values.pretty ?? false,
  };
  if (options.models.length === 0) options.models.push({ kind: "default" });
  if (options.port + options.frontends - 1 > PORT_MAX)
    throw new UsageError(`--port ${options.port} leaves no room for ${options.frontends} frontends below ${PORT_MAX}`);
  if (options.preset !== undefined && options.engine !== "simulated")
    throw new UsageError("--preset is for --engine simulated");
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
        frontends: text,
        schedulers: text,
        policy: text,
        balancer: text,
        port: text,
        "nats-url": text,
        "nats-port": text,
        "data-dir": text,
        "api-keys": text,
        preset: text,
        "input-log": text,
        trace: text,
        "log-level": text,
        pretty: flag,
        help: { ...flag, short: "h" },
      } satisfies Record<keyof typeof table, unknown>,
    }).values;
  } catch (error) {
    throw UsageError.fromParseArgs(error, "npm start -- --help");
  }
}

function modelSpec(text: string, cwd: string): ModelSpec {
  if (text === "") throw new UsageError("--model needs a file, hf:… or tiny");
  if (text === "tiny") return { kind: "tiny" };
  if (text.startsWith("hf:")) return { kind: "hub", uri: text };
  return { kind: "file", path: isAbsolute(text) ? text : resolve(cwd, text) };
}

function count(name: string, text: string | undefined, fallback: number): number {
  return text === undefined ? fallback : wholeNumber(name, text, PROCESSES_MAX);
}

function wholeNumber(name: string, text: string, max: number): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max)
    throw new UsageError(`--${name} must be a whole number from 1 to ${max}, not "${text}"`);
  return value;
}

function choice<const T extends string>(name: string, text: string, words: readonly T[]): T {
  const word = words.find((candidate) => candidate === text);
  if (word === undefined) throw new UsageError(`--${name} must be one of ${words.join(", ")}, not "${text}"`);
  return word;
}
