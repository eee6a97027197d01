/**
 * The simulated engine: a COST MODEL, not a language model. Steps take the time that the modelled hardware would need
 * for weights, prompt tokens and KV reads; prompt tokens are estimated from the text; answers are words drawn from a
 * hash of the prompt. Good for loads and schedules, never for answers. It obeys the contract of the port like a real
 * engine: ids, forced ids, stop sequences, slices, eviction, swaps in one transfer, contexts that are gone on from.
 */

import { AutellixError, type ChatCall, type EngineInfo, refuseForeign } from "@autellix/protocol";
import { checkedBatch } from "../checked-batch.ts";
import type { Engine, EngineCall, EngineCounters, OpenCall, StepCall, StepResult, Swap } from "../port.ts";
import { AnswerText } from "../text.ts";
import { SimulatedCall } from "./call.ts";
import { type EngineClock, realClock } from "./clock.ts";
import { attendedBy, BLOCK_TOKENS, type Preset, type PresetName, presets, stepCost, swapTime } from "./cost.ts";
import { promptTokensOf } from "./prompt.ts";
import { decodeWords, END_ID, idAt, isId } from "./words.ts";

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
  /** KV memory of the engine, in tokens; default: the preset's. */
  kvTokens?: number;
  /** Of the host tier; 0: none. Default: the preset's. */
  hostKvBytesMax?: number;
}

const HELD_CALLS_MAX = 1024;

export function openSimulatedEngine(options: SimulatedOptions): Engine {
  const preset: Preset = typeof options.preset === "object" ? options.preset : presets[options.preset ?? "a100-8b"];
  const residentCallsMax = options.residentCallsMax ?? preset.residentCallsMax;
  const hostBlocks = hostBlocksOf(preset, options.hostKvBytesMax);
  const info: EngineInfo = {
    kind: "simulated",
    models: options.models,
    preemption: hostBlocks > 0 ? "swap" : "recompute",
    batchCallsMax: options.batchCallsMax ?? preset.batchCallsMax,
    residentCallsMax,
    heldCallsMax: options.heldCallsMax ?? Math.max(HELD_CALLS_MAX, residentCallsMax),
    kvBlocks: Math.max(1, Math.floor((options.kvTokens ?? preset.kvTokens) / BLOCK_TOKENS)),
    blockTokens: BLOCK_TOKENS,
    contextTokensMax: options.contextTokensMax ?? preset.contextTokensMax,
    hostBlocks,
    retains: true,
  };
  return new SimulatedEngine(info, preset, options.clock ?? realClock());
}

function hostBlocksOf(preset: Preset, hostKvBytesMax: number | undefined): number {
  const presetBlocks = Math.floor(preset.hostKvTokens / BLOCK_TOKENS);
  if (hostKvBytesMax === undefined || (preset.kvTokenBytes === 0 && hostKvBytesMax > 0)) return presetBlocks;
  return hostKvBytesMax === 0 ? 0 : Math.floor(hostKvBytesMax / (BLOCK_TOKENS * preset.kvTokenBytes));
}

