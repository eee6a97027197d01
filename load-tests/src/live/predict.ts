/** What the simulator says to a recorded live run: the same calls, engine and rules, with a preset's costs. */
import type { EnginePreset } from "@autellix/engines/cost";
import {
  programsOfTrace,
  recordedConfig,
  recordedPreset,
  recordedSystem,
  type System,
  simulate,
  systems,
} from "@autellix/simulation";
import type { Recording } from "./arm.ts";

export interface Prediction {
  /** Steps and swaps. */
  busyMs: number;
  swapMs: number;
  /** Mean over programs, arrival to end, interrupts included. */
  programMs: number;
  swaps: number;
  cachedTokens: number;
  prefilledTokens: number;
}

/**
 * Programs arrive as they did; their calls come as long after the calls before them as they did.
 *
 * @param counts which programs the mean is over, by their place in the order of arrival.
 */
export function predict(
  { trace, config, capacity }: Recording,
  preset: EnginePreset,
  counts: (program: number) => boolean,
): Prediction {
  const { programs } = programsOfTrace(trace, "closed");
  const recorded = recordedConfig(config);
  const system: System = {
    ...systems.plas,
    ...recorded,
    name: config.policy,
    // A live step computes one slice.
    chunkTokens: preset.sliceTokens,
    cache: "none",
    hostCache: false,
    swapPer: "call",
  };
  const played = simulate({
    programs,
    engines: 1,
    preset: recordedPreset(capacity, preset),
    system: recordedSystem(capacity, system),
    plansOn: "arrival",
  });
  const [{ busyMs = 0, swapMs = 0, swapOuts = 0, swapIns = 0, cachedTokens = 0, prefilledTokens = 0 } = {}] =
    played.engine;
  const times = played.programs.flatMap(({ index, arrivedAtMs, endedAtMs }) =>
    endedAtMs === undefined || !counts(index) ? [] : [endedAtMs - arrivedAtMs],
  );
  const programMs = times.reduce((sum, ms) => sum + ms, 0) / times.length;
  return { busyMs, swapMs, programMs, swaps: swapOuts + swapIns, cachedTokens, prefilledTokens };
}
