/**
 * The programs of `npm run bench:live`: short ones, and long conversations whose contexts do not all fit, mixed so that
 * the long ones are few and most of the work. As many as make the load that was asked for.
 */
import { attendedBy, decodeStepsCost, type EnginePreset } from "@autellix/engines/cost";
import { type ProgramSpec as SimulatedProgram, simulate, systems } from "@autellix/simulation";
import { createRandom, type Random } from "../random.ts";
import type { CallSpec, ProgramSpec } from "../workload.ts";

export interface LiveLoad {
  /** Work over time, of an engine that finds every history in its memory. */
  load: number;
  /** In which the programs arrive. */
  seconds: number;
  seed: number;
}

export interface LiveWorkload {
  programs: ProgramSpec[];
  /** Of an engine that finds every history. */
  workMs: number;
}

/** For a small model on a CPU; a fast engine gets larger programs, not thousands of them. */
const SHORT = { callsMax: 2, promptTokens: 30, completionTokens: 16, gapMs: 200 };
const LONG = { calls: 4, firstPromptTokens: 200, promptTokens: 60, completionTokens: 60, gapMs: 500 };
/** Of the work; about four of five programs are short then. */
const LONG_SHARE = 0.75;
/** Above it programs are made larger, while their contexts fit: the engine is measured, not the path to it. */
const PROGRAMS_PER_S_MAX = 4;
/** Of the context that the engine holds: prompts come out longer than estimated, and the template adds to them. */
const CONTEXT_SHARE = 0.7;

export function liveWorkload(load: LiveLoad, preset: EnginePreset): LiveWorkload {
  const longestTokens =
    LONG.firstPromptTokens + (LONG.calls - 1) * LONG.promptTokens + LONG.calls * LONG.completionTokens;
  const scaleMax = (CONTEXT_SHARE * preset.contextTokensMax) / longestTokens;
  for (let scale = Math.min(1, scaleMax); ; scale *= 2) {
    const made = scaledWorkload(load, preset, scale);
    if (made.programs.length <= PROGRAMS_PER_S_MAX * load.seconds || 2 * scale > scaleMax) return made;
  }
}

function scaledWorkload({ load, seconds, seed }: LiveLoad, preset: EnginePreset, scale: number): LiveWorkload {
  const random = createRandom(seed);
  const workMs = load * seconds * 1_000;
  const programs: ProgramSpec[] = [];
  const fill = (kind: string, untilMs: number, make: () => CallSpec[]) => {
    let madeMs = 0;
    while (madeMs < untilMs) {
      const calls = make().map((call) => ({
        ...call,
        promptTokens: Math.ceil(call.promptTokens * scale),
        completionTokens: Math.ceil(call.completionTokens * scale),
      }));
      madeMs += workOf(calls, preset);
      programs.push({ kind, arrivalMs: random.next() * seconds * 1_000, calls });
    }
    return madeMs;
  };
  const madeMs =
    fill("long", LONG_SHARE * workMs, () => long(random)) +
    fill("short", (1 - LONG_SHARE) * workMs, () => short(random));
  programs.sort((a, b) => a.arrivalMs - b.arrivalMs);
  return { programs, workMs: madeMs };
}

function short(random: Random): CallSpec[] {
  const calls = random.int(1, SHORT.callsMax);
  return chain(calls, () => ({ ...SHORT, gapMs: random.exponential(SHORT.gapMs) }));
}

function long(random: Random): CallSpec[] {
  return chain(LONG.calls, (index) => ({
    promptTokens: index === 0 ? LONG.firstPromptTokens : LONG.promptTokens,
    completionTokens: LONG.completionTokens,
    gapMs: random.exponential(LONG.gapMs),
  }));
}

function chain(
  calls: number,
  make: (index: number) => Pick<CallSpec, "promptTokens" | "completionTokens" | "gapMs">,
): CallSpec[] {
  return Array.from({ length: calls }, (_, index) => {
    const { promptTokens, completionTokens, gapMs } = make(index);
    const parents = index === 0 ? [] : [index - 1];
    return { promptTokens, completionTokens, gapMs: index === 0 ? 0 : gapMs, thread: "main", parents };
  });
}

/** A chain's share of the time of an engine whose batch is full, its history found each time. ms */
export function workOf(calls: readonly CallSpec[], { cost, sliceTokens, batchCallsMax }: EnginePreset): number {
  const shared = { ...cost, stepMs: cost.stepMs / batchCallsMax };
  let contextTokens = 0;
  let workMs = 0;
  for (const { promptTokens, completionTokens } of calls) {
    workMs +=
      Math.ceil(promptTokens / sliceTokens) * (cost.stepMs + (cost.prefillMs ?? 0)) +
      promptTokens * cost.prefillTokenMs +
      attendedBy(promptTokens, contextTokens) * (cost.attendedTokenMs ?? 0);
    contextTokens += promptTokens;
    workMs += decodeStepsCost(shared, { decodeTokens: 1, contextTokens }, Math.max(0, completionTokens - 1));
    contextTokens += completionTokens;
  }
  return workMs;
}

/**
 * Programs that are under way at once, at most, first come first served on an engine whose memory has no end: a third
 * of that many contexts is what the live engine gets.
 */
export function programsAtOnce(programs: readonly ProgramSpec[], preset: EnginePreset): number {
  const played = simulate({
    programs: programs.map(simulated),
    engines: 1,
    preset: { ...preset, residentCallsMax: MEMORY_CALLS, kvTokens: MEMORY_CALLS * preset.contextTokensMax },
    system: { ...systems.fcfs, chunkTokens: preset.sliceTokens },
    plansOn: "arrival",
  });
  const changes = played.programs
    .flatMap(({ arrivedAtMs, endedAtMs }) => [
      { atMs: arrivedAtMs, by: 1 },
      { atMs: endedAtMs ?? Number.POSITIVE_INFINITY, by: -1 },
    ])
    .sort((a, b) => a.atMs - b.atMs || a.by - b.by);
  let [now, most] = [0, 0];
  for (const { by } of changes) {
    now += by;
    most = Math.max(most, now);
  }
  return most;
}

const MEMORY_CALLS = 4_096;

function simulated({ arrivalMs, kind, calls }: ProgramSpec, index: number): SimulatedProgram {
  return {
    id: `p${index}`,
    workload: kind,
    arrivesAtMs: arrivalMs,
    sharedPrompt: "",
    sharedPromptTokens: 0,
    calls: calls.map(({ promptTokens, completionTokens, gapMs, thread, parents }) => ({
      parents,
      gapMs,
      thread,
      extends: parents[0],
      newPromptTokens: promptTokens,
      decodeTokens: completionTokens,
    })),
  };
}
