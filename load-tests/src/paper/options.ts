/** The command line of `npm run bench:paper`. */
import { join } from "node:path";
import { type PresetName, presets } from "@autellix/engines/cost";
import { parseFlags, UsageError, whole } from "../options.ts";
import { presetOption } from "../preset-option.ts";
import { RESULTS_FOLDER } from "../report.ts";
import { SEEDS_MIN } from "./protocols.ts";
import type { Piece } from "./section.ts";

export const PAPER_WORKLOADS = ["sharegpt", "bfcl", "lats", "mixed"] as const;
export const PAPER_SYSTEMS = [
  "vllm",
  "vllm-opt",
  "vllm-opt+offload",
  "fcfs",
  "mlfq",
  "program-fcfs",
  "plas",
  "atlas",
  "srpt",
] as const;
/** Beside those: with `--all`. */
const OTHER_SYSTEMS = ["plas-in-order", "atlas-in-order", "round-robin", "las-decay", "atlas-dag"] as const;
const OTHER_WORKLOADS = ["swe", "deep-research", "agentx", "one-call", "equal"] as const;
/** Of a quick run: one workload of each shape. */
const QUICK_WORKLOADS = ["sharegpt", "lats"] as const;
const QUICK_PROGRAMS_MIN = 50;
const DEFAULT_PRESET: PresetName = "a100-8b";
const THREADS = 2;
const THREADS_MAX = 64;
const SEEDS_OPTION_MAX = 40;

export interface PaperOptions {
  quick: boolean;
  workloads: readonly string[];
  systems: readonly string[];
  pieces: readonly Piece[];
  protocols: readonly ("finite" | "steady")[];
  /** As `readPreset` takes it. */
  preset: string;
  seedsMin: number;
  programsMin: number | undefined;
  threads: number;
  out: string;
  fresh: boolean;
}

export function helpText(pieces: readonly Piece[]): string {
  const list = pieces.map(
    ({ id, about, inDefault }) => `    ${id.padEnd(13)} ${about}${inDefault ? " (default)" : ""}`,
  );
  return `npm run bench:paper -- [options]: the paper's evaluation on the simulator, with its own curves beside ours.

  --quick              minutes instead of hours: few rates, seeds and programs; says how few
  --all                all workloads, figures and sweeps
  --only A,B           some pieces:
${list.join("\n")}
  --workloads A,B      of ${[...PAPER_WORKLOADS, ...OTHER_WORKLOADS].join(", ")} (default: the paper's four)
  --systems A,B        of ${PAPER_SYSTEMS.join(", ")} (default),
                       ${OTHER_SYSTEMS.join(", ")}
  --protocols A,B      finite, steady (default: both)
  --seeds N            seeds of a point, at least (default ${SEEDS_MIN})
  --preset NAME        engine: ${Object.keys(presets).join(", ")}, or a file of npm run calibrate (default ${DEFAULT_PRESET})
  --threads N          runs at once (default ${THREADS})
  --out FOLDER         (default load-tests/results/paper); runs that are stored there are not played again
  --fresh              play all runs anew
`;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parsePaperOptions(args: readonly string[], pieces: readonly Piece[]): PaperOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const quick = values.quick ?? false;
  const all = values.all ?? false;
  if (quick && all) throw new UsageError("--quick and --all are two runs");
  const { preset = DEFAULT_PRESET } = values;
  if (values.out === "") throw new UsageError("--out needs a folder");
  const everything = [...PAPER_WORKLOADS, ...OTHER_WORKLOADS];
  const allSystems = [...PAPER_SYSTEMS, ...OTHER_SYSTEMS];
  const usual = quick ? QUICK_WORKLOADS : all ? everything : PAPER_WORKLOADS;
  const chosen =
    values.only === undefined
      ? undefined
      : listOf(
          "only",
          values.only,
          pieces.map(({ id }) => id),
        );
  return {
    quick,
    workloads: listOf("workloads", values.workloads, everything) ?? usual,
    systems: listOf("systems", values.systems, allSystems) ?? (all ? allSystems : PAPER_SYSTEMS),
    pieces: pieces.filter(({ id, inDefault }) => chosen?.includes(id) ?? (all || inDefault)),
    protocols: listOf("protocols", values.protocols, ["finite", "steady"] as const) ?? ["finite", "steady"],
    preset: presetOption(preset),
    seedsMin: whole("seeds", values.seeds, quick ? 1 : SEEDS_MIN, 1, SEEDS_OPTION_MAX),
    programsMin: quick ? QUICK_PROGRAMS_MIN : undefined,
    threads: whole("threads", values.threads, THREADS, 1, THREADS_MAX),
    out: values.out ?? join(RESULTS_FOLDER, quick ? "paper-quick" : "paper"),
    fresh: values.fresh ?? false,
  };
}

function listOf<T extends string>(option: string, text: string | undefined, known: readonly T[]): T[] | undefined {
  if (text === undefined) return undefined;
  const found = text.split(",").map((word) => {
    const name = known.find((item) => item === word.trim());
    if (name === undefined) throw new UsageError(`--${option}: "${word}" is none of ${known.join(", ")}`);
    return name;
  });
  return [...new Set(found)];
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    quick: flag,
    all: flag,
    only: text,
    workloads: text,
    systems: text,
    protocols: text,
    seeds: text,
    preset: text,
    threads: text,
    out: text,
    fresh: flag,
    help: { ...flag, short: "h" },
  } as const;
  return parseFlags(args, options);
}
