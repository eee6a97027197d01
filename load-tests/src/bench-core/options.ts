/** The command line of `npm run bench:core`. */
import type { PolicyName } from "@autellix/core";
import { number, parseFlags, UsageError, whole } from "../options.ts";
import { SCHEDULER_SEMI_SPACE_MB } from "./isolated.ts";
import { type CoreLoad, defaultLoad, policyName, QUEUED_CALLS_MAX } from "./load.ts";
import type { MemoryLoad } from "./memory.ts";

const POLICIES = ["plas", "fcfs", "atlas"];
const QUEUED = [100_000, 1_000_000];
/** `--quick`: that everything runs; its figures are of no use at other depths. */
const QUICK_POLICIES = ["plas", "fcfs"];
const QUICK_QUEUED = [10_000, 30_000];
const QUICK_SECONDS = 0.5;

export const HELP = `npm run bench:core -- [options]: what the scheduler's core does in a second, with an ideal agent.

  --policy A,B          (default ${POLICIES.join(",")}); the extra loads and the memory are of the first one
  --queued N,M          calls queued at all times (default ${QUEUED.join(",")}; up to ${QUEUED_CALLS_MAX})
  --seconds S           of each measurement, after the queue has turned over once (default 8)
  --windows F           windows that a call takes, mean of a geometric draw (default ${defaultLoad.windowsPerCall})
  --calls N             calls of a program, one after the other (default ${defaultLoad.callsPerProgram})
  --batch N             (default ${defaultLoad.batchCallsMax})
  --held N              calls that the agent holds, running or parked; a report names all (default ${defaultLoad.heldCallsMax})
  --named-only          programs only have names: none is started or ended
  --turnover S          virtual time in which the engine serves the whole queue (default ${defaultLoad.turnoverMs / 1_000})
  --plain               without the extra loads: 8 moments of arrival per window, retained contexts
  --semi-space MB       young generation of V8 per half (default ${SCHEDULER_SEMI_SPACE_MB}, as npm start sets it)
  --seed N              (default ${defaultLoad.seed})
  --quick               two policies, small depths, ${QUICK_SECONDS} s each: shows that it runs
  --profile FOLDER      a CPU profile of each measured process
  --out FOLDER          (default load-tests/results; with --quick nothing is written)
`;

export interface CoreOptions {
  speeds: CoreLoad[];
  memories: MemoryLoad[];
  measureMs: number;
  semiSpaceMb: number;
  profileFolder: string | undefined;
  quick: boolean;
  out: string | undefined;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseCoreOptions(args: readonly string[]): CoreOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const quick = values.quick ?? false;
  const policies = list(values.policy, quick ? QUICK_POLICIES : POLICIES).map(checkedPolicy);
  const [first] = policies;
  if (first === undefined) throw new UsageError("--policy names none");
  const depths = list(values.queued, (quick ? QUICK_QUEUED : QUEUED).map(String));
  if (depths.length === 0) throw new UsageError("--queued names none");
  const queued = depths.map((text) => whole("queued", text, 0, 1_000, QUEUED_CALLS_MAX));
  const batchCallsMax = whole("batch", values.batch, defaultLoad.batchCallsMax, 1, 4_096);
  const held = Math.max(batchCallsMax, defaultLoad.heldCallsMax);
  const base: CoreLoad = {
    ...defaultLoad,
    batchCallsMax,
    callsPerProgram: whole("calls", values.calls, defaultLoad.callsPerProgram, 1, 1_000),
    heldCallsMax: whole("held", values.held, held, batchCallsMax, 100_000),
    startsPrograms: !values["named-only"],
    windowsPerCall: number("windows", values.windows, defaultLoad.windowsPerCall, 1, 1_000),
    turnoverMs: 1_000 * number("turnover", values.turnover, defaultLoad.turnoverMs / 1_000, 1, 500),
    seed: whole("seed", values.seed, defaultLoad.seed, 0, 2 ** 31),
  };
  const least = Math.min(...queued);
  const extra: CoreLoad[] = [
    { ...base, policy: first, queuedCalls: least, arrivalMoments: base.windowSteps },
    { ...base, policy: first, queuedCalls: least, retains: true },
  ];
  const plain = policies.flatMap((policy) => queued.map((queuedCalls) => ({ ...base, policy, queuedCalls })));
  return {
    speeds: values.plain ? plain : [...plain, ...extra],
    memories: memoriesOf(first, base.callsPerProgram, quick ? [least] : queued),
    measureMs: 1_000 * number("seconds", values.seconds, quick ? QUICK_SECONDS : 8, 0.1, 600),
    semiSpaceMb: whole("semi-space", values["semi-space"], SCHEDULER_SEMI_SPACE_MB, 1, 1_024),
    profileFolder: values.profile,
    quick,
    out: values.out,
  };
}

function memoriesOf(policy: PolicyName, callsPerProgram: number, queued: readonly number[]): MemoryLoad[] {
  const shapes = ["threads", "named", "alone"] as const;
  return queued.flatMap((queuedCalls) => shapes.map((shape) => ({ policy, shape, queuedCalls, callsPerProgram })));
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    policy: text,
    queued: text,
    seconds: text,
    windows: text,
    calls: text,
    batch: text,
    held: text,
    "named-only": flag,
    turnover: text,
    plain: flag,
    "semi-space": text,
    seed: text,
    quick: flag,
    profile: text,
    out: text,
    help: { ...flag, short: "h" },
  } as const;
  return parseFlags(args, options);
}

function list(text: string | undefined, fallback: readonly string[]): readonly string[] {
  return text === undefined ? fallback : text.split(",").filter((word) => word !== "");
}

function checkedPolicy(text: string): PolicyName {
  try {
    return policyName(text);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
