/**
 * One engine as the core sees it: its capacity, its own queues (Algorithm 2 binds a call on arrival), and the plan
 * that its agent was given last.
 */

import type { Call } from "./call.ts";
import type { EngineCapacity } from "./contract.ts";
import type { EngineId, Millis } from "./ids.ts";
import { byRank, LevelQueues } from "./queues.ts";

export class Engine {
  readonly id: EngineId;
  readonly incarnation: string;
  readonly capacity: EngineCapacity;
  readonly queues: LevelQueues;
  /** Calls that its agent may hold: planned here at least once and not finished. Bounded by `heldCallsMax`. */
  readonly started = new Set<Call>();
  /** Calls of the last plan. */
  run: readonly Call[] = [];
  reserve: readonly Call[] = [];
  keep: readonly Call[] = [];
  /** Answers to `fenced` that the next plan carries. */
  fences: { call: Call["id"]; attempt: number; fence: number | null }[] = [];
  planNumber = 0;
  planSentAt: Millis = 0;
  reportSeen = 0;
  /** A plan goes out at the next `planDue` even if its lists are the same. */
  answerDue = false;

  constructor(id: EngineId, incarnation: string, capacity: EngineCapacity, levelCount: number) {
    this.id = id;
    this.incarnation = incarnation;
    this.capacity = capacity;
    this.queues = new LevelQueues(levelCount);
  }

  /** Calls bound to this engine that are about to be merged into its queues. */
  incomingCalls = 0;
  /** False while the engine is silent: it gets no new calls. */
  accepting = true;

  /** Calls in the system here, waiting and running: what "least used" compares (Algorithm 2). */
  get callCount(): number {
    return this.queues.size + this.incomingCalls;
  }

  /** Whether a call that has just been queued can change the plan; if not, no plan is due for it. */
  wants(call: Call, reserveCallsMax: number): boolean {
    if (this.run.length < this.capacity.batchCallsMax || this.reserve.length < reserveCallsMax) return true;
    const last = this.reserve.at(-1) ?? this.run.at(-1);
    return last === undefined || byRank(call, last) < 0;
  }

  /**
   * KV blocks that a call needs for the coming window. An estimate never blocks a queue: it is capped at the engine's
   * capacity, and a call that truly cannot fit is refused by the agent.
   */
  blocksOf(call: Call, windowSteps: number): number {
    return Math.min(this.capacity.kvBlocks, Math.ceil((call.contextTokens + windowSteps) / this.capacity.blockTokens));
  }
}

/** The lists of a plan, before they are written out. */
export interface Batch {
  run: Call[];
  reserve: Call[];
  keep: Call[];
  /** Calls at the head that need a marker before they may be planned. */
  unmarked: Call[];
}

/** Whether the agent was sent these very lists already. */
export function isLastPlan(engine: Engine, batch: Batch): boolean {
  return same(engine.run, batch.run) && same(engine.reserve, batch.reserve) && same(engine.keep, batch.keep);
}

function same(a: readonly Call[], b: readonly Call[]): boolean {
  return a.length === b.length && a.every((call, i) => call === b[i]);
}
