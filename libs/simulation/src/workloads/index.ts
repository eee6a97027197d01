/**
 * Workloads: the paper's (§6.1) and those where it is weak, as programs that the simulator plays. What a program is
 * depends on (workload, seed, index) alone; when it arrives, on (seed, index) and the rate, which only stretches
 * time. So two runs at different rates, or under different policies, differ in nothing else.
 */
import { changed, type Frozen, type FrozenChanges } from "../frozen.ts";
import type { ProgramSpec } from "../program.ts";
import { Random } from "../random.ts";
import { agentx } from "./agentx.ts";
import { bfcl, equal, oneCall, sharegpt, swe } from "./chains.ts";
import type { Maker } from "./content.ts";
import { deepResearch } from "./deep-research.ts";
import { lats } from "./lats.ts";
import { type WorkloadName, workloadNames } from "./names.ts";

export { isWorkloadName, type WorkloadName, workloadNames } from "./names.ts";

export type Arrivals = "poisson" | "bursty";

export interface WorkloadOptions {
  /** How many programs. */
  programs: number;
  ratePerS: number;
  /** A whole number ≥ 0. */
  seed: number;
  /** Default `poisson`. */
  arrivals?: Arrivals;
  /** Of the frozen configuration: for sensitivity runs. */
  changes?: FrozenChanges;
}

export interface TraceOptions extends Omit<WorkloadOptions, "programs"> {
  /** Arrivals end here; all programs that have arrived by then are run to their end. */
  intervalMs: number;
}

/** More programs than this are a mistake, not a workload. */
export const PROGRAMS_MAX = 2_000_000;

const makers: Record<Exclude<WorkloadName, "mixed">, Maker> = {
  sharegpt,
  bfcl,
  lats,
  swe,
  "deep-research": deepResearch,
  agentx,
  "one-call": oneCall,
  equal,
};

const mixedOf = [
  ["sharegpt", sharegpt],
  ["bfcl", bfcl],
  ["lats", lats],
] as const;

/** Program number `index` of a workload. Each program of a mix is the one that its own workload has at that index. */
export function programAt(
  name: WorkloadName,
  index: number,
  arrivesAtMs: number,
  { seed, changes }: Pick<WorkloadOptions, "seed" | "changes">,
): ProgramSpec {
  return makeProgram(name, index, arrivesAtMs, Random.from(seed), changed(changes));
}

function makeProgram(name: WorkloadName, index: number, arrivesAtMs: number, root: Random, frozen: Frozen) {
  const [kind, make] = name === "mixed" ? root.split("mix", index).pick(mixedOf) : [name, makers[name]];
  return { id: `${kind}-${index}`, arrivesAtMs, ...make(root.split("program", kind, index), frozen) };
}

/** Programs 0, 1, … for ever; arrivals are the sum of gaps, each from (seed, index). */
function* programsOf(name: WorkloadName, options: Omit<WorkloadOptions, "programs">): Generator<ProgramSpec> {
  const { seed, ratePerS, arrivals = "poisson", changes } = options;
  const frozen = changed(changes);
  if (!(ratePerS > 0 && ratePerS < Number.POSITIVE_INFINITY))
    throw new RangeError(`a rate is a number above 0, not ${ratePerS}`);
  const root = Random.from(seed);
  let gaps = 0;
  for (let index = 0; index < PROGRAMS_MAX; index++) {
    const random = root.split("arrival", index);
    gaps += arrivals === "bursty" ? random.hyperexponential(1, frozen.burstyVariation) : random.exponential(1);
    yield makeProgram(name, index, (gaps * 1_000) / ratePerS, root, frozen);
  }
}

function generate(name: WorkloadName, options: WorkloadOptions): ProgramSpec[] {
  const { programs } = options;
  if (!Number.isInteger(programs) || programs < 1 || programs > PROGRAMS_MAX)
    throw new RangeError(`a workload has 1 to ${PROGRAMS_MAX} programs, not ${programs}`);
  const specs: ProgramSpec[] = [];
  for (const program of programsOf(name, options)) if (specs.push(program) === programs) break;
  return specs;
}

export type Workload = (options: WorkloadOptions) => ProgramSpec[];

/** Generators by name: a number of programs by arrival. @throws RangeError for options out of range. */
export const workloads = Object.fromEntries(
  workloadNames.map((name) => [name, (options: WorkloadOptions) => generate(name, options)]),
) as Record<WorkloadName, Workload>;

/** The paper's protocol: every program that arrives within an interval. @throws RangeError for options out of range. */
export function finiteTrace(name: WorkloadName, options: TraceOptions): ProgramSpec[] {
  if (!(options.intervalMs > 0)) throw new RangeError(`an interval is above 0 ms, not ${options.intervalMs}`);
  const specs: ProgramSpec[] = [];
  for (const program of programsOf(name, options)) {
    if (program.arrivesAtMs >= options.intervalMs) return specs;
    specs.push(program);
  }
  throw new RangeError(`more than ${PROGRAMS_MAX} programs arrive within the interval`);
}
