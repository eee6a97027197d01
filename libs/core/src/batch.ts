/**
 * Algorithm 1, step 3 (paper §4.2.2): form the batch of one engine by walking Q1 … QK, and say where the contexts of
 * the calls that are not in it lie (paper §4.4).
 *
 * Cost is O(batch + held), never O(queued): the walk ends at the first call that finds no room.
 */
import { type Call, loseContext } from "./call.ts";
import type { Batch, Engine } from "./engine.ts";
import type { Millis } from "./ids.ts";
import { byRank, type LevelQueues } from "./queues.ts";
import { continueFrom } from "./retained.ts";

export interface BatchRules {
  at: Millis;
  /** Rises with each batch that is formed. */
  stamp: number;
  /** Steps until the next plan: every context grows by so many tokens. */
  windowSteps: number;
  reserveCallsMax: number;
  /** False while results could not be stored: calls that have not started stay queued. */
  admitsNew: boolean;
  misfit: "stop" | "skip";
  /** Calls that have contexts go before calls that would push them out of memory. */
  keepsContexts: boolean;
  /** Whether a call has waited so long that it shall begin all the same (S10). */
  starves: (call: Call) => boolean;
  /** For how long the one that began so is the only one. */
  guestTurnMs: number;
  /** Late binding: calls that no engine has yet, and how many of them this one may take. */
  unbound?: { queues: LevelQueues; takesMax: number };
}

/** Calls that do not fit which the walk passes by, with `misfit: skip`. */
export const SKIPPED_CALLS_MAX = 64;
/** Of the contexts that memory holds, what calls may have; the others are of programs between two calls. */
const CALLS_SHARE = 3 / 4;

/**
 * FCFS inside a level; a call is added while the engine can fit it, and the walk stops at the first that does not fit
 * (the paper's strict stop). Calls in `run` come first, then `reserve`; started calls in neither are parked: `keep`.
 */
export function formBatch(engine: Engine, rules: BatchRules): Batch {
  // As long as they can become: lists that grow are copied several times.
  const runCallsMax = Math.min(engine.capacity.batchCallsMax, engine.queues.size + (rules.unbound?.takesMax ?? 0));
  const batch: Batch = { run: new Array<Call>(runCallsMax), reserve: [], keep: [], unmarked: [], tiersChanged: false };
  const room = new Room(engine, rules, batch);
  const stay = engine.capacity.preemption === "none" ? engine.run : engine.unstoppable;
  for (const call of stay) if (isRunnable(call, engine) && engine.has(call) && room.hasPlace()) room.add(call);
  if (rules.unbound) {
    for (const call of merged(engine.queues, rules.unbound.queues)) if (!room.offer(call)) break;
    room.bindTaken();
  } else engine.queues.walk((call) => room.offer(call));
  room.close();
  room.park();
  room.placeIdle();
  return batch;
}

function isRunnable(call: Call, engine: Engine): boolean {
  return call.engine === engine && call.stage === "queued" && call.cancel === undefined;
}

/** Two ordered ones as one. */
function* merged(one: Iterable<Call>, other: Iterable<Call>): Generator<Call> {
  const [a, b] = [one[Symbol.iterator](), other[Symbol.iterator]()];
  let [x, y] = [a.next(), b.next()];
  while (!x.done || !y.done) {
    if (!x.done && (y.done || byRank(x.value, y.value) < 0)) {
      yield x.value;
      x = a.next();
    } else if (!y.done) {
      yield y.value;
      y = b.next();
    }
  }
}

/** What is left of one engine while its batch is formed. */
class Room {
  private readonly engine: Engine;
  private readonly rules: BatchRules;
  private readonly batch: Batch;
  private readonly taken: Call[] = [];
  private readonly batchCallsMax: number;
  private readonly placesMax: number;
  private places = 0;
  private runCalls = 0;
  private blocksLeft: number;
  private heldLeft: number;
  private takesLeft: number;
  private skipsLeft: number;
  /** How many calls that have no context may begin. */
  private newcomersLeft: number;
  private hasSuspect = false;
  private startedPlaced = 0;

