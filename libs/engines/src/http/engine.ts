/**
 * The HTTP engine: another process's server behind the engine port. A call is one streamed request while it is in the
 * batch; a step lets the streams flow for some milliseconds and hands on what they brought. Which calls the server
 * computes is decided here, since it never gets more than its slots hold; in which order it computes them is its own
 * business.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { AutellixError, type EngineInfo, estimatePromptTokens, type FinishReason } from "@autellix/protocol";
import { checkedBatch } from "../checked-batch.ts";
import type { Engine, EngineCall, EngineCounters, OpenCall, StepCall, StepResult, Swap } from "../port.ts";
import { HttpCall } from "./call.ts";
import { answerText, wholeIds } from "./characters.ts";
import type { IdDialect, SlotsNow } from "./dialect.ts";
import { ServerFailure, tooLong } from "./failure.ts";
import type { Health } from "./health.ts";
import { BYTES_PER_TOKEN_MAX } from "./options.ts";
import { CallRun } from "./run.ts";
import { ForeignLoad, type Server, type ServerCounters } from "./server.ts";

/** What a chat template adds to each message, for an estimate. */
const MESSAGE_TOKENS = 4;
/** Texts of end tokens look like this; an answer seldom does at its very end. */
const SPECIAL = /^(?:\s*[<[|].*[>\]|]\s*)?$/s;

export class HttpEngine implements Engine {
  readonly #server: Server;
  readonly #foreign: ForeignLoad;
  readonly #calls = new Set<HttpCall>();
  readonly #counts = { steps: 0, stepCalls: 0, batchMax: 0, busyMs: 0, tokens: 0 };
  #stepping = false;
  #shutdown = false;
  /** Ends the wait of the running step. */
  #wake = () => {};

  constructor(server: Server) {
    this.#server = server;
    this.#foreign = new ForeignLoad(server);
  }

  get info(): EngineInfo {
    return this.#server.info;
  }

  /** Whether the server works; an agent whose server is down for long, or another than before, leaves its pool. */
  health(): Health {
    return this.#server.health.health;
  }

