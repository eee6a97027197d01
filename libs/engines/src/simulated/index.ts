/**
 * The simulated engine: a COST MODEL, not a language model. Steps take the time that the modelled hardware would need
 * for weights, prompt tokens and KV reads; prompt tokens are estimated from the text; answers are words drawn from a
 * hash of the prompt. Good for loads and schedules, never for answers. It obeys the contract of the port like a real
 * engine: ids, forced ids, stop sequences, slices, eviction.
 */

import { AutellixError, type ChatCall, type EngineInfo, estimatePromptTokens } from "@autellix/protocol";
import { checkedBatch } from "../checked-batch.ts";
import type { Engine, EngineCall, EngineCounters, OpenCall, StepCall, StepResult } from "../port.ts";
import { AnswerText } from "../text.ts";
import { type EngineClock, realClock } from "./clock.ts";
import { type Preset, type PresetName, presets, stepCost } from "./cost.ts";
import { type Draw, decodeWords, drawOf, END_ID, idAt, isId } from "./words.ts";

export { type EngineClock, realClock } from "./clock.ts";
export { type CostModel, type Preset, type PresetName, presets, stepCost } from "./cost.ts";

export interface SimulatedOptions {
  /** Names under which it is offered; the first is its own. */
  models: string[];
  /** Default `a100-8b`. */
  preset?: PresetName | Preset;
  /** Default: real time. */
  clock?: EngineClock;
  batchCallsMax?: number;
  residentCallsMax?: number;
  heldCallsMax?: number;
  contextTokensMax?: number;
}

const BLOCK_TOKENS = 16;
const HELD_CALLS_MAX = 1024;
/** What a chat template adds to each message. */
const MESSAGE_TOKENS = 4;

export function openSimulatedEngine(options: SimulatedOptions): Engine {
  const preset: Preset = typeof options.preset === "object" ? options.preset : presets[options.preset ?? "a100-8b"];
  const residentCallsMax = options.residentCallsMax ?? preset.residentCallsMax;
  const info: EngineInfo = {
    kind: "simulated",
    models: options.models,
    preemption: "recompute",
    batchCallsMax: options.batchCallsMax ?? preset.batchCallsMax,
    residentCallsMax,
    heldCallsMax: options.heldCallsMax ?? Math.max(HELD_CALLS_MAX, residentCallsMax),
    kvBlocks: Math.floor(preset.kvTokens / BLOCK_TOKENS),
    blockTokens: BLOCK_TOKENS,
    contextTokensMax: options.contextTokensMax ?? preset.contextTokensMax,
  };
  return new SimulatedEngine(info, preset, options.clock ?? realClock());
}

class SimulatedCall implements EngineCall {
  readonly key: string;
  readonly promptTokens: number;
  readonly answer: AnswerText;
  readonly draw: Draw;
  contextTokens = 0;
  resident = false;
  closed = false;

  readonly forcedText: string;

  constructor(key: string, promptTokens: number, answer: AnswerText, draw: Draw, forcedText: string) {
    this.key = key;
    this.forcedText = forcedText;
    this.promptTokens = promptTokens;
    this.answer = answer;
    this.draw = draw;
  }

  get completionTokens(): number {
    return this.answer.ids.length;
  }

  get ids(): readonly number[] {
    return this.answer.ids;
  }

  /** Tokens to evaluate before the next one can be generated. */
  get missingTokens(): number {
    return this.promptTokens + this.completionTokens - this.contextTokens;
  }

  get prefills(): boolean {
    return this.contextTokens < this.promptTokens || this.missingTokens > 1;
  }
}

class SimulatedEngine implements Engine {
  readonly info: EngineInfo;
  readonly #preset: Preset;
  readonly #clock: EngineClock;
  readonly #calls = new Set<SimulatedCall>();
  readonly #counts = { steps: 0, stepCalls: 0, batchMax: 0, busyMs: 0, tokens: 0, prefilledTokens: 0 };
  #running: Promise<void> | undefined;
  #shutdown = false;

  constructor(info: EngineInfo, preset: Preset, clock: EngineClock) {
    this.info = info;
    this.#preset = preset;
    this.#clock = clock;
  }

