/** An agent on a connection and an engine that are there already: what `main.ts` and the tests start. */
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Engine } from "@autellix/engines";
import { type Bus, callsLastSeq } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { AgentAdapter } from "./adapter.ts";
import { type AgentLimits, defaultLimits } from "./limits.ts";

const STREAM_PAUSE_MS = 200;

export interface AgentOptions {
  bus: Bus;
  engine: Engine;
  pool: string;
  /** Names this engine in subjects and records; unique in the whole system. */
  engineId: string;
  limits?: Partial<AgentLimits>;
  log: Logger;
  fail: (error: unknown) => void;
}

export interface RunningAgent {
  incarnation: string;
  /** Drains and says goodbye; engine and connection are still open after it. */
  stop(): Promise<void>;
}

export function startAgent({ bus, engine, pool, engineId, limits, log, fail }: AgentOptions): RunningAgent {
  const incarnation = randomUUID();
  const setup = { pool, engine: engineId, incarnation, info: engine.info, limits: { ...defaultLimits, ...limits } };
  const adapter = new AgentAdapter({ bus, engine, setup, log, fail });
  adapter.start();
  return { incarnation, stop: () => adapter.stop() };
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
