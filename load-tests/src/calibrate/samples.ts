/**
 * Measures an engine through its port, as an agent drives it: steps over batch size, prompt tokens and context length;
 * transfers to the host tier and back over context length.
 *
 * Contexts grow together from level to level. Where the engine retains ended calls' contexts, a longer prompt goes on
 * from the shorter one, so that all levels together cost no more than the longest.
 */
import type { Engine, EngineCall, StepCall, Swap } from "@autellix/engines";
import { attendedBy } from "@autellix/engines/cost";
import { createRandom, type Random } from "../random.ts";
import { median } from "../stats.ts";
import { chatOf } from "./chat.ts";
import { sampleServer } from "./server-samples.ts";

/** One point: the middle of some steps alike; of a server, all passes of some calls from their beginning to their end. */
export interface StepPoint {
  kind: "decode" | "prefill" | "mixed";
  /** Passes of the model: more than 1 where the engine is a server, which goes on by itself. */
  passes: number;
  prefillTokens: number;
  decodeTokens: number;
  /** Sum of the contexts of the sequences that generate. */
  contextTokens: number;
  /** Prompt tokens times the context that each of them is computed upon: what attention reads. */
  attendedTokens: number;
  durationMs: number;
}

export interface SwapPoint extends Swap {
  direction: "out" | "in";
}

export interface Samples {
  steps: StepPoint[];
  swaps: SwapPoint[];
}

export interface SampleOptions {
  /** Batch sizes at which generation is measured, ascending. */
  batches: readonly number[];
  /** Context lengths, ascending. */
  levels: readonly number[];
  /** Steps and transfers of one point. */
  repeats: number;
  onProgress?: (line: string) => void;
  signal?: AbortSignal;
}

/** A call generates beside so many prompts of others. */
const NEIGHBOURS_MAX = 2;
/**
 * Contexts on the engine beside a whole batch, over the batch. In operation a batch is any of the contexts that the engine holds, and
 * llama.cpp takes those that do not lie beside each other one after the other (decision 0035).
 */
const OTHERS_SHARE = 1 / 2;
/** Of contexts, for each size of a batch. */
const SETS = 2;
/** Tokens of the prompt that shows how the engine counts. */
const PROBE_TOKENS = 200;
const CHARS_PER_TOKEN = 4.5;

/** @throws when the engine fails, or `signal` is aborted. */
export async function sample(engine: Engine, options: SampleOptions): Promise<Samples> {
  // A server goes on by itself, and its steps are slices of time.
  if (engine.info.forwards) return await sampleServer(engine, options, await charsPerTokenOf(engine));
  const sampler = new Sampler(engine, options, await charsPerTokenOf(engine));
  try {
    for (const level of options.levels) await sampler.measure(level);
  } finally {
    await sampler.close();
  }
  return sampler.samples;
}

class Sampler {
  readonly samples: Samples = { steps: [], swaps: [] };
  readonly #engine: Engine;
  readonly #options: SampleOptions;
  readonly #charsPerToken: number;
  /** Tokens that a call generates at one level: beside others' prompts, then at each batch size. */
  readonly #answerTokens: number;
  #calls: EngineCall[] = [];

  constructor(engine: Engine, options: SampleOptions, charsPerToken: number) {
    this.#engine = engine;
    this.#options = options;
    this.#charsPerToken = charsPerToken;
    this.#answerTokens = 1 + options.repeats * (NEIGHBOURS_MAX + SETS * options.batches.length);
  }

  async measure(level: number): Promise<void> {
    const { batches, onProgress } = this.#options;
    onProgress?.(`contexts of ${level} tokens: prompts`);
    const calls = await this.#grow(level);
    for (const [at, call] of calls.entries()) {
      // Every other prompt begins beside calls that generate.
      await this.#prefill(call, at % 2 === 0 ? [] : calls.slice(Math.max(0, at - NEIGHBOURS_MAX), at));
    }
    onProgress?.(`contexts of ${level} tokens: generation`);
    const random = createRandom(level);
    for (const batch of batches)
      for (let set = 0; set < SETS && batch <= calls.length; set++)
        await this.#point(someOf(calls, batch, random), () => false);
    onProgress?.(`contexts of ${level} tokens: transfers`);
    await this.#swap(calls[0]);
  }