  renew(): boolean {
    if (this.#calls.size > 0) return false;
    this.#server.renew();
    return true;
  }

  /** What the server says now of its slots. @throws ServerFailure when it cannot be asked. */
  async slotsNow(): Promise<SlotsNow> {
    return (await this.#server.dialect.slotsNow?.()) ?? {};
  }

  server(): ServerCounters {
    return { ...this.#server.counters, downs: this.#server.health.downs };
  }

  async open(open: OpenCall): Promise<EngineCall> {
    if (this.#shutdown) throw new AutellixError("engine_error", "The engine is shut down.");
    const { n } = open.body;
    if (n !== undefined && n !== null && n !== 1) {
      throw new AutellixError("invalid_request", "n must be 1", { param: "n" });
    }
    const { byIds } = this.#server.dialect;
    const bytes = open.chat.messages.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
    const { contextTokensMax } = this.info;
    const { completionTokensMax } = open.chat;
    if (bytes > contextTokensMax * BYTES_PER_TOKEN_MAX) throw tooLong(undefined, completionTokensMax, contextTokensMax);
    const estimate = estimatePromptTokens(bytes) + MESSAGE_TOKENS * open.chat.messages.length;
    const call = new HttpCall(open, estimate, byIds !== undefined);
    this.#server.trials.recall(call);
    if (byIds !== undefined && call.plain) {
      call.promptIds = await this.#asking(open, (signal) => byIds.promptIds(open.body, true, signal));
      if (call.promptIds !== undefined) {
        call.promptTokens = call.promptIds.length;
        if (call.promptTokens + (completionTokensMax ?? 1) > contextTokensMax) {
          throw tooLong(call.promptTokens, completionTokensMax, contextTokensMax);
        }
      }
    }
    if (open.forcedIds.length > 0) await this.#replay(call, open, byIds);
    this.#calls.add(call);
    return call;
  }

  async step(batch: readonly EngineCall[]): Promise<StepResult> {
    if (this.#stepping) throw new Error("a step is running");
    if (this.#shutdown) throw new Error("the engine is shut down");
    const calls = checkedBatch(batch, this.info.batchCallsMax, (call) => this.#own(call));
    this.#stepping = true;
    const { busy } = this.#server;
    const beganMs = busy.totalMs();
    try {
      await this.#leaveOut(calls);
      this.#begin(calls);
      await this.#wait(calls);
    } finally {
      this.#stepping = false;
    }
    const durationMs = busy.totalMs() - beganMs;
    const results = calls.map((call) => this.#result(call));
    for (const call of this.#calls) call.settle();
    this.#counts.steps++;
    this.#counts.stepCalls += calls.length;
    this.#counts.busyMs += durationMs;
    return { durationMs, calls: results };
  }

  async park(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    if (own.closed || own.run === undefined) return;
    if (!own.preemptible) throw new Error(`call ${own.key} cannot be stopped before its end`);
    // Since the last step it brought what cannot be gone on with: it goes on beside the batch, as the next step says.
    if (own.canStop) await this.#stop(own);
  }

  async evict(call: EngineCall): Promise<void> {
    await this.park(call);
  }

  /** A server's context is out of our reach. */
  async swapOut(call: EngineCall): Promise<Swap | undefined> {
    this.#own(call);
    return undefined;
  }

  async swapIn(call: EngineCall): Promise<Swap | undefined> {
    this.#own(call);
    return undefined;
  }

  async retain(call: EngineCall): Promise<boolean> {
    await this.close(call);
    return false;
  }

  async leave(call: EngineCall): Promise<Swap | undefined> {
    await this.close(call);
    return undefined;
  }

  async close(call: EngineCall): Promise<void> {
    const own = this.#own(call);
    own.closed = true;
    this.#calls.delete(own);
    await this.#stop(own);
  }

  counters(): EngineCounters {
    const contexts = [...this.#calls].map((call) => call.contextTokens).filter((tokens) => tokens > 0);
    const { prefilledTokens, cachedTokens } = this.#server.counters;
    return {
      ...this.#counts,
      prefilledTokens,
      cachedTokens,
      swapOuts: 0,
      swapIns: 0,
      swapBytes: 0,
      swapMs: 0,
      hostBytes: 0,
      residentCalls: contexts.length,
      contextTokens: contexts.reduce((sum, tokens) => sum + tokens, 0),
    };
  }

  async shutdown(): Promise<void> {
    this.#shutdown = true;
    await Promise.all([...this.#calls].map((call) => this.close(call)));
    this.#server.close();
  }

  #own(call: EngineCall): HttpCall {
    if (call instanceof HttpCall) return call;
    throw new Error(`call ${call.key} is of another engine`);
  }

  /** Calls that are not in the batch are stopped; those that cannot be go on beside it. */
  async #leaveOut(batch: readonly HttpCall[]): Promise<void> {
    const stays = new Set(batch);
    const left = [...this.#calls].filter((call) => call.run !== undefined && !stays.has(call) && call.canStop);
    await Promise.all(left.map((call) => this.#stop(call)));
  }

  #runs(): CallRun[] {
    return [...this.#calls].flatMap(({ run }) => run ?? []);
  }

  /** Begins the requests of the batch that have none, first ones first, while slots are free. */
  #begin(batch: readonly HttpCall[]): void {
    let running = this.#runs().length;
    const flowing = () => new Set(this.#runs().filter((run) => run.flows));
    this.#foreign.observe(running, flowing);
    // One at least: others could keep us out for ever.
    const slots = Math.max(1, this.info.batchCallsMax - this.#server.counters.foreignCalls);
    for (const [place, call] of batch.entries()) {
      if (running >= slots) break;
      if (call.run !== undefined || call.ended || call.error !== undefined || call.closed) continue;
      running++;
      call.run = new CallRun(call, this.#server, place, () => {
        call.run = undefined;
        this.#wake();
      });
    }
    this.#foreign.observe(running, flowing);
    this.#counts.batchMax = Math.max(this.#counts.batchMax, running);
  }

  /** Until the step's time is over, or a call of the batch has ended: its slot is for the next one. */
  async #wait(batch: readonly HttpCall[]): Promise<void> {
    const over = () => batch.some((call) => call.ended || call.error !== undefined);
    if (over()) return await nextTurn();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, this.#server.limits.stepMs);
      this.#wake = () => {
        if (!over()) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }

  #result(call: HttpCall): StepCall {
    if (call.closed) return { call, prefilledTokens: 0, tokens: 0, ids: [], text: "" };
    const result = call.take();
    this.#counts.tokens += result.tokens;
    return result;
  }

  async #stop(call: HttpCall): Promise<void> {
    const { run } = call;
    if (run === undefined) return;
    run.abort();
    await run.done;
    if (call.answer.finish !== undefined) call.ended = true;
    else if (!call.closed) call.lost();
  }

  /** Something asked of the server before the call's turn: waits while it is down, and is not vital without forced ids. */
  async #asking<T>(open: OpenCall, ask: (signal?: AbortSignal) => Promise<T>): Promise<T | undefined> {
    const { health, limits } = this.#server;
    const isVital = open.forcedIds.length > 0;
    for (let tries = 1; ; tries++) {
      const signal = isVital ? undefined : AbortSignal.timeout(limits.tokenizeMsMax);
      try {
        return await ask(signal);
      } catch (error) {
        if (!(error instanceof ServerFailure) && signal?.aborted !== true) throw error;
        if (!isVital || !(error instanceof ServerFailure)) return undefined;
        if (error.kind === "refused" || tries >= limits.triesMax) {
          throw new AutellixError("engine_error", error.message, { cause: error });
        }
        await health.suspect();
      }
    }
  }

  /** S2: what an earlier attempt showed is put before what comes. */
  async #replay(call: HttpCall, open: OpenCall, byIds: IdDialect | undefined): Promise<void> {
    const ids = open.forcedIds;
    if (byIds === undefined || !call.plain) {
      throw new AutellixError("engine_error", "What the answer had so far cannot be gone on with exactly.");
    }
    await this.#asking(open, async () => {
      const decode = (some: readonly number[]) => byIds.decode(some);
      const ends = await this.#endOf(call, ids, byIds);
      const shown = ends === "stop" ? ids.slice(0, -1) : ids;
      const whole = await wholeIds(decode, shown);
      const text = await answerText(decode, call.promptIds, shown.slice(0, whole));
      call.replay(ids, text, ends, whole === ids.length);
    });
  }

  /** Whether the ids already end the call: by their number, or by an end token of another engine of this model. */
  async #endOf(call: HttpCall, ids: readonly number[], byIds: IdDialect): Promise<FinishReason | undefined> {
    const room = this.info.contextTokensMax - call.promptTokens;
    const last = ids.at(-1);
    if (last !== undefined && SPECIAL.test(await byIds.decode([last]))) {
      call.promptIds ??= await byIds.promptIds(call.body, false);
      if (call.promptIds !== undefined) {
        const promptIds = [...call.promptIds, ...ids.slice(0, -1)];
        const asked = { body: call.body, promptIds, tokensMax: 1, forcedId: last, priority: 0 };
        const once = await byIds.once(asked);
        if (once.endToken) return "stop";
      }
    }
    return ids.length >= Math.min(call.chat.completionTokensMax ?? room, room) ? "length" : undefined;
  }
}
