/**
 * The command line of `npm run load`.
 */
import { type ParseArgsConfig, parseArgs } from "node:util";
import type { Side } from "./compare.ts";
import { type WorkloadName, workloadNames } from "./workload.ts";

export const RATE_MAX = 10_000;
export const DURATION_S_MAX = 3_600;

export const HELP = `npm run load -- [options]: offers programs to an OpenAI endpoint, and reports how they fared.

  --url [NAME=]URL      an endpoint that runs, such as http://127.0.0.1:8080; give two to compare A with B
  --stack [NAME=]ARGS   a stack of our own, started for its phase: --stack "plas=--policy plas --model tiny"
  --rounds N            phases of each side; they take turns (default 1)
  --workload NAME       ${workloadNames.join(", ")} (default mixed)
  --trace FILE          programs from JSON lines instead (format: load-tests/src/workload.ts)
  --rate R              programs per second, Poisson (default 1; up to ${RATE_MAX})
  --duration S          seconds of arrivals (default 30; up to ${DURATION_S_MAX})
  --programs-max N      at most so many programs
  --seed N              the same seed offers the same programs (default 1)
  --token-scale F       multiplies all prompts and answers (default 1)
  --model NAME, --api-key KEY
  --no-stream           whole answers instead of streams
  --chars-per-token F   of the model's tokenizer (default 4.5; 1 for the tiny model)
  --call-timeout S      (default 600)
  --drain S             time for what is under way after the last arrival (default 600)
  --programs            end each program at the endpoint (stacks: always)
  --allow-remote        targets that are not on this machine
  --name NAME, --out FOLDER   of the result (default load, load-tests/results)
  --print-trace         write the programs as a trace to stdout and end
`;

/**
 * The options of a command line without other words.
 *
 * @throws UsageError for an option that is none.
 */
export function parseFlags<const Options extends NonNullable<ParseArgsConfig["options"]>>(
  args: readonly string[],
  options: Options,
) {
  return orUsageError(() => parseArgs({ args: [...args], strict: true, allowPositionals: false, options }).values);
}

/** What `parseArgs` throws is a mistake of the caller's. @throws UsageError */
export function orUsageError<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The command line cannot be understood; `message` is for a person. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface LoadOptions {
  sides: Side[];
  rounds: number;
  workload: WorkloadName;
  trace: string | undefined;
  rate: number;
  durationMs: number;
  programsMax: number | undefined;
  seed: number;
  tokenScale: number;
  stream: boolean;
  charsPerToken: number | undefined;
  callMsMax: number;
  drainMsMax: number;
  endPrograms: boolean;
  name: string;
  out: string | undefined;
  printTrace: boolean;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseLoadOptions(args: readonly string[]): LoadOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const workload = workloadNames.find((name) => name === (values.workload ?? "mixed"));
  if (!workload) throw new UsageError(`--workload must be one of ${workloadNames.join(", ")}`);
  const { "api-key": apiKey, model } = values;
  const sides: Side[] = [
    ...(values.url ?? []).map((text, index) => {
      const { name, rest } = named(text, "AB"[index] ?? String(index + 1), /^([A-Za-z0-9_-]+)=(https?:.*)$/);
      return { name, url: targetUrl(rest, values["allow-remote"] ?? false), apiKey, model };
    }),
    ...(values.stack ?? []).map((text, index) => {
      const { name, rest } = named(text, `stack ${index + 1}`, /^([A-Za-z0-9_-]+)=(.*)$/);
      return { name, stackArgs: rest.split(/\s+/).filter((word) => word !== ""), apiKey, model };
    }),
  ];
  const printTrace = values["print-trace"] ?? false;
  if (sides.length === 0 && !printTrace) throw new UsageError("name a target with --url or --stack");
  return {
    sides,
    rounds: number("rounds", values.rounds, 1, 1, 20),
    workload,
    trace: values.trace,
    rate: number("rate", values.rate, 1, 0.001, RATE_MAX),
    durationMs: 1_000 * number("duration", values.duration, 30, 0.1, DURATION_S_MAX),
    programsMax:
      values["programs-max"] === undefined ? undefined : number("programs-max", values["programs-max"], 0, 1, 1e6),
    seed: number("seed", values.seed, 1, 0, 2 ** 31),
    tokenScale: number("token-scale", values["token-scale"], 1, 0.01, 1_000),
    stream: !values["no-stream"],
    charsPerToken:
      values["chars-per-token"] === undefined
        ? undefined
        : number("chars-per-token", values["chars-per-token"], 0, 0.1, 20),
    callMsMax: 1_000 * number("call-timeout", values["call-timeout"], 600, 0.1, DURATION_S_MAX),
    drainMsMax: 1_000 * number("drain", values.drain, 600, 0, DURATION_S_MAX),
    endPrograms: values.programs ?? false,
    name: values.name ?? "load",
    out: values.out,
    printTrace,
  };
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const many = { type: "string", multiple: true } as const;
  const options = {
    url: many,
    stack: many,
    rounds: text,
    workload: text,
    trace: text,
    rate: text,
    duration: text,
    "programs-max": text,
    seed: text,
    "token-scale": text,
    model: text,
    "api-key": text,
    "no-stream": flag,
    "chars-per-token": text,
    "call-timeout": text,
    drain: text,
    programs: flag,
    "allow-remote": flag,
    name: text,
    out: text,
    "print-trace": flag,
    help: { ...flag, short: "h" },
  } as const;
  return parseFlags(joined(args), options);
}

/** `--stack "--policy fcfs"` as one word: `parseArgs` takes a value that starts with a dash for an option. */
function joined(args: readonly string[]): string[] {
  return args.flatMap((word, index) => {
    if (word === "--stack" && args[index + 1] !== undefined) return [`--stack=${args[index + 1]}`];
    return args[index - 1] === "--stack" ? [] : [word];
  });
}

function named(text: string, fallback: string, pattern: RegExp): { name: string; rest: string } {
  const [, name = fallback, rest = text] = pattern.exec(text) ?? [];
  return { name, rest };
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** @returns the API's root, `/v1` added where the URL names no path. @throws UsageError for a target elsewhere. */
export function targetUrl(text: string, allowRemote: boolean): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new UsageError(`"${text}" is no URL`);
  }
  if (!/^https?:$/.test(url.protocol)) throw new UsageError(`"${text}" is no http URL`);
  if (!allowRemote && !LOOPBACK.test(url.hostname))
    throw new UsageError(
      `${url.hostname} is not this machine; a load there needs --allow-remote and its owner's consent`,
    );
  return `${url.origin}${url.pathname === "/" ? "/v1" : url.pathname.replace(/\/+$/, "")}`;
}

export function number(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text.trim() === "" || !(value >= min && value <= max))
    throw new UsageError(`--${name} must be a number from ${min} to ${max}, not "${text}"`);
  return value;
}

/** @throws UsageError for what `number` refuses, and for a fraction. */
export function whole(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
  const value = number(name, text, fallback, min, max);
  if (!Number.isInteger(value)) throw new UsageError(`--${name} must be a whole number, not "${text}"`);
  return value;
}

/** What a person hears who chose something else than one of `names`. */
export function notOne(option: string, text: string, names: readonly string[]): UsageError {
  return new UsageError(`--${option} must be one of ${names.join(", ")}, not "${text}"`);
}
