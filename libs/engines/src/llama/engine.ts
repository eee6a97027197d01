/**
 * The llama engine: exactly the given calls advance. A step makes at most two forward passes: the prompt slice of one
 * call, then one token for each of the others in one llama batch. They are kept apart because llama.cpp would cut a
 * mixed batch of several sequences in two anyway, at a place that depends on the neighbours: a slice of its own gives
 * the same numbers whoever is beside it.
 */

import { AutellixError, type EngineInfo } from "@autellix/protocol";
import type { BatchingOptions } from "node-llama-cpp";
import { checkedBatch } from "../checked-batch.ts";
import type { Engine, EngineCall, EngineCounters, OpenCall, StepCall, StepResult, Swap } from "../port.ts";
import { LlamaCall, type Pass } from "./call.ts";
import type { Contexts } from "./contexts.ts";
import { messageOf } from "./library.ts";
import type { CallMaker } from "./make-call.ts";
import { evaluate } from "./sampling.ts";

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
  calls: CallMaker;
  contexts: Contexts;
  sliceTokens: number;
  /** Bytes that `info.hostBlocks` counts for each block; undefined without a host tier. */
  hostBlockBytes: number | undefined;
  batches: BatchCounter;
  dispose: () => Promise<void>;
}

export class LlamaEngine implements Engine {
  readonly info: EngineInfo;
  /** Prompt tokens per step, fixed since the start. */
  readonly sliceTokens: number;
  readonly hostBlockBytes: number | undefined;
  readonly #parts: LlamaEngineParts;
  readonly #calls = new Set<LlamaCall>();
  readonly #counts = { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, prefilledTokens: 0, cachedTokens: 0 };
  #stepping = false;
  /** The last of those that wait for the contexts; never rejects. */
  #last: Promise<unknown> = Promise.resolve();
  #shutdown: Promise<void> | undefined;

  constructor(parts: LlamaEngineParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.sliceTokens = parts.sliceTokens;
    this.hostBlockBytes = parts.hostBlockBytes;
  }

  async open(open: OpenCall): Promise<EngineCall> {
    if (this.#shutdown !== undefined) throw new AutellixError("engine_error", "The engine is shut down.");
    const ended = open.continues === undefined ? undefined : this.#own(open.continues);
    const call = await this.#parts.calls.make(open);
    this.#calls.add(call);
    const { contexts } = this.#parts;
    if (ended !== undefined && !ended.closed) {
      ended.closed = true;
      await this.#alone(() => contexts.goOn(call, ended));
      this.#calls.delete(ended);
    }
    if (call.contextTokens + call.hostTokens === 0) await contexts.takeOver(call);
    return call;
  }

  async step(batch: readonly EngineCall[]): Promise<StepResult> {
    if (this.#stepping) throw new Error("a step is running");
    const calls = this.#checked(batch);
    this.#stepping = true;
    try {
      return await this.#alone(async () => {
        // A transfer that was on its way may have taken the context away meanwhile.
        for (const call of calls) checkSteppable(call);
        this.#parts.contexts.batch = calls;
        const startMs = performance.now();
        const results = await this.#advance(calls);
        const durationMs = performance.now() - startMs;
        this.#counts.steps++;
        this.#counts.stepCalls += calls.length;
        this.#counts.busyMs += durationMs;
        return { durationMs, calls: results };
      });
    } finally {
      this.#stepping = false;
    }
  }

  /** Nothing to do: only a step advances a call. */
  async park(call: EngineCall): Promise<void> {
    this.#own(call);
  }

  async swapOut(call: EngineCall): Promise<Swap | undefined> {
    const own = this.#own(call);
    return this.#alone(() => this.#parts.contexts.swapOut(own));
  }

  async swapIn(call: EngineCall): Promise<Swap | undefined> {
    const own = this.#own(call);
    return this.#alone(() => this.#parts.contexts.swapIn(own));
  }

  async evict(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    await this.#alone(() => this.#parts.contexts.drop(own));
  }

