/** What the simulator says to a recorded live run: the same calls, engine and rules, with a preset's costs. */
import type { EngineCost, EnginePreset } from "@autellix/engines/cost";
import {
  programsOfTrace,
  recordedConfig,
  recordedPreset,
  recordedSystem,
  type System,
  simulate,
  systems,
} from "@autellix/simulation";
import { median } from "../stats.ts";
import type { Recording } from "./arm.ts";

/** Medians of the simulations at `PACES`. */
export interface Prediction extends Played {
  /** The least and the most that one of them says. */
  busyRangeMs: [from: number, to: number];
}

interface Played {
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
 * Speeds of the engine, over the calibrated one, no further apart than two calibrations. Where memory is short one
 * simulation says little: a call that ends a moment later finds its context gone, computes it again, and pushes out the
 * next one. With costs 1 % higher, busy time is 4 % higher or lower then.
 */
const PACES = [0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 1, 1.005, 1.01, 1.015, 1.02, 1.025, 1.03];

/** @param counts which programs the mean is over, by their place in the order of arrival. */
export function predict(recording: Recording, preset: EnginePreset, counts: (program: number) => boolean): Prediction {
  const played = PACES.map((pace) => play(recording, atPace(preset, pace), counts));
  const busyMs = played.map((one) => one.busyMs);
  const middle = (read: (one: Played) => number) => median(played.map(read));
  return {
    busyMs: median(busyMs),
    swapMs: middle((one) => one.swapMs),
    programMs: middle((one) => one.programMs),
    swaps: middle((one) => one.swaps),
    cachedTokens: middle((one) => one.cachedTokens),
    prefilledTokens: middle((one) => one.prefilledTokens),
    busyRangeMs: [Math.min(...busyMs), Math.max(...busyMs)],
  };
}

/** All that a step costs, times so much. */
function atPace(preset: EnginePreset, pace: number): EnginePreset {
  const costs = Object.entries(preset.cost).map(([name, ms]) => [name, ms * pace]);
  return { ...preset, cost: Object.fromEntries(costs) as EngineCost };
}

/**
 * Programs arrive as they did; their calls come as long after the calls before them as they did.
 */
function play(
  { trace, config, capacity }: Recording,
  preset: EnginePreset,
  counts: (program: number) => boolean,
): Played {
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
