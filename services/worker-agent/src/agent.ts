/** An agent on a connection and an engine that are there already: what `main.ts` and the tests start. */
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Engine } from "@autellix/engines";
import { type Bus, callsLastSeq, isConnected } from "@autellix/protocol";
import { addBusMetrics, type Logger, type Metrics, type SpanSink } from "@autellix/runtime";
import { AgentAdapter } from "./adapter.ts";
import { type AgentLimits, defaultLimits, HEALTH_MS } from "./limits.ts";
import { AgentMetrics } from "./metrics.ts";

const STREAM_PAUSE_MS = 200;

export interface AgentOptions {
  bus: Bus;
  engine: Engine;
  pool: string;
  /** Names this engine in subjects and records; unique in the whole system. */
  engineId: string;
  limits?: Partial<AgentLimits>;
  /** Where it is counted what the agent does, if it is. */
  metrics?: Metrics | undefined;
  /** Where spans go; nothing is traced without it. */
  spans?: SpanSink | undefined;
  log: Logger;
  fail: (error: unknown) => void;
}

export interface RunningAgent {
  /** New each time that it joins its pool. */
  readonly incarnation: string;
  /** Why it runs no calls now; undefined when it does. */
  unreadyReason(): string | undefined;
  /** Drains and says goodbye; engine and connection are still open after it. */
  stop(): Promise<void>;
}

export function startAgent(options: AgentOptions): RunningAgent {
  return new PoolMember(options);
}

/**
 * Is in its pool while its engine works. A server that is down for long, or back as another than before, is left in
 * order: its calls go back to the scheduler with their tokens and nobody is charged with a crash. When it is back, the
 * agent joins again, as what the server is then.
 */
class PoolMember implements RunningAgent {
  incarnation = "";
  readonly #options: AgentOptions;
  readonly #limits: AgentLimits;
  readonly #stopping = new AbortController();
  readonly #watching: Promise<void>;
  readonly #metrics: AgentMetrics | undefined;
  /** Undefined while it is out of the pool. */
  #adapter: AgentAdapter | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    const { metrics, bus, engine, pool, engineId } = options;
    if (metrics) addBusMetrics(metrics, bus);
    this.#metrics = metrics && new AgentMetrics(metrics, engine, { pool, engine: engineId });
    this.#metrics?.follow(() => this.#adapter?.use());
    this.#join();
    this.#watching = options.engine.health === undefined ? Promise.resolve() : this.#watch();
  }

  unreadyReason(): string | undefined {
    if (!isConnected(this.#options.bus)) return "NATS is not connected";
    return this.#adapter ? undefined : "the engine's server is down";
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
    await this.#adapter?.stop();
  }

  #join(): void {
    const { bus, engine, pool, engineId, spans, log, fail } = this.#options;
    this.incarnation = randomUUID();
    const { incarnation } = this;
    const traces = spans !== undefined;
    const setup = { pool, engine: engineId, incarnation, info: engine.info, limits: this.#limits, traces };
    this.#adapter = new AgentAdapter({ bus, engine, setup, metrics: this.#metrics, spans, log, fail });
    this.#adapter.start();
  }

  async #watch(): Promise<void> {
    const { engine, log, fail } = this.#options;
    const { signal } = this.#stopping;
    try {
      while (!signal.aborted) {
        const health = engine.health?.() ?? { state: "up" };
        const isDown = health.state === "down" && health.sinceMs >= this.#limits.engineDownMsMax;
        if ((isDown || health.state === "changed") && this.#adapter) {
          if (isDown) log.warn({ downMs: Math.round(health.sinceMs) }, "the engine's server is down: leaving the pool");
          else log.warn("the engine's server is another than before: leaving the pool");
          await this.#adapter.stop(0);
          this.#adapter = undefined;
        }
        const isUsable = health.state === "up" || (health.state === "changed" && engine.renew?.() === true);
        if (isUsable && !this.#adapter) {
          log.info("the engine's server is back: joining the pool");
          this.#join();
        }
        await pause(HEALTH_MS, undefined, { signal }).catch(() => {});
      }
    } catch (error) {
      fail(error);
    }
  }
}

/** The scheduler makes the streams; until then there is nothing to do. @throws when `signal` is aborted. */
export async function waitForStreams(bus: Bus, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await callsLastSeq(bus);
      return;
    } catch {
      // Not made yet, or no answer: both are the same wait.
      await pause(STREAM_PAUSE_MS);
    }
  }
}
