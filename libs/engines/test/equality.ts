/**
 * Output equality (issue: engines): calls that are interrupted at random points in every way there is give the text of
 * their uninterrupted runs. Two engines of one host take part, so that calls can move between them.
 */
import type { ChatCall } from "@autellix/protocol";
import type { Engine, EngineCall } from "../src/port.ts";
import { Random } from "../src/tiny-model/random.ts";
import { chat, complete, open } from "./contract/subject.ts";

const WAYS = ["park", "swap", "recompute", "move"] as const;
type Way = (typeof WAYS)[number];
const INTERRUPTIONS_MAX = 5;
/** Calls that run beside each other, on both engines together. */
const TOGETHER = 4;

export interface EqualityOptions {
  engines: readonly [Engine, Engine];
  calls: number;
  seed: number;
  promptWordsMax: number;
  completionTokensMax: number;
  /** Longest time that this may take; calls that did not fit in are not counted. */
  durationMsMax: number;
}

export interface EqualityResult {
  calls: number;
  interruptions: Record<Way, number>;
  /** In the prompt, before any token was generated. */
  inPrefill: number;
  /** Moves whose context was taken over. */
  takenOver: number;
  /** What differed, of calls that were never recomputed: must be empty. */
  differences: string[];
  /** Of calls that were. */
  recomputedDifferences: string[];
}

/** Reproducible choices. */
class Choices {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#random.uniform() * limit);
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}

interface Run {
  chat: ChatCall;
  key: string;
  whole: string;
  /** How often it is stepped before each interruption. */
  interruptions: Map<number, Way>;
  steps: number;
  on: number;
  call: EngineCall;
  text: string;
  ended: boolean;
  recomputed: boolean;
}

export async function equality(options: EqualityOptions): Promise<EqualityResult> {
  const choices = new Choices(options.seed);
  const endMs = performance.now() + options.durationMsMax;
  const result: EqualityResult = {
    calls: 0,
    interruptions: { park: 0, swap: 0, recompute: 0, move: 0 },
    inPrefill: 0,
    takenOver: 0,
    differences: [],
    recomputedDifferences: [],
  };
  while (result.calls < options.calls && performance.now() < endMs) {
    const count = Math.min(TOGETHER, options.calls - result.calls);
    const runs: Run[] = [];
    for (let i = 0; i < count; i++) runs.push(await begin(options, choices, result.calls + i));
    while (runs.some((run) => !run.ended)) await turn(options.engines, runs, result);
    for (const run of runs) await settle(options, run, result);
    result.calls += count;
  }
  return result;
}

async function begin(options: EqualityOptions, choices: Choices, index: number): Promise<Run> {
  const words = Array.from({ length: 1 + choices.below(options.promptWordsMax) }, () =>
    choices.of(["why", "so", "then", "what", "7", "ö", "go"]),
  );
  const call = chat(`${words.join(" ")}?`, {
    completionTokensMax: 2 + choices.below(options.completionTokensMax),
    temperature: choices.of([0, 0, 0.7, 1]),
    topP: choices.of([1, 0.9]),
    seed: choices.below(1_000_000),
    presencePenalty: choices.of([0, 0, 0, 1.5]),
    responseFormat: choices.of([
      { type: "text" },
      { type: "text" },
      { type: "text" },
      { type: "json_object" },
    ] as const),
  });
  const [first] = options.engines;
  const whole = await complete(first, call);
  const key = `equality/${options.seed}-${index}`;
  const on = choices.below(2);
  const run = {
    chat: call,
    key,
    whole: whole.text,
    interruptions: new Map<number, Way>(),
    steps: 0,
    on,
    text: "",
    ended: false,
    recomputed: false,
  };
  const opened = await open(options.engines[on] as Engine, call, [], { key });
  const sliceTokens = (first as { sliceTokens?: number }).sliceTokens ?? 16;
  const steps = Math.ceil(opened.promptTokens / sliceTokens) + whole.tokens;
  for (let i = 1 + choices.below(INTERRUPTIONS_MAX); i > 0; i--)
    run.interruptions.set(choices.below(steps), choices.of(WAYS));
  return { ...run, call: opened };
}

/** One step of each engine, interruptions before it. */
async function turn(engines: readonly Engine[], runs: readonly Run[], result: EqualityResult): Promise<void> {
  for (const run of runs) {
    const way = run.ended ? undefined : run.interruptions.get(run.steps);
    if (way === undefined) continue;
    run.interruptions.delete(run.steps);
    result.interruptions[way]++;
    if (run.call.completionTokens === 0) result.inPrefill++;
    await interrupt(engines, run, way, result);
  }
  for (const [on, engine] of engines.entries()) {
    const batch = runs.filter((run) => !run.ended && run.on === on);
    if (batch.length === 0) continue;
    const { calls } = await engine.step(batch.map((run) => run.call));
    for (const [i, run] of batch.entries()) {
      const step = calls[i];
      if (step === undefined || step.error !== undefined) throw step?.error ?? new Error("no result");
      run.steps++;
      run.text += step.text;
      run.ended = step.finish !== undefined;
    }
  }
}

async function interrupt(engines: readonly Engine[], run: Run, way: Way, result: EqualityResult): Promise<void> {
  const engine = engines[run.on] as Engine;
  const { call } = run;
  if (way === "park") return engine.park(call);
  if (way === "recompute") {
    run.recomputed = true;
    return engine.evict(call);
  }
  if (way === "swap") {
    const moved = call.contextTokens;
    const [out, back] = [await engine.swapOut(call), await engine.swapIn(call)];
    if (out?.tokens !== back?.tokens || (out?.tokens ?? 0) !== moved)
      throw new Error(`swapped ${out?.tokens} of ${moved} tokens`);
    return;
  }
  await engine.leave(call);
  run.on = 1 - run.on;
  const next = engines[run.on] as Engine;
  run.call = await open(next, run.chat, call.ids, { key: run.key });
  if (run.call.forcedText !== run.text)
    throw new Error(`${run.key}: the client saw ${run.text}, not ${run.call.forcedText}`);
  if ((await next.swapIn(run.call)) !== undefined) result.takenOver++;
}

async function settle(options: EqualityOptions, run: Run, result: EqualityResult): Promise<void> {
  await (options.engines[run.on] as Engine).close(run.call);
  if (run.text === run.whole) return;
  const text = `${run.key} (temperature ${run.chat.temperature}): ${JSON.stringify(run.text)} is not ${JSON.stringify(run.whole)}`;
  (run.recomputed ? result.recomputedDifferences : result.differences).push(text);
}
