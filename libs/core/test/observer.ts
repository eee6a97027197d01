/**
 * Follows one leader from input to input and checks what Algorithm 1 may do to a call: where it enters, when it is
 * demoted, when it is promoted (S10), and that a program's sums only grow and count each call once (S8). It keeps
 * counters of its own, taken from what the core was told.
 */
import type { Call } from "../src/call.ts";
import type { Engine } from "../src/engine.ts";
import {
  type CoreConfig,
  type Input,
  type Ladder,
  PROMOTED_SHARE,
  type SavedEntry,
  type Scheduler,
} from "../src/index.ts";
import type { LevelQueues } from "../src/queues.ts";
import { IN_NO_ROW } from "../src/starving-row.ts";
import { checkQueues, stateOf } from "./checkers.ts";

interface Followed {
  level: number;
  order: number;
  /** All service when it entered its level. */
  servedAtEntry: number;
  /** W_p and T_p at its arrival. */
  pathWaitingMs: number;
  pathServiceMs: number;
  /** W_c and T_c at its last promotion. */
  promotedWaitingMs: number;
  promotedServiceMs: number;
  /** The last place that had been given to any call when it was not due yet. */
  orderBeforeDue: number;
  /** It came to Q1 by promotion and was not demoted since. */
  inQ1Promoted: boolean;
  /** Its context lies nowhere; what it was served when that began, and the turn that it has a claim to since. */
  isLost: boolean;
  servedAtLoss: number;
  turn: number;
  attempt: number;
}

/** Enqueue number of a call that has not been in a queue. */
const NOT_QUEUED = -1;
/** Due times are sums of floating point numbers. */
const EPSILON = 1e-6;

/** A parked call whose context is dropped has a claim to a turn twice as long as what was lost with it. */
function followLoss(call: Call, followed: Followed): void {
  const served = servedOf(call);
  const isLost = call.tier === "none";
  if (call.attempt !== followed.attempt) Object.assign(followed, { turn: 0, servedAtLoss: served });
  else if (isLost && !followed.isLost) {
    followed.turn = 2 * (served - followed.servedAtLoss);
    followed.servedAtLoss = served;
  }
  Object.assign(followed, { isLost, attempt: call.attempt });
}

export class Observer {
  private readonly scheduler: Scheduler;
  private readonly config: CoreConfig;
  private readonly followed = new Map<Call, Followed>();
  /** Who had a place among the promoted calls before the input. */
  private readonly promotedBefore = new Set<Call>();
  /** Those of them that no engine had. */
  private unboundBefore: ReadonlySet<Call> = new Set();
  private paths = { pathWaitingMs: 0, pathServiceMs: 0 };
  private lastOrder = NOT_QUEUED;
  private leading = false;

  constructor(scheduler: Scheduler, config: CoreConfig) {
    this.scheduler = scheduler;
    this.config = config;
  }

  before(input: Input): void {
    this.promotedBefore.clear();
    this.unboundBefore = new Set(stateOf(this.scheduler).unbound.promoted);
    const { engines, unbound } = stateOf(this.scheduler);
    for (const queues of [unbound, ...[...engines.values()].map((engine) => engine.queues)])
      for (const call of queues.promoted) this.promotedBefore.add(call);
    if (input.kind !== "callArrived") return;
    const { pathWaitingMs = 0, pathServiceMs = 0 } = this.scheduler.program(input.call.program) ?? {};
    this.paths = { pathWaitingMs, pathServiceMs };
  }

