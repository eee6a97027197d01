/** The command line of `npm run simulate`. */
import { type BalancerName, balancers, isBalancerName } from "@autellix/core";
import { type PresetName, presets } from "@autellix/engines/cost";
import {
  type Arrivals,
  ENGINES_MAX,
  isSystemName,
  isWorkloadName,
  PROGRAMS_MAX,
  type SystemName,
  systems,
  type WorkloadName,
  workloadNames,
} from "@autellix/simulation";
import { notOne, number, parseFlags, RATE_MAX, UsageError, whole } from "../options.ts";
import { presetOption } from "../preset-option.ts";

const DEFAULT_POLICIES = "fcfs,plas";
const DEFAULT_PRESET: PresetName = "a100-8b";
const DEFAULT_PROGRAMS = 1_000;
const RATE_SCALE_MAX = 1_000;
const SEED_MAX = 2 ** 31;

export const HELP = `npm run simulate -- --trace FILE | --workload NAME [options]: what policies would do to this traffic

  --trace FILE        calls that frontends recorded (npm start -- --trace trace.jsonl); give the files of all frontends
  --open-loop         calls come at their recorded times, whatever became of those before; without it a call comes
                      as long after the calls that it waits for as it did
  --workload NAME     instead: ${workloadNames.join(", ")}
  --programs N        of the workload (default ${DEFAULT_PROGRAMS})
  --rate R            programs per second of the workload (default 1)
  --arrivals KIND     poisson or bursty (default poisson)
  --seed N            of the workload (default 1)
  --rate-scale S      programs arrive S times as fast (default 1); their own pauses stay
  --policy A,B        ${Object.keys(systems).join(", ")} (default ${DEFAULT_POLICIES})
  --balancer NAME     ${Object.keys(balancers).join(", ")} (default: the system's)
  --preset NAME       engines: ${Object.keys(presets).join(", ")}, or a file of npm run calibrate (default ${DEFAULT_PRESET})
  --engines N         (default 1)

Exit code: 0, or 2 when the trace or the command line cannot be read.
`;

export type Traffic =
  | { kind: "trace"; files: readonly string[]; isOpenLoop: boolean }
  | { kind: "workload"; name: WorkloadName; programs: number; ratePerS: number; seed: number; arrivals: Arrivals };

export interface SimulateOptions {
  traffic: Traffic;
  rateScale: number;
  policies: readonly SystemName[];
  balancer: BalancerName | undefined;
  /** As `readPreset` takes it. */
  preset: string;
  engines: number;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseSimulateOptions(args: readonly string[]): SimulateOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const { preset = DEFAULT_PRESET, balancer } = values;
  if (balancer !== undefined && !isBalancerName(balancer)) throw notOne("balancer", balancer, Object.keys(balancers));
  return {
    traffic: trafficOf(values),
    rateScale: number("rate-scale", values["rate-scale"], 1, 1 / RATE_SCALE_MAX, RATE_SCALE_MAX),
    policies: policiesOf(values.policy ?? DEFAULT_POLICIES),
    balancer,
    preset: presetOption(preset),
    engines: whole("engines", values.engines, 1, 1, ENGINES_MAX),
  };
}

type Values = ReturnType<typeof parse>;

function trafficOf(values: Values): Traffic {
  const { trace: files, workload } = values;
  if ((files === undefined) === (workload === undefined)) throw new UsageError("name a --trace or a --workload");
  if (files !== undefined) {
    if (files.includes("")) throw new UsageError("--trace needs a file");
    const extra = (["programs", "rate", "arrivals", "seed"] as const).find((name) => values[name] !== undefined);
    if (extra !== undefined) throw new UsageError(`--${extra} is for --workload`);
    return { kind: "trace", files, isOpenLoop: values["open-loop"] ?? false };
  }
  if (values["open-loop"]) throw new UsageError("--open-loop is for --trace");
  if (workload === undefined || !isWorkloadName(workload)) throw notOne("workload", workload ?? "", workloadNames);
  const { arrivals = "poisson" } = values;
  if (arrivals !== "poisson" && arrivals !== "bursty") throw notOne("arrivals", arrivals, ["poisson", "bursty"]);
  return {
    kind: "workload",
    name: workload,
    programs: whole("programs", values.programs, DEFAULT_PROGRAMS, 1, PROGRAMS_MAX),
    ratePerS: number("rate", values.rate, 1, 1 / RATE_MAX, RATE_MAX),
    seed: whole("seed", values.seed, 1, 0, SEED_MAX),
    arrivals,
  };
}

/**
 * A policy's name stands for it on the laboratory's engine, a system's for that system.
 *
 * @param list names with commas between them.
 * @throws UsageError
 */
export function policiesOf(list: string): SystemName[] {
  const names = list.split(",").map((text) => {
    const name = text.trim();
    if (!isSystemName(name)) throw notOne("policy", name, Object.keys(systems));
    return name;
  });
  return [...new Set(names)];
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    trace: { type: "string", multiple: true },
    "open-loop": flag,
    workload: text,
    programs: text,
    rate: text,
    arrivals: text,
    seed: text,
    "rate-scale": text,
    policy: text,
    balancer: text,
    preset: text,
    engines: text,
    help: { ...flag, short: "h" },
  } as const;
  return parseFlags(args, options);
}
