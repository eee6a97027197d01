/**
 * Algorithm 1, step 3 (paper §4.2.2): form the batch of one engine by walking Q1 … QK.
 *
 * Cost is O(batch + held), never O(queued): the walk ends at the first call that finds no room.
 */
import type { Call } from "./call.ts";
import type { Batch, Engine } from "./engine.ts";
import { byRank } from "./queues.ts";

export interface BatchRules {
  /** Steps until the next plan: every context grows by so many tokens. */
  windowSteps: number;
  reserveCallsMax: number;
  /** False while results could not be stored: calls that have not started stay queued. */
  admitsNew: boolean;
}

/**
 * FCFS inside a level; a call is added while the engine can fit it, and the walk stops at the first that does not fit
 * (the paper's strict stop). Calls in `run` come first, then `reserve`; started calls in neither are parked: `keep`.
 */
export function formBatch(engine: Engine, rules: BatchRules): Batch {
  const batch: Batch = { run: [], reserve: [], keep: [], unmarked: [] };
  const room = new Room(engine, rules, batch);
  if (engine.capacity.preemption === "none") {
    for (const call of engine.run) if (isRunnable(call, engine) && engine.started.has(call)) room.add(call);
  }
  for (const call of engine.queues.walk()) {
    if (!room.offer(call)) break;
  }
  const placed = new Set([...batch.run, ...batch.reserve]);
  batch.keep = [...engine.started].filter((call) => isRunnable(call, engine) && !placed.has(call)).sort(byRank);
  return batch;
}

function isRunnable(call: Call, engine: Engine): boolean {
  return call.engine === engine && call.stage === "queued" && call.cancel === undefined;
}

/** What is left of one engine while its batch is formed. */
class Room {
  private readonly engine: Engine;
  private readonly rules: BatchRules;
  private readonly batch: Batch;
  private readonly placed = new Set<Call>();
  private readonly placesMax: number;
  private blocksLeft: number;
  private heldLeft: number;
  private hasSuspect = false;

  constructor(engine: Engine, rules: BatchRules, batch: Batch) {
    this.engine = engine;
    this.rules = rules;
    this.batch = batch;
    const { batchCallsMax, residentCallsMax, kvBlocks, heldCallsMax, preemption } = engine.capacity;
    // Where a call cannot be preempted, one that filled a slot early would block who outranks it (design §5).
    const reserveCallsMax = preemption === "none" ? 0 : rules.reserveCallsMax;
    this.placesMax = Math.min(batchCallsMax + reserveCallsMax, Math.max(residentCallsMax, 1));
    this.blocksLeft = kvBlocks;
    this.heldLeft = heldCallsMax - engine.started.size;
  }

  /** @returns false when the walk is over. */
  offer(call: Call): boolean {
    if (this.placed.has(call)) return true;
    if (this.taken() >= this.placesMax) return false;
    if (call.mayHaveRun) {
      this.batch.unmarked.push(call);
      return true;
    }
    // A suspect is the only suspect in its batch, so that only it is charged when the engine crashes again.
    if (call.crashes > 0 && this.hasSuspect) return true;
    if (!this.engine.started.has(call)) {
      if (!this.rules.admitsNew || this.heldLeft <= 0) return this.offerStarted();
      this.heldLeft--;
    }
    return this.add(call);
  }

  /** @returns false when the call does not fit: the strict stop. */
  add(call: Call): boolean {
    const blocks = this.engine.blocksOf(call, this.rules.windowSteps);
    if (blocks > this.blocksLeft) return false;
    this.blocksLeft -= blocks;
    this.placed.add(call);
    if (call.crashes > 0) this.hasSuspect = true;
    const list = this.batch.run.length < this.engine.capacity.batchCallsMax ? this.batch.run : this.batch.reserve;
    list.push(call);
    return true;
  }

  /** No new call may start: what is left of the batch goes to calls that have started, in the same order. */
  private offerStarted(): false {
    const started = [...this.engine.started].filter((call) => isRunnable(call, this.engine)).sort(byRank);
    for (const call of started) {
      if (this.placed.has(call) || (call.crashes > 0 && this.hasSuspect)) continue;
      if (this.taken() >= this.placesMax || !this.add(call)) break;
    }
    return false;
  }

  private taken(): number {
    return this.placed.size + this.batch.unmarked.length;
  }
}