  after(input: Input): void {
    const state = stateOf(this.scheduler);
    this.leading ||= input.kind === "leaderStarted";
    checkQueues(state);
    const orders: number[] = [];
    for (const call of state.calls.values()) {
      const known = this.followed.get(call);
      const followed = known ?? this.follow(call);
      // What it was served under an earlier leader is in no quantum of this one.
      if (input.kind === "leaderStarted") followed.servedAtEntry = servedOf(call);
      if (known && call.level !== known.level) this.move(call, known, input);
      if (call.stage !== "gathered" && call.order !== followed.order) {
        followed.order = call.order;
        // Who was promoted is behind those that had come when it was due, in `move`.
        if (call.list && !followed.inQ1Promoted) orders.push(call.order);
      }
      this.checkQuantum(call, followed, input);
      followLoss(call, followed);
    }
    for (const order of orders)
      if (order <= this.lastOrder) throw new Error("Alg. 1: a call has moved, but not to the tail");
    this.lastOrder = Math.max(this.lastOrder, ...orders);
    this.checkStarving(input);
    this.checkPins();
    this.checkDeadlines(input);
  }

  /** The level that a new call enters is the one whose half-open range holds what it inherits. */
  private follow(call: Call): Followed {
    const level = this.scheduler.ladder[call.level];
    if (!level || call.inherited < level.lo || call.inherited >= level.hi)
      throw new Error(`Alg. 1: ${call.id} inherits ${call.inherited} and enters Q${call.level + 1}`);
    const servedAtEntry = servedOf(call);
    const fresh = { promotedWaitingMs: 0, promotedServiceMs: 0, inQ1Promoted: false, orderBeforeDue: NOT_QUEUED };
    const unlost = { isLost: call.tier === "none", servedAtLoss: servedAtEntry, turn: 0, attempt: call.attempt };
    const followed = { level: call.level, order: NOT_QUEUED, servedAtEntry, ...this.paths, ...fresh, ...unlost };
    this.followed.set(call, followed);
    return followed;
  }

  private move(call: Call, followed: Followed, input: Input): void {
    const served = servedOf(call);
    if (call.level === followed.level + 1) {
      const quantum = this.fixedLadder()?.[followed.level]?.quantum;
      if (quantum !== undefined && served - followed.servedAtEntry < quantum)
        throw new Error(`Alg. 1: ${call.id} is demoted after ${served - followed.servedAtEntry} of ${quantum}`);
      followed.inQ1Promoted = false;
    } else if (call.level === 0) {
      const { waiting, needed } = this.ratio(call, followed, input.at);
      if (waiting < needed - EPSILON)
        throw new Error(`S10: ${call.id} is promoted after ${waiting} of ${needed} ms of waiting`);
      const { promoted } = stateOf(this.scheduler).queuesOf(call);
      // Bound late, promoted ones may come to an engine in the same moment.
      const isBoundLate = this.config.binding === "late" || call.engine === undefined;
      if (!isBoundLate && !this.promotedBefore.has(call) && promoted.size > this.promotedMax(call.engine))
        throw new Error(`S10: ${call.id} is promoted as one of ${promoted.size}`);
      // The plan may have sent others for their markers since, of an engine that had more than its places.
      const sent = [...stateOf(this.scheduler).unbound.promoted].filter((other) => !this.unboundBefore.has(other));
      if (!this.promotedBefore.has(call) && this.placesLeft() + sent.length < 0)
        throw new Error(`S10: ${call.id} is promoted where others, on their way to an engine, have the places`);
      followed.promotedWaitingMs = waitedOf(call, input.at);
      followed.promotedServiceMs = served;
      followed.inQ1Promoted = true;
    } else throw new Error(`Alg. 1: ${call.id} moves from Q${followed.level + 1} to Q${call.level + 1}`);
    if (call.service.quantumUsed !== 0)
      throw new Error(`Alg. 1: ${call.id} has no fresh quantum in Q${call.level + 1}`);
    if (call.level === 0 && call.order <= followed.orderBeforeDue)
      throw new Error(`Alg. 1: ${call.id} is promoted before who had come to Q1 when it was due`);
    if (call.order === followed.order) throw new Error(`Alg. 1: ${call.id} is not at the tail of Q${call.level + 1}`);
    followed.level = call.level;
    followed.servedAtEntry = served;
  }

