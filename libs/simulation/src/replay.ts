/**
 * Replay: the inputs that a scheduler recorded go through the core once more. The same inputs must give the same
 * commands, byte for byte (S6); a log that does not is a defect of the core, or was recorded by another version of it.
 *
 * Inputs are what the core was fed, in that order. What the service decided beside the core (the repetition of a
 * refused marker, say) is not in them.
 */
import {
  balancers,
  type Command,
  type CoreConfig,
  type Input,
  isBalancerName,
  isPolicyName,
  policies,
  Scheduler,
} from "@autellix/core";
import {
  commandDigest,
  type InputLogConfig,
  InputLogError,
  type InputLogHeader,
  readInputLog,
} from "@autellix/protocol/input-log";

/** One recorded input, and what the core makes of it now. */
export interface ReplayedInput {
  /** Of the log, from 1. */
  line: number;
  input: Input;
  commands: readonly Command[];
}

/** The first input whose commands are not the recorded ones. */
export interface Divergence {
  line: number;
  input: Input;
  /** The command's place among those of its input. */
  index: number;
  /** Digest of the recorded command, or `THROWS`; undefined: none was recorded at this place. */
  recorded: string | undefined;
  /** What the core gives now; undefined: nothing more, or it throws. */
  made: Command | undefined;
  /** What it throws now. */
  thrown: string | undefined;
}

export interface Replay {
  header: InputLogHeader;
  /** How many of each kind. */
  inputs: Map<string, number>;
  commands: Map<string, number>;
  /** Time of the first and of the last input; undefined without any. ms on the leader's clock */
  firstAt: number | undefined;
  lastAt: number | undefined;
  /** Absent: the same commands, all of them. */
  divergence?: Divergence;
  /** The last input made the core throw, when it was recorded and now. */
  threw?: string;
  /** Why the recording ended, and the number of a last line that is not whole. Neither: the process was killed. */
  end?: string;
  torn?: number;
}

/** In place of a digest: the core threw at this input, and the recording process ended. */
export const THROWS = "throws";

/** The core as it was configured. @throws InputLogError for a policy or balancer that this version has no record of. */
export function recordedConfig({ policy, balancer, ladder, ...rest }: InputLogConfig): CoreConfig {
  const unknown = (what: string) => new InputLogError("log_version_unknown", 1, `this version has no ${what}`);
  if (!isPolicyName(policy)) throw unknown(`policy ${policy}`);
  if (!isBalancerName(balancer)) throw unknown(`balancer ${balancer}`);
  return { ...rest, ladder, policy: policies[policy], balancer: balancers[balancer] };
}

/**
 * @param lines of an input log, without their ends.
 * @param onInput hears each input whose commands are the recorded ones.
 * @throws InputLogError for a line that is none, and for a log of another version.
 */
export async function replay(
  lines: Iterable<string> | AsyncIterable<string>,
  onInput: (replayed: ReplayedInput) => void = () => {},
): Promise<Replay> {
  let run: { core: Scheduler; result: Replay } | undefined;
  for await (const item of readInputLog(lines)) {
    if (item.kind === "header") {
      const core = new Scheduler(recordedConfig(item.header.config));
      const counts = { inputs: new Map<string, number>(), commands: new Map<string, number>() };
      run = { core, result: { header: item.header, ...counts, firstAt: undefined, lastAt: undefined } };
      continue;
    }
    if (!run) throw new Error("a log begins with its header");
    const { core, result } = run;
    if (item.kind === "end") result.end = item.reason;
    if (item.kind === "torn") result.torn = item.line;
    if (item.kind !== "input") continue;
    const { line, commands: recorded } = item;
    const input = item.input as Input;
    result.firstAt ??= input.at;
    result.lastAt = input.at;
    count(result.inputs, input.kind);
    const { commands, thrown } = applied(core, input);
    for (const { kind } of commands) count(result.commands, kind);
    const divergence = compared(recorded, commands, thrown);
    if (divergence) return { ...result, divergence: { line, input, ...divergence } };
    if (thrown !== undefined) return { ...result, threw: thrown };
    onInput({ line, input, commands });
  }
  if (!run) throw new Error("a log begins with its header");
  return run.result;
}

function applied(core: Scheduler, input: Input): { commands: readonly Command[]; thrown: string | undefined } {
  try {
    return { commands: core.apply(input), thrown: undefined };
  } catch (error) {
    return { commands: [], thrown: error instanceof Error ? error.message : String(error) };
  }
}

/** @returns the first difference; undefined when the core does what was recorded, throwing included. */
function compared(
  recorded: readonly string[] | undefined,
  made: readonly Command[],
  thrown: string | undefined,
): Omit<Divergence, "line" | "input"> | undefined {
  if (recorded === undefined)
    return thrown === undefined ? { index: 0, recorded: THROWS, made: made[0], thrown } : undefined;
  if (thrown !== undefined) return { index: 0, recorded: recorded[0], made: undefined, thrown };
  for (let index = 0; index < Math.max(recorded.length, made.length); index++) {
    const command = made[index];
    if (command === undefined || commandDigest(command) !== recorded[index])
      return { index, recorded: recorded[index], made: command, thrown };
  }
  return undefined;
}

function count(counts: Map<string, number>, kind: string): void {
  counts.set(kind, (counts.get(kind) ?? 0) + 1);
}
