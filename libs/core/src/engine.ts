/**
 * One engine as the core sees it: its capacity, its own queues (Algorithm 2 binds a call on arrival), and the plan
 * that its agent was given last.
 */

import { type Call, NO_SERVICE, Service } from "./call.ts";
import type { EngineCapacity } from "./contract.ts";
import type { IdTable } from "./id-table.ts";
import type { CallId, EngineId, Millis } from "./ids.ts";
import { byRank, LevelQueues } from "./queues.ts";
import { RetainedContexts } from "./retained.ts";

/** Calls that have left which a list of started calls may hold beyond those that have not. */
const LEFT_SLACK = 64;
/** Started calls that are compared with the next one that a report names, before it is looked for among all. */
const REPORT_LOOKS_MAX = 16;

export class Engine {
  readonly id: EngineId;
  readonly incarnation: string;
  readonly capacity: EngineCapacity;
  readonly queues: LevelQueues;
  /** How many calls its agent may hold: planned here at least once and not finished. Bounded by `heldCallsMax`. */
  startedCount = 0;
  /** These calls in the order in which they started; some that have left lie between them. */
  private started: Call[] = [];
  /** The same, by rank when they were last asked for. */
  private ordered: Call[] = [];
  private orderedFor = 0;
  /** Place in `started` from which on the call is looked for that a report names next. */
  private reportPlace = 0;
  /** Contexts that it keeps for programs' next calls. */
  readonly retained = new RetainedContexts();
  /** Calls that it cannot stop and go on with exactly: they keep their places in the batch. */
  readonly unstoppable = new Set<Call>();
  /** Calls that its agent shall end. */
  readonly cancels = new Set<Call>();
  /** Calls of the last plan. */
  run: readonly Call[] = [];
  reserve: readonly Call[] = [];
  /** Their service when that plan was sent. */
  reserveServedMs: readonly Millis[] = [];
  keep: readonly Call[] = [];
  /** A call that began without a context though others left no room for it: it starved. One at a time (decision 0034). */
  guest: Call | undefined;
  /** From when on the next may, though this one is still there. */
  guestUntil: Millis = 0;
  /** KV blocks that run and reserve of the last batch left. */
  blocksLeft: number;
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
    this.blocksLeft = capacity.kvBlocks;
    this.queues = new LevelQueues(levelCount);
  }

  /** Calls bound to this engine that are about to be queued. */
  incomingCalls = 0;
  /** It is silent. */
  suspected = false;
  /** It is about to leave, and has said so. */
  draining = false;

  /** Whether it gets new calls. */
  get accepting(): boolean {
    return !this.suspected && !this.draining;
  }

  /** Calls in the system here, waiting and running: what "least used" compares (Algorithm 2). */
  get callCount(): number {
    return this.queues.size + this.incomingCalls;
  }

  /** Calls of run and reserve together. */
  placesMax(reserveCallsMax: number): number {
    const { batchCallsMax, residentCallsMax, preemption } = this.capacity;
    // Where a call cannot be preempted, one that filled a slot early would block who outranks it (design §5).
    const reserve = preemption === "none" ? 0 : reserveCallsMax;
    return Math.min(batchCallsMax + reserve, Math.max(residentCallsMax, 1));
  }

  /** How many calls like this one it could begin beside its own, by its last batch. */
  roomFor(call: Call, reserveCallsMax: number): number {
    const places = this.placesMax(reserveCallsMax) - this.queues.size;
    const held = this.capacity.heldCallsMax - this.startedCount;
    const memory = Math.floor(this.blocksLeft / Math.max(1, this.blocksOf(call.contextTokens, 0)));
    return Math.max(0, Math.min(places, held, memory));
  }

  /** Whether a call that has just been queued can change the plan; if not, no plan is due for it. */
  wants(call: Call, reserveCallsMax: number): boolean {
    if (this.run.length + this.reserve.length < this.placesMax(reserveCallsMax)) return true;
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
    if (call.service === NO_SERVICE) call.service = new Service();
    // It may have been here before.
    if (call.attempt > 1) {
      this.started = this.started.filter((other) => other !== call);
      this.ordered = this.ordered.filter((other) => other !== call);
    }
    this.startedCount++;
    this.started.push(call);
    this.ordered.push(call);
  }

  /** Whether its agent may hold the call. */
  has(call: Call): boolean {
    return call.planned && call.engine === this;
  }

  /** Calls that its agent may hold, in the order in which they started. */
  startedCalls(): Call[] {
    return this.started.filter((call) => this.has(call));
  }

  /** Before `startedWith`. */
  reportBegins(): void {
    this.reportPlace = 0;
    if (this.started.length > this.startedCount) this.dropLeft(this.started);
  }

  /**
   * The started call with this id. A report names them in the order in which they came, less those that have ended: so
   * it is one of the next ones, and its id need not be looked up.
   */
  startedWith(id: CallId, calls: IdTable<Call>): Call | undefined {
    const { started } = this;
    const end = Math.min(this.reportPlace + REPORT_LOOKS_MAX, started.length);
    for (let place = this.reportPlace; place < end; place++) {
      const call = started[place];
      if (call?.id !== id || !this.has(call)) continue;
      this.reportPlace = place + 1;
      return call;
    }
    const call = calls.get(id);
    return call !== undefined && this.has(call) ? call : undefined;
  }

  /**
   * Started calls by rank. Little has changed since the last batch, so sorting them again costs one pass.
   *
   * @param stamp of the batch that is formed: no call moves meanwhile.
   */
  startedInOrder(stamp: number): readonly Call[] {
    if (this.orderedFor === stamp) return this.ordered;
    this.orderedFor = stamp;
    if (this.ordered.length > this.startedCount) this.dropLeft(this.ordered);
    return this.ordered.sort(byRank);
  }

  private dropLeft(calls: Call[]): void {
    let kept = 0;
    for (const call of calls) if (this.has(call)) calls[kept++] = call;
    calls.length = kept;
  }

  /** No agent holds the call for this engine any more. */
  forget(call: Call): void {
    if (!this.has(call)) return;
    this.startedCount--;
    this.unstoppable.delete(call);
    if (this.guest === call) this.guest = undefined;
    call.planned = false;
    const slackMax = 2 * this.startedCount + LEFT_SLACK;
    if (this.started.length > slackMax) this.dropLeft(this.started);
    // Where nothing is ever parked, nobody asks for the order.
    if (this.ordered.length > slackMax) this.dropLeft(this.ordered);
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