  async close(): Promise<void> {
    for (const call of this.#calls) await this.#engine.close(call);
    this.#calls = [];
  }

  /** Opens the level's calls; each goes on from its shorter one where the engine can. */
  async #grow(level: number): Promise<EngineCall[]> {
    const { kvBlocks, blockTokens, residentCallsMax } = this.#engine.info;
    const room = Math.floor((kvBlocks * blockTokens) / (level + this.#answerTokens + blockTokens));
    const wanted = Math.ceil((this.#options.batches.at(-1) ?? 1) * (1 + OTHERS_SHARE));
    const count = Math.max(1, Math.min(wanted, residentCallsMax, room));
    const before = this.#calls;
    this.#calls = [];
    for (const unused of before.splice(count)) await this.#engine.close(unused);
    for (let index = 0; index < count; index++) {
      const completionTokens = this.#answerTokens;
      const chat = chatOf({ index, promptTokens: level, completionTokens, charsPerToken: this.#charsPerToken });
      const continues = before[index];
      const retained = continues !== undefined && (await this.#engine.retain(continues));
      const open = { key: `calibrate/${level}-${index}`, forcedIds: [], ...chat };
      this.#calls.push(await this.#engine.open(retained ? { ...open, continues } : open));
    }
    return this.#calls;
  }

  /** Computes a call's prompt; its first point beside calls that have theirs. */
  async #prefill(call: EngineCall, others: readonly EngineCall[]): Promise<void> {
    const batch = others.slice(0, this.#engine.info.batchCallsMax - 1);
    const hasPrompt = () => call.completionTokens > 0;
    for (let point = 0; !hasPrompt(); point++) await this.#point(point === 0 ? [call, ...batch] : [call], hasPrompt);
  }

  async #point(batch: readonly EngineCall[], ended: () => boolean): Promise<void> {
    const points: StepPoint[] = [];
    for (let step = 0; step < this.#options.repeats && !ended(); step++) {
      this.#options.signal?.throwIfAborted();
      const contexts = new Map(batch.map((call) => [call, call.contextTokens]));
      const { calls, durationMs } = await this.#engine.step(batch);
      for (const { error } of calls) if (error !== undefined) throw error;
      const point = pointOf(calls, contexts, durationMs);
      if (point !== undefined) points.push(point);
    }
    // Slices at the end of a prompt are shorter: a point is of steps alike.
    for (const alike of Map.groupBy(points, (point) => `${point.prefillTokens} ${point.decodeTokens}`).values())
      this.samples.steps.push(middle(alike));
  }

  async #swap(call: EngineCall | undefined): Promise<void> {
    if (call === undefined || (this.#engine.info.hostBlocks ?? 0) === 0) return;
    for (let repeat = 0; repeat < this.#options.repeats; repeat++) {
      const out = await this.#engine.swapOut(call);
      if (out === undefined) return;
      this.samples.swaps.push({ direction: "out", ...out });
      const back = await this.#engine.swapIn(call);
      if (back === undefined) throw new Error("a context that was swapped out did not come back");
      this.samples.swaps.push({ direction: "in", ...back });
    }
  }
}

function someOf(calls: readonly EngineCall[], count: number, random: Random): EngineCall[] {
  const left = [...calls];
  return Array.from({ length: count }, () => left.splice(random.int(0, left.length - 1), 1)).flat();
}

/** Of the engine's tokenizer, for prompts that are made up. */
export async function charsPerTokenOf(engine: Engine): Promise<number> {
  // It must fit also when a token is a byte.
  const promptTokens = Math.min(PROBE_TOKENS, Math.floor(engine.info.contextTokensMax / CHARS_PER_TOKEN / 2));
  const size = { index: 0, promptTokens, completionTokens: 1, charsPerToken: CHARS_PER_TOKEN };
  const probe = chatOf(size);
  const call = await engine.open({ key: "calibrate/probe", forcedIds: [], ...probe });
  const counted = call.promptTokens;
  await engine.close(call);
  const chars = probe.chat.messages.reduce((sum, { content }) => sum + content.length, 0);
  // A server that does not say how long a prompt is before it has read it.
  return counted === 0 ? CHARS_PER_TOKEN : chars / counted;
}

/** @returns undefined for a step that did nothing: its calls had ended. */
function pointOf(
  calls: readonly StepCall[],
  contexts: ReadonlyMap<EngineCall, number>,
  durationMs: number,
): StepPoint | undefined {
  const point: StepPoint = {
    kind: "decode",
    passes: 1,
    prefillTokens: 0,
    decodeTokens: 0,
    contextTokens: 0,
    attendedTokens: 0,
    durationMs,
  };
  for (const { call, prefilledTokens, tokens } of calls) {
    const context = contexts.get(call) ?? 0;
    if (prefilledTokens > 0) {
      point.prefillTokens += prefilledTokens;
      point.attendedTokens += attendedBy(prefilledTokens, context);
    } else if (tokens > 0) {
      point.decodeTokens += tokens;
      point.contextTokens += context;
    }
  }
  if (point.prefillTokens === 0 && point.decodeTokens === 0) return undefined;
  if (point.prefillTokens > 0) point.kind = point.decodeTokens > 0 ? "mixed" : "prefill";
  return point;
}

/** Sizes are means, which the linear model allows; the time is the median, which others' noise does not move. */
function middle(points: readonly StepPoint[]): StepPoint {
  const mean = (read: (point: StepPoint) => number) => points.reduce((sum, one) => sum + read(one), 0) / points.length;
  return {
    kind: points[0]?.kind ?? "decode",
    passes: 1,
    prefillTokens: mean((one) => one.prefillTokens),
    decodeTokens: mean((one) => one.decodeTokens),
    contextTokens: mean((one) => one.contextTokens),
    attendedTokens: mean((one) => one.attendedTokens),
    durationMs: median(points.map(({ durationMs }) => durationMs)),
  };
}