  /** Who has used up its quantum is demoted when that is reported; QK keeps its calls. */
  private checkQuantum(call: Call, followed: Followed, input: Input): void {
    const ladder = this.fixedLadder();
    if (!ladder || !call.list || input.kind !== "reported" || call.level === ladder.length - 1) return;
    const isNamed = input.report.calls.some(
      (reported) => reported.call === call.id && reported.attempt === call.attempt,
    );
    const used = servedOf(call) - followed.servedAtEntry;
    if (servedOf(call) - followed.servedAtLoss < followed.turn) return;
    if (isNamed && call.engine?.id === input.report.engine && used >= (ladder[call.level]?.quantum ?? 0))
      throw new Error(`Alg. 1: ${call.id} has used ${used} in Q${call.level + 1} and is not demoted`);
  }

  /** S10: after a pass nobody below Q1 has waited for β · max(T, floor), but where all places for such calls are taken. */
  private checkStarving(input: Input): void {
    if (!this.leading || (input.kind !== "planDue" && input.kind !== "timePassed")) return;
    const state = stateOf(this.scheduler);
    for (const [call, followed] of this.followed) {
      if (state.calls.get(call.id) !== call) this.followed.delete(call);
      else if (call.list && call.level > 0 && this.promotes()) {
        const { waiting, needed } = this.ratio(call, followed, input.at);
        const { promoted } = state.queuesOf(call);
        const hasPlace =
          promoted.has(call) ||
          (this.placesLeft() > 0 && (!call.engine || promoted.size < this.promotedMax(call.engine)));
        const { engine } = call;
        // A place that was freed since is given away with the next plan; who was just bound late may run before that.
        const isServed = engine && [...engine.run, ...engine.reserve].includes(call);
        const isPlanDue = engine ? state.planDue.has(engine) : state.planDue.size > 0;
        // One that was served in its row, and is due again, has kept its turn.
        if (waiting < needed - EPSILON && !isInRow(state.queuesOf(call), call))
          followed.orderBeforeDue = this.lastOrder;
        if (waiting > needed + EPSILON && hasPlace && !isServed && !isPlanDue)
          throw new Error(`S10: ${call.id} has waited ${waiting}, more than ${needed}`);
      }
    }
    this.checkPromoted();
  }

  /** Who has one of those places is there, starves, and is counted where it is queued. */
  private checkPromoted(): void {
    const state = stateOf(this.scheduler);
    for (const queues of [state.unbound, ...[...state.engines.values()].map((engine) => engine.queues)]) {
      for (const call of queues.promoted)
        if (state.calls.get(call.id) !== call || call.stage === "closing" || state.queuesOf(call) !== queues)
          throw new Error(`S10: ${call.id} has left and keeps a place among the promoted`);
    }
    for (const [call, { inQ1Promoted }] of this.followed)
      if (inQ1Promoted && call.list && !state.queuesOf(call).promoted.has(call))
        throw new Error(`S10: ${call.id} is promoted and has no place for it`);
  }

  private promotedMax(engine: Engine | undefined): number {
    const { promotedShare = PROMOTED_SHARE } = this.config;
    if (!engine) return this.placesLeft();
    return Math.max(1, Math.floor(promotedShare * engine.capacity.batchCallsMax));
  }

