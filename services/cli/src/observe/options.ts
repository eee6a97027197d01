/** What can be said on the command line of the observing commands; the help text is made of the same tables. */
import { parseArgs } from "node:util";
import type { Env } from "@autellix/runtime";
import { choice, wholeNumber } from "../start/option-values.ts";
import { UsageError } from "../usage.ts";

export const OBSERVE_COMMANDS = ["top", "ps", "programs", "calls", "engines", "trace", "doctor"] as const;
export type ObserveCommand = (typeof OBSERVE_COMMANDS)[number];

export function isObserveCommand(text: string | undefined): text is ObserveCommand {
  return OBSERVE_COMMANDS.some((command) => command === text);
}

const NATS_DEFAULT = "nats://127.0.0.1:4222";
export const SORT_KEYS = ["service", "waiting", "level", "calls", "age", "name"] as const;
export type SortKey = (typeof SORT_KEYS)[number];
export const CALL_STATES = ["waiting", "starting", "running", "parked", "swapped", "evicted", "ending"] as const;
const LIMIT_MAX = 999_999;
const COUNT_MAX = 999_999;

interface OptionRow {
  value?: string;
  repeatable?: true;
  of?: readonly ObserveCommand[];
  help: string;
}

const table = {
  nats: {
    value: "URL",
    help: `nats-server, several of a cluster separated by commas (default: NATS_URL, AUTELLIX_NATS_URL, ${NATS_DEFAULT})`,
  },
  pool: { value: "NAME", repeatable: true, help: "only this pool; repeatable (default: all)" },
  json: { help: "one JSON document instead of a table; top: one line per --every" },
  tenant: {
    value: "NAME",
    of: ["ps", "programs", "calls", "trace"],
    help: "only this tenant's (trace: default: default)",
  },
  program: { value: "ID", of: ["calls"], help: "only this program's calls" },
  state: { value: "STATE", of: ["calls", "programs"], help: `calls: ${CALL_STATES.join(", ")}; programs: open, ended` },
  sort: {
    value: "KEY",
    of: ["ps", "programs", "top"],
    help: `programs by ${SORT_KEYS.join(", ")} (default: service, most first; top: calls)`,
  },
  limit: { value: "N", of: ["ps", "programs", "calls"], help: "at most so many rows (default: all)" },
  every: { value: "SECONDS", of: ["top"], help: "time between two pictures, 0.2 to 60 (default: 1)" },
  count: { value: "N", of: ["top"], help: "ends after so many pictures (default: never)" },
  jaeger: {
    value: "URL",
    of: ["trace"],
    help: "takes the spans from Jaeger's query API, such as http://127.0.0.1:16686",
  },
  monitor: {
    value: "URL",
    repeatable: true,
    of: ["doctor"],
    help: "monitoring port of a nats-server, such as http://127.0.0.1:8222; repeatable",
  },
  help: { help: "show this" },
} as const satisfies Record<string, OptionRow>;

const SUMMARIES: Record<ObserveCommand, string> = {
  top: "what happens now, live: pools, engines with their slots, queues, the busiest programs",
  ps: "the process table: programs that have calls now",
  programs: "all programs that are known, those without calls, too",
  calls: "calls that have not ended",
  engines: "engines: what they run, hold and have done",
  trace: "one program as a waterfall: waiting, running, gaps",
  doctor: "checks NATS, streams, leaders, engines, clocks and memory, and says what to do",
};

export interface ObserveOptions {
  nats: string;
  pools: readonly string[];
  json: boolean;
  colors: boolean;
  tenant: string | undefined;
  /** Of `calls`, or the one of `trace`. */
  program: string | undefined;
  state: string | undefined;
  sort: SortKey | undefined;
  limit: number;
  everyMs: number;
  count: number;
  jaeger: string | undefined;
  monitors: readonly string[];
}

/** @returns undefined when help was asked for. @throws UsageError in one line. */
export function observeOptions(command: ObserveCommand, args: readonly string[], env: Env): ObserveOptions | undefined {
  const { values, positionals } = parse(command, args);
  if (values.help) return undefined;
  const given = command === "trace" ? positionals.slice(1) : positionals;
  if (given.length > 0) throw new UsageError(`"${given[0]}" is one word too many; see autellix ${command} --help`);
  if (command === "trace" && positionals.length === 0)
    throw new UsageError("trace needs the id of a program; see autellix trace --help");
  for (const [name, row] of Object.entries(table) as [keyof typeof table, OptionRow][]) {
    if (row.of && values[name] !== undefined && !row.of.includes(command)) {
      throw new UsageError(`--${name} is not an option of ${command}; see autellix ${command} --help`);
    }
  }
  const states = command === "calls" ? CALL_STATES : ["open", "ended"];
  return {
    nats: values.nats || env.NATS_URL || env.AUTELLIX_NATS_URL || NATS_DEFAULT,
    pools: values.pool ?? [],
    json: values.json ?? false,
    colors: false,
    tenant: values.tenant,
    program: command === "trace" ? positionals[0] : values.program,
    state: values.state === undefined ? undefined : choice("state", values.state, states),
    sort: values.sort === undefined ? undefined : choice("sort", values.sort, SORT_KEYS),
    limit: values.limit === undefined ? Number.POSITIVE_INFINITY : wholeNumber("limit", values.limit, LIMIT_MAX),
    everyMs: values.every === undefined ? 1_000 : seconds("every", values.every),
    count: values.count === undefined ? Number.POSITIVE_INFINITY : wholeNumber("count", values.count, COUNT_MAX),
    jaeger: values.jaeger === undefined ? undefined : url("jaeger", values.jaeger),
    monitors: (values.monitor ?? []).map((text) => url("monitor", text)),
  };
}

function parse(command: ObserveCommand, args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        nats: { type: "string" },
        pool: { type: "string", multiple: true },
        json: { type: "boolean" },
        tenant: { type: "string" },
        program: { type: "string" },
        state: { type: "string" },
        sort: { type: "string" },
        limit: { type: "string" },
        every: { type: "string" },
        count: { type: "string" },
        jaeger: { type: "string" },
        monitor: { type: "string", multiple: true },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw UsageError.fromParseArgs(error, `autellix ${command} --help`);
  }
}

function seconds(name: string, text: string): number {
  const value = /^\d{1,2}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  if (value < 0.2 || value > 60)
    throw new UsageError(`--${name} must be a number of seconds from 0.2 to 60, not "${text}"`);
  return value * 1_000;
}

function url(name: string, text: string): string {
  if (!URL.canParse(text) || !/^https?:/.test(text))
    throw new UsageError(`--${name} must be a URL such as http://127.0.0.1:8222, not "${text}"`);
  return text;
}

export function observeHelp(command?: ObserveCommand): string {
  if (command === undefined) {
    const lines = OBSERVE_COMMANDS.map((name) => `  ${name.padEnd(10)}${SUMMARIES[name]}`);
    return `autellix COMMAND [options]\n\n${lines.join("\n")}\n\nautellix COMMAND --help lists the options.\n`;
  }
  const rows = (Object.entries(table) as [string, OptionRow][]).filter(([, row]) => row.of?.includes(command) ?? true);
  const lines = rows.map(([name, row]) => `  ${`--${name}${row.value ? ` ${row.value}` : ""}`.padEnd(18)}${row.help}`);
  const operand = command === "trace" ? " PROGRAM" : "";
  return `autellix ${command}${operand} [options]: ${SUMMARIES[command]}\n\n${lines.join("\n")}\n`;
}
