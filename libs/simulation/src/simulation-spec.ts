/** What a simulation plays. */
import type { Input, Scheduler } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import type { ProgramSpec } from "./program.ts";
import type { System } from "./systems.ts";

export interface SimulationSpec {
  /** In the order of `arrivesAtMs`. */
  programs: readonly ProgramSpec[];
  engines: number;
  preset: EnginePreset;
  system: System;
  /**
   * `window` (Algorithm 1, the default): an engine is planned when its window of N steps is over, or when it is idle.
   * `arrival` (the live system): as soon as something changes, and the plan counts from the next step on.
   */
  plansOn?: "window" | "arrival";
  /** The run is stopped at this time. */
  untilMs?: number;
  /** The run is stopped when all of these programs have ended: [from, to) by index. */
  untilEnded?: { from: number; to: number };
  /** Report each call, too. */
  keepCalls?: boolean;
  /** Hears each input before the core does, to look at what was true until then. It may read the core, never feed it. */
  beforeInput?: (input: Input, core: Scheduler) => void;
}

export const ENGINES_MAX = 4_096;

/** @throws RangeError for what cannot be played. */
export function checkSpec({ programs, engines, untilEnded }: SimulationSpec): void {
  if (!Number.isInteger(engines) || engines < 1 || engines > ENGINES_MAX)
    throw new RangeError(`a simulation has 1 to ${ENGINES_MAX} engines, not ${engines}`);
  let before = 0;
  for (const [index, { arrivesAtMs, calls }] of programs.entries()) {
    if (!(arrivesAtMs >= before)) throw new RangeError(`program ${index} arrives before the one before it`);
    if (calls.length === 0) throw new RangeError(`program ${index} has no calls`);
    before = arrivesAtMs;
  }
  if (untilEnded && !(untilEnded.from >= 0 && untilEnded.from < untilEnded.to && untilEnded.to <= programs.length))
    throw new RangeError(`programs ${untilEnded.from} to ${untilEnded.to} are not among ${programs.length}`);
}