  constructor(engine: Engine, rules: BatchRules, batch: Batch) {
    this.engine = engine;
    this.rules = rules;
    this.batch = batch;
    const { batchCallsMax, kvBlocks, heldCallsMax, retains } = engine.capacity;
    this.batchCallsMax = batchCallsMax;
    this.placesMax = engine.placesMax(rules.reserveCallsMax);
    this.blocksLeft = kvBlocks;
    this.heldLeft = heldCallsMax - engine.startedCount;
    this.takesLeft = rules.unbound?.takesMax ?? 0;
    this.skipsLeft = rules.misfit === "skip" ? SKIPPED_CALLS_MAX : 0;
    this.newcomersLeft = rules.keepsContexts && retains ? this.roomForNewcomers() : Number.POSITIVE_INFINITY;
  }

  /** @returns false when the walk is over. */
  offer(call: Call): boolean {
    if (call.placedIn === this.rules.stamp) return true;
    if (!this.hasPlace()) return false;
    if (call.mayHaveRun) {
      this.batch.unmarked.push(call);
      this.places++;
      return true;
    }
    // A suspect is the only suspect in its batch, so that only it is charged when the engine crashes again.
    if (call.crashes > 0 && this.hasSuspect) return true;
    if (call.planned) return this.add(call) || this.skipsLeft-- > 0;
    // What others have a claim to does not end the walk: own calls may come behind it.
    if (call.engine === undefined && this.takesLeft <= 0) return this.offerStarted();
    if (!this.rules.admitsNew || this.heldLeft <= 0) return this.offerStarted();
    const isNewcomer = call.claims === undefined;
    const isGuest = isNewcomer && this.newcomersLeft <= 0 && this.takesGuest(call);
    if (isNewcomer && this.newcomersLeft <= 0 && !isGuest) {
      if (!this.offerHolders()) return false;
      // They cannot run side by side, as suspects cannot: what they leave is nobody's.
      this.newcomersLeft = this.placesMax - this.places;
      return this.offer(call);
    }
    if (!this.add(call)) return this.skipsLeft-- > 0;
    this.heldLeft--;
    if (isNewcomer) this.newcomersLeft--;
    if (isGuest) {
      this.engine.guest = call;
      this.engine.guestUntil = this.rules.at + this.rules.guestTurnMs;
    }
    if (call.engine === undefined) {
      this.takesLeft--;
      this.taken.push(call);
    }
    return true;
  }

  /** Calls that have contexts, started or kept for them, fill the batch, or most of the memory: others wait (decision 0034). */
  private roomForNewcomers(): number {
    const { engine, rules } = this;
    const { residentCallsMax, kvBlocks, preemption, hostBlocks = 0 } = engine.capacity;
    const holders = engine.startedCount + engine.retained.heirCount;
    let blocks = engine.retained.heirBlocks;
    for (const call of engine.startedInOrder(rules.stamp)) blocks += engine.blocksOf(call.contextTokens, 0);
    const meanBlocks = Math.max(1, blocks / Math.max(1, holders));
    const host = preemption === "swap" ? hostBlocks : 0;
    const contextsMax = Math.min(residentCallsMax + host / meanBlocks, (kvBlocks + host) / meanBlocks);
    return Math.max(this.placesMax, Math.floor(CALLS_SHARE * contextsMax)) - holders;
  }

  /**
   * One at a time: were it all that starve, contexts would push each other out in overload as without the rule. But none
   * waits for the end of one that runs for long.
   */
  private takesGuest(call: Call): boolean {
    const { engine, rules } = this;
    const isFree = engine.guest === undefined || rules.at > engine.guestUntil;
    return isFree && rules.starves(call);
  }

  hasPlace(): boolean {
    return this.places < this.placesMax;
  }

