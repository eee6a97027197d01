/** What other policies would do to the traffic of an input log. */
import { type BalancerName, balancers, type EngineCapacity, type Input, isBalancerName } from "@autellix/core";
import { readPreset } from "@autellix/engines/preset-file";
import { InputLogError, readInputLog } from "@autellix/protocol/input-log";
import {
  longestContext,
  type ProgramSpec,
  programsOfTrace,
  RecordedCalls,
  recordedPreset,
  recordedSystem,
  simulate,
  systems,
  traceOf,
} from "@autellix/simulation";
import { UnreadableFile } from "../ending.ts";
import { type Played, simulationText } from "../simulate/table.ts";
import type { ReplayOptions } from "./options.ts";

/** The traffic of a log, ready to be played. */
export interface Recording {
  programs: readonly ProgramSpec[];
  /** At one time, at most. */
  engines: number;
  capacity: EngineCapacity | undefined;
  balancer: BalancerName | undefined;
  /** What was read, and what was left out of it. */
  text: string;
}

/** @throws InputLogError */
export async function readRecording(lines: AsyncIterable<string>, isOpenLoop: boolean): Promise<Recording> {
  const recorded = new RecordedCalls();
  let balancer: string | undefined;
  for await (const item of readInputLog(lines)) {
    if (item.kind === "header") balancer = item.header.config.balancer;
    if (item.kind === "input") hear(recorded, item.input as Input, item.line);
  }
  const { calls, unfinishedCalls } = traceOf(recorded.all());
  const { programs, skippedCalls } = programsOfTrace(calls, isOpenLoop ? "open" : "closed");
  const count = programs.reduce((sum, program) => sum + program.calls.length, 0);
  const left = [
    unfinishedCalls === 0 ? "" : `, without ${unfinishedCalls} that had not ended when the log did`,
    skippedCalls === 0 ? "" : `, without ${skippedCalls} that generated nothing`,
  ];
  return {
    programs,
    engines: Math.max(1, recorded.enginesMax),
    capacity: recorded.capacity,
    balancer: balancer !== undefined && isBalancerName(balancer) ? balancer : undefined,
    text: `${count} calls of ${programs.length} programs${left.join("")}`,
  };
}

/** The fields of an input are the core's business: one that has none of them is known by what it does here. */
function hear(recorded: RecordedCalls, input: Input, line: number): void {
  try {
    recorded.hear(input);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new InputLogError("log_line_invalid", line, `${input.kind} cannot be read: ${reason}`);
  }
}

/** @returns a table with a row for each policy. @throws UnreadableFile for calls that the recorded engine cannot have run. */
export function outcomeText(recording: Recording, options: ReplayOptions): string {
  const { programs, capacity, balancer } = recording;
  const engines = options.engines ?? recording.engines;
  const preset = recordedPreset(capacity, readPreset(options.preset));
  const longest = longestContext(programs);
  if (longest > preset.kvTokens)
    throw new UnreadableFile(
      `context_too_long: a call comes to ${longest} tokens of context, and an engine holds ${preset.kvTokens}`,
    );
  const played = options.policies.map((policy): Played => {
    const known = recordedSystem(capacity, systems[policy]);
    const system = balancer === undefined ? known : { ...known, balancer: balancers[balancer] };
    return { policy, result: simulate({ programs, engines, preset, system }) };
  });
  const engine = `${engines} × ${options.preset} with batches of ${preset.batchCallsMax} calls`;
  const settings = "β, ladder, binding and windows are the laboratory's, not the recording's";
  return `${recording.text}, on ${engine}; ${settings}\n\n${simulationText(programs, played)}`;
}