  async retain(call: EngineCall): Promise<boolean> {
    const own = this.#own(call);
    own.retained = true;
    await this.#alone(async () => {});
    if (!own.closed && own.contextTokens + own.hostTokens > 0) return true;
    await this.close(own);
    return false;
  }

  async leave(call: EngineCall): Promise<Swap | undefined> {
    const own = this.#own(call);
    const swap = own.closed ? undefined : await this.#alone(() => this.#parts.contexts.leave(own));
    await this.close(own);
    return swap;
  }

  async close(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    own.closed = true;
    await this.#alone(() => this.#parts.contexts.release(own));
    this.#calls.delete(own);
  }

  counters(): EngineCounters {
    const resident = [...this.#calls].filter((call) => call.seat !== undefined);
    const { contexts, batches } = this.#parts;
    return {
      ...this.#counts,
      ...contexts.swaps,
      batchMax: batches.sequencesMax,
      hostBytes: contexts.hostBytes,
      residentCalls: resident.length,
      contextTokens: resident.reduce((sum, call) => sum + call.contextTokens, 0),
    };
  }

  async shutdown(): Promise<void> {
    this.#shutdown ??= (async () => {
      await Promise.all([...this.#calls].map((call) => this.close(call)));
      await this.#alone(() => this.#parts.contexts.close());
      await this.#parts.dispose();
    })();
    await this.#shutdown;
  }

  #checked(batch: readonly EngineCall[]): LlamaCall[] {
    if (this.#shutdown !== undefined) throw new Error("the engine is shut down");
    const calls = checkedBatch(batch, this.info.batchCallsMax, (call) => this.#own(call));
    for (const call of calls) checkSteppable(call);
    return calls;
  }

  #own(call: EngineCall): LlamaCall {
    if (call instanceof LlamaCall) return call;
    throw new Error(`call ${call.key} is of another engine`);
  }

  /** Steps and transfers take turns: a context is never touched by two of them. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act);
    // Whoever asked gets the error; those behind it only wait.
    this.#last = turn.catch(() => {});
    return turn;
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
    // Pending together, they are decoded in one llama batch; in the order of their places it takes the fewest passes.
    const decodes = [...passes].filter(([, pass]) => !pass.prefill).sort(([a], [b]) => placeOf(a) - placeOf(b));
    await Promise.all(decodes.map(run));
    return calls.map((call) => {
      const result = results.get(call);
      if (result === undefined) throw new Error("a call of the batch has no result");
      const { finish } = call.answer;
      return finish === undefined ? result : { ...result, finish };
    });
  }

  async #pass(call: LlamaCall, pass: Pass): Promise<StepCall> {
    const result = { call, prefilledTokens: pass.prefill ? pass.ids.length : 0, tokens: 0, ids: [], text: "" };
    const { contexts, calls } = this.#parts;
    try {
      const sampled = await evaluate(contexts.acquire(call), call, pass, calls.vocabulary);
      call.contextTokens += pass.ids.length;
      this.#counts.prefilledTokens += result.prefilledTokens;
      if (!call.counted) this.#counts.cachedTokens += call.cachedTokens;
      call.counted = true;
      if (sampled === undefined) return result;
      const { text, deltas } = call.answer.push(sampled.id, sampled.logprob);
      this.#counts.tokens++;
      return { ...result, tokens: 1, ids: [sampled.id], text, ...(deltas === undefined ? {} : { deltas }) };
    } catch (cause) {
      await contexts.drop(call);
      const error = new AutellixError("engine_error", `llama.cpp could not go on with this call: ${messageOf(cause)}`, {
        cause,
      });
      return { ...result, prefilledTokens: 0, error };
    }
  }
}

/** A call that generates has a seat. */
function placeOf({ seat }: LlamaCall): number {
  return seat?.place ?? 0;
}

function checkSteppable(call: LlamaCall): void {
  if (call.retained) throw new Error(`call ${call.key} has ended`);
  if (call.host !== undefined) throw new Error(`the context of call ${call.key} lies in the host tier`);
}