  /** Places for promoted calls that engines have left, less those of promoted calls that no engine has. */
  private placesLeft(): number {
    const { engines, unbound } = stateOf(this.scheduler);
    if (this.config.promotedShare === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
    let left = -unbound.promoted.size;
    for (const engine of engines.values()) left += Math.max(0, this.promotedMax(engine) - engine.queues.promoted.size);
    return left;
  }

  /** Algorithm 2: nobody is pinned to an engine that has left. */
  private checkPins(): void {
    if (!this.leading) return;
    const { engines, table } = stateOf(this.scheduler);
    for (const { id, pin } of table.all())
      if (pin !== undefined && !engines.has(pin)) throw new Error(`Alg. 2: ${id} is pinned to ${pin}, which has left`);
  }

  /** Whose deadline has passed is ended, or will be as soon as its agent or its marker has answered. */
  private checkDeadlines(input: Input): void {
    if (!this.leading || input.kind !== "timePassed") return;
    for (const call of stateOf(this.scheduler).calls.values())
      if (call.deadlineAt <= input.at && call.cancel === undefined && call.stage !== "closing")
        throw new Error(`deadline: ${call.id} should have ended at ${call.deadlineAt}`);
  }

  private promotes(): boolean {
    return this.config.policy.starvation !== "none" && this.config.beta !== Number.POSITIVE_INFINITY;
  }

  /** W_p + W_c, and β · max(T_p + T_c, floor). */
  private ratio(call: Call, followed: Followed, at: number): { waiting: number; needed: number } {
    const { beta, betaFloorMs } = stateOf(this.scheduler);
    const ofProgram = this.config.policy.starvation === "program" ? 1 : 0;
    const waiting = ofProgram * followed.pathWaitingMs + waitedOf(call, at) - followed.promotedWaitingMs;
    const service = ofProgram * followed.pathServiceMs + servedOf(call) - followed.promotedServiceMs;
    return { waiting, needed: beta * Math.max(service, betaFloorMs) };
  }

  /** Where service is time and the ladder does not move: there the quantum can be counted from outside. */
  private fixedLadder(): Ladder | undefined {
    const { policy, ladder } = this.config;
    if (policy.measures !== "time") return undefined;
    const chosen = policy.ladder === "configured" ? ladder : policy.ladder;
    return "first" in chosen ? undefined : chosen;
  }
}

function servedOf(call: Call): number {
  return call.servedMs + call.serviceMs;
}

function waitedOf(call: Call, at: number): number {
  return Math.max(0, at - call.arrivedAt - servedOf(call));
}

/** S8 over all leaders: sums never fall, and each ended call is charged once. */
export class Ledger {
  private readonly config: CoreConfig;
  private readonly entries = new Map<string, SavedEntry>();
  private readonly charged = new Set<string>();

  constructor(config: CoreConfig) {
    this.config = config;
  }

  saved(): Iterable<SavedEntry> {
    return this.entries.values();
  }

  save(entry: SavedEntry): void {
    const before = this.entries.get(entry.program);
    this.entries.set(entry.program, { ...entry, engines: [...entry.engines], charged: [...entry.charged] });
    const growing = ["serviceMs", "waitingMs", "pathServiceMs", "pathWaitingMs", "endedCalls"] as const;
    for (const sum of growing)
      if (entry[sum] < (before?.[sum] ?? 0)) throw new Error(`S8: ${sum} of ${entry.program} falls`);
    // Forgetting is what las-decay is for.
    if (this.config.policy.name !== "las-decay" && entry.attained < (before?.attained ?? 0))
      throw new Error(`S8: attained service of ${entry.program} falls`);
    this.checkCharge(before ?? { serviceMs: 0, endedCalls: 0 }, entry);
  }

  private checkCharge(before: Pick<SavedEntry, "serviceMs" | "endedCalls">, entry: SavedEntry): void {
    const last = entry.charged.at(-1);
    if (entry.endedCalls === before.endedCalls) {
      if (entry.serviceMs !== before.serviceMs) throw new Error(`S8: ${entry.program} is charged for no call`);
      return;
    }
    if (last === undefined || entry.endedCalls !== before.endedCalls + 1)
      throw new Error(`S8: ${entry.program} is charged for more than one call at once`);
    if (this.charged.has(last)) throw new Error(`S8: ${last} is charged twice`);
    this.charged.add(last);
  }
}

function isInRow({ starving }: LevelQueues, call: Call): boolean {
  if (call.starvingOrder === IN_NO_ROW) return false;
  for (const other of starving) if (other === call) return true;
  return false;
}
