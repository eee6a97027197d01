/**
 * The llama engine: exactly the given calls advance. A step makes at most two forward passes: the prompt slice of one
 * call, then one token for each of the others in one llama batch. They are kept apart because llama.cpp would cut a
 * mixed batch of several sequences in two anyway, at a place that depends on the neighbours: a slice of its own gives
 * the same numbers whoever is beside it.
 */

import { AutellixError, type EngineInfo } from "@autellix/protocol";
import type { BatchingOptions, ControlledEvaluateInputItem, LlamaContext, LlamaModel, Token } from "node-llama-cpp";
import { checkedBatch } from "../checked-batch.ts";
import type { Engine, EngineCall, EngineCounters, OpenCall, StepCall, StepResult } from "../port.ts";
import { AnswerText } from "../text.ts";
import { LlamaCall, type Pass } from "./call.ts";
import { messageOf } from "./library.ts";
import { type PromptRenderer, tooLong } from "./prompt.ts";

type Strategy = Exclude<NonNullable<BatchingOptions["itemPrioritizationStrategy"]>, string>;

/** Sees every batch that llama.cpp decodes. All that is queued goes in: the engine queues no more than fits. */
export class BatchCounter {
  sequencesMax = 0;

  readonly strategy: Strategy = ({ items }) => {
    this.sequencesMax = Math.max(this.sequencesMax, items.length);
    return items.map((item) => ({ item, processAmount: item.tokens.length }));
  };

  reset(): void {
    this.sequencesMax = 0;
  }
}

export interface LlamaEngineParts {
  info: EngineInfo;
  model: LlamaModel;
  context: LlamaContext;
  prompts: PromptRenderer;
  sliceTokens: number;
  batches: BatchCounter;
  dispose: () => Promise<void>;
}

export class LlamaEngine implements Engine {
  readonly info: EngineInfo;
  /** Prompt tokens per step, fixed since the start. */
  readonly sliceTokens: number;
  readonly #parts: LlamaEngineParts;
  readonly #calls = new Set<LlamaCall>();
  readonly #counts = { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, prefilledTokens: 0 };
  /** The running step; never rejects. */
  #running: Promise<void> | undefined;
  /** Contexts on their way back to the pool. */
  readonly #releases = new Set<Promise<void>>();
  #shutdown: Promise<void> | undefined;

  constructor(parts: LlamaEngineParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.sliceTokens = parts.sliceTokens;
  }

  async open(open: OpenCall): Promise<EngineCall> {
    if (this.#shutdown !== undefined) throw new AutellixError("engine_error", "The engine is shut down.");
    const { contextTokensMax } = this.info;
    const { messages, completionTokensMax, stop } = open.chat;
    const prompt = this.#parts.prompts.ids({ messages, tokensMax: contextTokensMax });
    if (prompt.length + (completionTokensMax ?? 1) > contextTokensMax)
      throw tooLong(prompt.length, contextTokensMax, completionTokensMax);
    const { model } = this.#parts;
    const answer = new AnswerText({
      decode: (ids) => model.detokenize(ids as Token[]),
      isEnd: (id) => model.isEogToken(id as Token),
      stop,
      tokensMax: completionTokensMax ?? contextTokensMax - prompt.length,
    });
    const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
    // An id outside the vocabulary would fail the whole batch, not only this call.
    const forcedText = answer.replay(open.forcedIds, (id) => id < vocabulary);
    const call = new LlamaCall(open.key, open.chat, prompt, answer, forcedText);
    this.#calls.add(call);
    return call;
  }

  async step(batch: readonly EngineCall[]): Promise<StepResult> {
    const calls = this.#checked(batch);
    let ended = () => {};
    this.#running = new Promise((resolve) => {
      ended = resolve;
    });
    try {
      await Promise.all(this.#releases);
      const startMs = performance.now();
      const results = await this.#advance(calls);
      const durationMs = performance.now() - startMs;
      this.#counts.steps++;
      this.#counts.stepCalls += calls.length;
      this.#counts.busyMs += durationMs;
      return { durationMs, calls: results };
    } finally {
      this.#running = undefined;
      ended();
    }
  }

  async evict(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    await this.#idle();
    await this.#release(own);
  }

  async close(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    own.closed = true;
    await this.#idle();
    await this.#release(own);
    this.#calls.delete(own);
  }