  async open(open: OpenCall): Promise<EngineCall> {
    if (this.#shutdown) throw new AutellixError("engine_error", "The engine is shut down.");
    const { contextTokensMax } = this.info;
    const { completionTokensMax } = open.chat;
    const promptTokens = promptTokensOf(open.chat);
    const answerTokens = completionTokensMax ?? 1;
    if (promptTokens + answerTokens > contextTokensMax) {
      throw new AutellixError(
        "context_length_exceeded",
        `The prompt has ${promptTokens} tokens and the answer needs ${answerTokens}, but the context holds ${contextTokensMax}.`,
        { param: "messages" },
      );
    }
    const answer = new AnswerText({
      decode: decodeWords,
      isEnd: (id) => id === END_ID,
      stop: open.chat.stop,
      tokensMax: completionTokensMax ?? contextTokensMax - promptTokens,
    });
    const forcedText = answer.replay(open.forcedIds, isId);
    const call = new SimulatedCall(open.key, promptTokens, answer, drawOf(open.chat), forcedText);
    this.#calls.add(call);
    return call;
  }

  async step(batch: readonly EngineCall[]): Promise<StepResult> {
    const calls = this.#checked(batch);
    const live = calls.filter((call) => call.answer.finish === undefined);
    const slice = live.find((call) => call.prefills);
    const decoding = new Set(live.filter((call) => !call.prefills));
    const prefillTokens = Math.min(slice?.missingTokens ?? 0, this.#preset.sliceTokens);
    const contextTokens = [...decoding].reduce((sum, call) => sum + call.contextTokens, 0);
    const decodeTokens = decoding.size;
    const durationMs =
      live.length === 0 ? 0 : stepCost(this.#preset.cost, { prefillTokens, decodeTokens, contextTokens });
    this.#running = this.#clock.sleepMs(durationMs);
    try {
      await this.#running;
    } finally {
      this.#running = undefined;
    }
    const results = calls.map((call) => this.#advance(call, call === slice ? prefillTokens : 0, decoding.has(call)));
    this.#counts.steps++;
    this.#counts.stepCalls += calls.length;
    this.#counts.batchMax = Math.max(this.#counts.batchMax, decoding.size + (slice === undefined ? 0 : 1));
    this.#counts.busyMs += durationMs;
    return { durationMs, calls: results };
  }

  async evict(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    await this.#idle();
    own.contextTokens = 0;
    own.resident = false;
  }

  async close(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    own.closed = true;
    await this.evict(own);
    this.#calls.delete(own);
  }

  counters(): EngineCounters {
    const resident = [...this.#calls].filter((call) => call.resident);
    return {
      ...this.#counts,
      residentCalls: resident.length,
      contextTokens: resident.reduce((sum, call) => sum + call.contextTokens, 0),
    };
  }

  async shutdown(): Promise<void> {
    this.#shutdown = true;
    await this.#idle();
    await Promise.all([...this.#calls].map((call) => this.close(call)));
  }

  #checked(batch: readonly EngineCall[]): SimulatedCall[] {
    if (this.#running !== undefined) throw new Error("a step is running");
    if (this.#shutdown) throw new Error("the engine is shut down");
    return checkedBatch(batch, this.info.batchCallsMax, (call) => this.#own(call));
  }

  #own(call: EngineCall): SimulatedCall {
    if (call instanceof SimulatedCall) return call;
    throw new Error(`call ${call.key} is of another engine`);
  }

  async #idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  #advance(call: SimulatedCall, prefilledTokens: number, decodes: boolean): StepCall {
    const idle: StepCall = { call, prefilledTokens, tokens: 0, ids: [], text: "" };
    if (call.answer.finish !== undefined) return { ...idle, finish: call.answer.finish };
    if (prefilledTokens === 0 && !decodes) return idle;
    call.resident = true;
    call.contextTokens += decodes ? 1 : prefilledTokens;
    this.#counts.prefilledTokens += prefilledTokens;
    if (call.missingTokens > 0) return idle;
    const id = idAt(call.draw, call.ids.length);
    const text = call.answer.push(id);
    this.#counts.tokens++;
    const { finish } = call.answer;
    return { ...idle, tokens: 1, ids: [id], text, ...(finish === undefined ? {} : { finish }) };
  }
}

function promptTokensOf(chat: ChatCall): number {
  return chat.messages.reduce(
    (sum, { content }) => sum + MESSAGE_TOKENS + estimatePromptTokens(Buffer.byteLength(content)),
    0,
  );
}