class SimulatedEngine implements Engine {
  readonly info: EngineInfo;
  readonly #preset: Preset;
  readonly #clock: EngineClock;
  readonly #calls = new Set<SimulatedCall>();
  readonly #counts = {
    steps: 0,
    stepCalls: 0,
    batchMax: 0,
    busyMs: 0,
    tokens: 0,
    prefilledTokens: 0,
    cachedTokens: 0,
    swapOuts: 0,
    swapIns: 0,
    swapBytes: 0,
    swapMs: 0,
  };
  #stepping = false;
  /** Steps and transfers, one after the other, in the order in which they were asked for; never rejects. */
  #queue: Promise<void> = Promise.resolve();
  #shutdown = false;

  constructor(info: EngineInfo, preset: Preset, clock: EngineClock) {
    this.info = info;
    this.#preset = preset;
    this.#clock = clock;
  }

  async open(open: OpenCall): Promise<EngineCall> {
    if (this.#shutdown) throw new AutellixError("engine_error", "The engine is shut down.");
    refuseForeign(open.chat);
    refuseUnserved(open.chat);
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
    const call = new SimulatedCall(open.key, open.chat, promptTokens, answer, forcedText);
    this.#calls.add(call);
    if (open.continues !== undefined) {
      const ended = this.#own(open.continues);
      await this.#after(async () => call.takeOver(ended));
      await this.close(ended);
    }
    return call;
  }

  async step(batch: readonly EngineCall[]): Promise<StepResult> {
    const calls = this.#checked(batch);
    this.#stepping = true;
    return await this.#after(() => this.#step(calls)).finally(() => {
      this.#stepping = false;
    });
  }

  async park(call: EngineCall): Promise<void> {
    this.#own(call);
  }

  async swapOut(call: EngineCall): Promise<Swap | undefined> {
    const own = this.#own(call);
    return await this.#after(async () => {
      const tokens = own.contextTokens;
      if (tokens === 0 || this.#hostBlocks() + blocksOf(tokens) > (this.info.hostBlocks ?? 0)) return undefined;
      const swap = await this.#transfer("out", tokens);
      own.hostTokens = tokens;
      own.contextTokens = 0;
      own.resident = false;
      return swap;
    });
  }

  async swapIn(call: EngineCall): Promise<Swap | undefined> {
    const own = this.#own(call);
    return await this.#after(async () => {
      const tokens = own.hostTokens;
      if (tokens === 0) return undefined;
      const swap = await this.#transfer("in", tokens);
      own.contextTokens = tokens;
      own.hostTokens = 0;
      own.resident = true;
      return swap;
    });
  }

  async evict(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    await this.#after(async () => own.drop());
  }

  async retain(call: EngineCall): Promise<boolean> {
    const own = this.#own(call);
    await this.#after(async () => {
      own.retained = !own.closed && own.contextTokens + own.hostTokens > 0;
    });
    if (!own.retained) await this.close(own);
    return own.retained;
  }

  /** The modelled host memory is this process's own: nothing can be left in it for another. */
  async leave(call: EngineCall): Promise<Swap | undefined> {
    await this.close(call);
    return undefined;
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
      hostBytes: this.#hostBlocks() * BLOCK_TOKENS * this.#preset.kvTokenBytes,
      residentCalls: resident.length,
      contextTokens: resident.reduce((sum, call) => sum + call.contextTokens, 0),
    };
  }

  async shutdown(): Promise<void> {
    this.#shutdown = true;
    await Promise.all([...this.#calls].map((call) => this.close(call)));
  }

  #checked(batch: readonly EngineCall[]): SimulatedCall[] {
    if (this.#stepping) throw new Error("a step is running");
    if (this.#shutdown) throw new Error("the engine is shut down");
    const calls = checkedBatch(batch, this.info.batchCallsMax, (call) => this.#own(call));
    for (const call of calls) {
      if (call.retained) throw new Error(`call ${call.key} has ended`);
    }
    return calls;
  }

  #own(call: EngineCall): SimulatedCall {
    if (call instanceof SimulatedCall) return call;
    throw new Error(`call ${call.key} is of another engine`);
  }

  #after<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  async #step(calls: readonly SimulatedCall[]): Promise<StepResult> {
    for (const { key, hostTokens } of calls) {
      if (hostTokens > 0) throw new Error(`the context of call ${key} lies in the host tier`);
    }
    const live = calls.filter((call) => call.answer.finish === undefined);
    const slice = live.find((call) => call.prefills);
    const decoding = new Set(live.filter((call) => !call.prefills));
    const prefillTokens = Math.min(slice?.missingTokens ?? 0, this.#preset.sliceTokens);
    const contextTokens = [...decoding].reduce((sum, call) => sum + call.contextTokens, 0);
    const decodeTokens = decoding.size;
    const attendedTokens = attendedBy(prefillTokens, slice?.contextTokens ?? 0);
    const load = { prefillTokens, decodeTokens, contextTokens, attendedTokens };
    const durationMs = live.length === 0 ? 0 : stepCost(this.#preset.cost, load);
    await this.#clock.sleepMs(durationMs);
    const results = calls.map((call) => this.#advance(call, call === slice ? prefillTokens : 0, decoding.has(call)));
    this.#counts.steps++;
    this.#counts.stepCalls += calls.length;
    this.#counts.batchMax = Math.max(this.#counts.batchMax, decoding.size + (slice === undefined ? 0 : 1));
    this.#counts.busyMs += durationMs;
    return { durationMs, calls: results };
  }

  #advance(call: SimulatedCall, prefilledTokens: number, decodes: boolean): StepCall {
    const idle: StepCall = { call, prefilledTokens, tokens: 0, ids: [], text: "" };
    if (call.answer.finish !== undefined) return { ...idle, finish: call.answer.finish };
    if (prefilledTokens === 0 && !decodes) return idle;
    if (call.cachedTokens > 0 && call.contextTokens === call.cachedTokens)
      this.#counts.cachedTokens += call.cachedTokens;
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

  async #transfer(direction: "out" | "in", tokens: number): Promise<Swap> {
    const blocks = blocksOf(tokens);
    const bytes = blocks * BLOCK_TOKENS * this.#preset.kvTokenBytes;
    const durationMs = swapTime(this.#preset.swap, direction, "call", { bytes, blocks });
    await this.#clock.sleepMs(durationMs);
    if (direction === "out") this.#counts.swapOuts++;
    else this.#counts.swapIns++;
    this.#counts.swapBytes += bytes;
    this.#counts.swapMs += durationMs;
    return { tokens, bytes, durationMs };
  }

  /** Blocks in the host tier. */
  #hostBlocks(): number {
    let blocks = 0;
    for (const { hostTokens } of this.#calls) blocks += blocksOf(hostTokens);
    return blocks;
  }
}

function blocksOf(tokens: number): number {
  return Math.ceil(tokens / BLOCK_TOKENS);
}

/** Answers are words from a hash: nothing that asks for more than text can be served. */
function refuseUnserved(chat: ChatCall): void {
  const param =
    (chat.tools.length > 0 && chat.toolChoice !== "none" ? "tools" : undefined) ??
    (chat.responseFormat.type === "text" ? undefined : "response_format") ??
    (chat.logprobs === undefined ? undefined : "logprobs");
  if (param === undefined) return;
  throw new AutellixError("unsupported_parameter", `${param} is not supported by the simulated engine`, { param });
}