  counters(): EngineCounters {
    const resident = [...this.#calls].filter((call) => call.sequence !== undefined);
    return {
      ...this.#counts,
      batchMax: this.#parts.batches.sequencesMax,
      residentCalls: resident.length,
      contextTokens: resident.reduce((sum, call) => sum + call.contextTokens, 0),
    };
  }

  async shutdown(): Promise<void> {
    this.#shutdown ??= (async () => {
      await this.#idle();
      await Promise.all([...this.#calls].map((call) => this.close(call)));
      await Promise.all(this.#releases);
      await this.#parts.dispose();
    })();
    await this.#shutdown;
  }

  #checked(batch: readonly EngineCall[]): LlamaCall[] {
    if (this.#running !== undefined) throw new Error("a step is running");
    if (this.#shutdown !== undefined) throw new Error("the engine is shut down");
    return checkedBatch(batch, this.info.batchCallsMax, (call) => this.#own(call));
  }

  #own(call: EngineCall): LlamaCall {
    if (call instanceof LlamaCall) return call;
    throw new Error(`call ${call.key} is of another engine`);
  }

  /** A context is never taken away under a running step; a step is short. */
  async #idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #advance(calls: readonly LlamaCall[]): Promise<StepCall[]> {
    const results = new Map<LlamaCall, StepCall>();
    const passes = new Map<LlamaCall, Pass>();
    for (const call of calls) {
      results.set(call, { call, prefilledTokens: 0, tokens: 0, ids: [], text: "" });
      if (call.answer.finish === undefined) passes.set(call, call.nextPass(this.sliceTokens));
    }
    const run = async ([call, pass]: [LlamaCall, Pass]) => {
      results.set(call, await this.#pass(call, pass));
    };
    const slice = [...passes].find(([, pass]) => pass.prefill);
    if (slice !== undefined) await run(slice);
    // Pending together, they are decoded in one llama batch.
    await Promise.all([...passes].filter(([, pass]) => !pass.prefill).map(run));
    return calls.map((call) => {
      const result = results.get(call);
      if (result === undefined) throw new Error("a call of the batch has no result");
      const { finish } = call.answer;
      return finish === undefined ? result : { ...result, finish };
    });
  }

  async #pass(call: LlamaCall, pass: Pass): Promise<StepCall> {
    const result = { call, prefilledTokens: pass.prefill ? pass.ids.length : 0, tokens: 0, ids: [], text: "" };
    try {
      call.sequence ??= this.#parts.context.getSequence();
      const id = await this.#evaluate(call, pass);
      call.contextTokens += pass.ids.length;
      this.#counts.prefilledTokens += result.prefilledTokens;
      if (id === undefined) return result;
      this.#counts.tokens++;
      return { ...result, tokens: 1, ids: [id], text: call.answer.push(id) };
    } catch (cause) {
      await this.#release(call);
      const error = new AutellixError("engine_error", `llama.cpp could not go on with this call: ${messageOf(cause)}`, {
        cause,
      });
      return { ...result, prefilledTokens: 0, error };
    }
  }

  /** @returns the new token of a pass that samples. */
  async #evaluate(call: LlamaCall, pass: Pass): Promise<number | undefined> {
    const ids = pass.ids as Token[];
    const sequence = call.sequence;
    if (sequence === undefined) throw new Error("the call has no context");
    if (!pass.samples) {
      await sequence.evaluateWithoutGeneratingNewTokens(ids);
      return undefined;
    }
    const last = ids.at(-1);
    if (last === undefined) throw new Error("nothing to evaluate");
    const sampled: ControlledEvaluateInputItem = [last, { generateNext: { token: true, options: call.sampling() } }];
    const output = await sequence.controlledEvaluate([...ids.slice(0, -1), sampled]);
    const token = output.at(-1)?.next.token;
    if (token === undefined || token === null) throw new Error("no token was sampled");
    return token;
  }

  async #release(call: LlamaCall): Promise<void> {
    const { sequence } = call;
    call.sequence = undefined;
    call.contextTokens = 0;
    if (sequence === undefined) return;
    const release = sequence.dispose();
    this.#releases.add(release);
    try {
      await release;
    } finally {
      this.#releases.delete(release);
    }
  }
}
