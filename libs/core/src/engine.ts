/**
 * One engine as the core sees it: its capacity, its own queues (Algorithm 2 binds a call on arrival), and the plan
 * that its agent was given last.
 */

import type { Call } from "./call.ts";
import type { EngineCapacity } from "./contract.ts";
import type { CallId, EngineId, Millis } from "./ids.ts";
import { byRank, LevelQueues } from "./queues.ts";
import { RetainedContexts } from "./retained.ts";

/** Calls that have left which the ordered list may hold beyond those that have not. */
const LEFT_SLACK = 64;

export class Engine {
  readonly id: EngineId;
  readonly incarnation: string;
  readonly capacity: EngineCapacity;
  readonly queues: LevelQueues;
  /** Calls that its agent may hold: planned here at least once and not finished. Bounded by `heldCallsMax`. */
  readonly started = new Map<CallId, Call>();
  /** The same, ordered when they were last asked for; calls that have left are still in it. */
  private ordered: Call[] = [];
  private orderedFor = 0;
  /** Contexts that it keeps for programs' next calls. */
  readonly retained = new RetainedContexts();
  /** Calls that its agent shall end. */
  readonly cancels = new Set<Call>();
  /** Calls of the last plan. */
  run: readonly Call[] = [];
  reserve: readonly Call[] = [];
  keep: readonly Call[] = [];
  /** Version of `retained` in the last plan. */
  retainedSent = 0;
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

  /** Calls bound to this engine that are about to be queued. */
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
   * KV blocks that a context takes, grown by so many tokens. An estimate never blocks a queue: it is capped at the
   * engine's capacity, and a call that truly cannot fit is refused by the agent.
   */
  blocksOf(contextTokens: number, growthTokens: number): number {
    const blocks = Math.ceil((contextTokens + growthTokens) / this.capacity.blockTokens);
    return blocks < this.capacity.kvBlocks ? blocks : this.capacity.kvBlocks;
  }

  /** The call is in a plan of this engine: from here on its agent may hold it. */
  start(call: Call): void {
    if (this.has(call)) return;
    call.planned = true;
    // It may have been here before.
    if (call.attempt > 1) this.ordered = this.ordered.filter((other) => other !== call);
    this.started.set(call.id, call);
    this.ordered.push(call);
  }

  /** Whether its agent may hold the call. */
  has(call: Call): boolean {
    return this.started.get(call.id) === call;
  }

  /**
   * Started calls by rank. Little has changed since the last batch, so sorting them again costs one pass.
   *
   * @param stamp of the batch that is formed: no call moves meanwhile.
   */
  startedInOrder(stamp: number): readonly Call[] {
    if (this.orderedFor === stamp) return this.ordered;
    this.orderedFor = stamp;
    if (this.ordered.length > this.started.size) this.dropLeft();
    return this.ordered.sort(byRank);
  }

  private dropLeft(): void {
    let kept = 0;
    for (const call of this.ordered) if (call.planned && call.engine === this) this.ordered[kept++] = call;
    this.ordered.length = kept;
  }

  /** No agent holds the call for this engine any more. */
  forget(call: Call): void {
    if (!this.has(call)) return;
    this.started.delete(call.id);
    call.planned = false;
    // Where nothing is ever parked, nobody asks for the order.
    if (this.ordered.length > 2 * this.started.size + LEFT_SLACK) this.dropLeft();
    if (call.cancel !== undefined) this.cancels.delete(call);
  }
}

/** The lists of a plan, before they are written out. */
export interface Batch {
  run: Call[];
  reserve: Call[];
  keep: Call[];
  /** Calls at the head that need a marker before they may be planned. */
  unmarked: Call[];
  /** A kept context goes to another tier. */
  tiersChanged: boolean;
}

/** Whether the agent was sent these very lists already. */
export function isLastPlan(engine: Engine, batch: Batch): boolean {
  return (
    !batch.tiersChanged &&
    engine.retainedSent === engine.retained.version &&
    same(engine.run, batch.run) &&
    same(engine.reserve, batch.reserve) &&
    same(engine.keep, batch.keep)
  );
}

function same(a: readonly Call[], b: readonly Call[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