  /** @returns false when the call does not fit. */
  add(call: Call): boolean {
    const blocks = this.engine.blocksOf(call.contextTokens, this.rules.windowSteps);
    if (blocks > this.blocksLeft) return false;
    this.blocksLeft -= blocks;
    this.places++;
    call.placedIn = this.rules.stamp;
    call.tier = "engine";
    if (call.planned) this.startedPlaced++;
    if (call.crashes > 0) this.hasSuspect = true;
    if (this.runCalls < this.batchCallsMax) this.batch.run[this.runCalls++] = call;
    else this.batch.reserve.push(call);
    return true;
  }

  /** The walk is over. */
  close(): void {
    this.batch.run.length = this.runCalls;
    this.engine.blocksLeft = this.blocksLeft;
  }

  /** Started calls that are in neither `run` nor `reserve`, in order. */
  park(): void {
    const { engine, rules } = this;
    const parkedMax = engine.startedCount - this.startedPlaced;
    if (parkedMax === 0) return;
    const keep = new Array<Call>(parkedMax);
    let kept = 0;
    for (const call of engine.startedInOrder(rules.stamp)) {
      if (call.placedIn !== rules.stamp && isRunnable(call, engine)) keep[kept++] = call;
    }
    keep.length = kept;
    this.batch.keep = keep;
  }

  /** Calls that were taken from those that no engine has are this engine's from here on. */
  bindTaken(): void {
    for (const call of this.taken) {
      call.list?.remove(call);
      this.rules.unbound?.queues.handOver(call, this.engine.queues);
      call.engine = this.engine;
      this.engine.queues.at(call.level).insert(call);
    }
  }

  /**
   * Where idle contexts lie: on the engine while run and reserve leave room, most valuable first; then in host memory,
   * if it swaps; else they are recomputed (S7). A context that lies in host memory comes back only to run.
   */
  placeIdle(): void {
    const { engine, batch } = this;
    const swaps = engine.capacity.preemption === "swap";
    if (engine.capacity.retains) this.continueRetained();
    let blocksLeft = this.blocksLeft;
    let contextsLeft = engine.capacity.residentCallsMax - this.places;
    let hostLeft = engine.capacity.hostBlocks ?? 0;
    let full = false;
    for (const call of batch.keep) {
      const blocks = engine.blocksOf(call.contextTokens, 0);
      let { tier } = call;
      full ||= tier === "engine" && (blocks > blocksLeft || contextsLeft <= 0);
      if (tier === "engine" && full) tier = swaps ? "host" : "none";
      if (tier === "host" && blocks > hostLeft) tier = "none";
      if (tier === "engine") {
        blocksLeft -= blocks;
        contextsLeft--;
      } else if (tier === "host") hostLeft -= blocks;
      if (tier === call.tier) continue;
      if (tier === "none") loseContext(call);
      batch.tiersChanged = true;
      call.tier = tier;
    }
    if (engine.capacity.retains) {
      engine.retained.shrink({
        engineBlocks: blocksLeft,
        engineContexts: Math.max(0, contextsLeft),
        hostBlocks: hostLeft,
        swaps,
      });
    }
  }

  private continueRetained(): void {
    for (const calls of [this.batch.run, this.batch.reserve]) {
      for (const call of calls) if (!call.planned) continueFrom(this.engine, call);
    }
  }

  /**
   * What is left of the batch goes to calls that have contexts, running or kept for them, in the same order.
   * @returns whether all were offered, and left a place.
   */
  private offerHolders(): boolean {
    const { engine, rules } = this;
    for (const call of merged(engine.startedInOrder(rules.stamp), engine.retained.heirs())) {
      if ((!call.planned || isRunnable(call, engine)) && !this.offer(call)) return false;
    }
    return this.hasPlace();
  }

  /** No new call may start: what is left of the batch goes to calls that have started, in the same order. */
  private offerStarted(): false {
    for (const call of this.engine.startedInOrder(this.rules.stamp)) {
      if (!isRunnable(call, this.engine)) continue;
      if (call.placedIn === this.rules.stamp || (call.crashes > 0 && this.hasSuspect)) continue;
      if (this.places >= this.placesMax || !this.add(call)) break;
    }
    return false;
  }
}
