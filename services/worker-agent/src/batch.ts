/**
 * Which calls the next step advances, and which contexts make room for them. The plan decides; this only applies it to
 * what can run right now, so that the engine never waits for the scheduler.
 *
 * Contexts move lazily (paper §4.4): one that is in nobody's way stays where it is, and when room is needed the least
 * valuable goes first, to the host tier where that is worth it, else nowhere.
 */
import type { Tier } from "@autellix/protocol";

/** A context of a call that is not in the batch. */
export interface Idle {
  /** Tokens whose KV is on the engine. */
  readonly contextTokens: number;
  /** Tokens whose KV lies in the host tier. */
  readonly hostTokens: number;
  /** Where the plan would have it; undefined: it does not say. */
  readonly tier: Tier | undefined;
  /** The engine would not take it to the host tier. */
  readonly swapRefused: boolean;
}

export interface Candidate extends Idle {
  /** It can be stepped now, or as soon as its context is back on the engine. */
  readonly ready: boolean;
  /** It will be ready in a moment: its slot is kept for it. */
  readonly comes: boolean;
  /** It was stepped and cannot be stopped: it keeps its slot until it ends. */
  readonly stays: boolean;
  /** Context that it needs to take part in a step. */
  readonly neededTokens: number;
}

/** The calls of a plan that are held and not ended, in the plan's order. */
export interface Candidates<C extends Candidate> {
  /** Length of the plan's `run`: a slot whose call has ended is filled, a batch is never made larger than planned. */
  slots: number;
  run: readonly C[];
  reserve: readonly C[];
  keep: readonly C[];
}

/** Contexts without a call that could run. */
export interface Others<R extends Idle> {
  /** Of ended calls, most valuable first; those that no plan has named yet come last. */
  retained: readonly R[];
  /** Contexts that can neither be moved nor dropped now. */
  fixed: readonly { contextTokens: number; hostTokens: number }[];
}

export interface ContextLimits {
  batchCallsMax: number;
  residentCallsMax: number;
  kvBlocks: number;
  blockTokens: number;
  hostBlocks?: number | undefined;
}

export interface Arrangement<C, R> {
  /** In the plan's order. Those whose context is in `swapIn` can be stepped once it is back. */
  batch: C[];
  /** To drop, wherever they lie. */
  drop: (C | R)[];
  /** To the host tier: room that the batch and `swapIn` need. */
  swapOut: (C | R)[];
  /** Back to the engine: calls of the batch, and as far as there is room those that come next. */
  swapIn: C[];
}

/**
 * Slots go to `run`, then to `reserve`, then to parked calls, in the plan's order; a call that does not fit is passed
 * over. Other contexts stay where they are while there is room, most valuable first.
 *
 * @param isWorthMoving whether a context of so many tokens is moved for less than what recomputing it costs.
 */
export function arrange<C extends Candidate, R extends Idle>(
  candidates: Candidates<C>,
  others: Others<R>,
  limits: ContextLimits,
  isWorthMoving: (tokens: number) => boolean,
): Arrangement<C, R> {
  const room = new Room(limits);
  for (const { contextTokens } of others.fixed) if (contextTokens > 0) room.take(contextTokens);
  const batch = chooseBatch(candidates, limits, room);
  const inBatch = new Set<C>(batch);
  const next = [...candidates.run, ...candidates.reserve].filter((call) => !inBatch.has(call));
  const parked = candidates.keep.filter((call) => !inBatch.has(call));
  const swapIn = batch.filter((call) => call.hostTokens > 0);
  const victims = new Set<C | R>();
  const stay = (contexts: readonly (C | R)[]) => {
    for (const context of contexts) {
      if (context.contextTokens > 0 && !room.take(context.contextTokens)) victims.add(context);
    }
  };
  stay(next);
  stay(parked.filter((call) => !isPlannedElsewhere(call)));
  stay(others.retained.filter((context) => !isPlannedElsewhere(context)));
  // In front of what the scheduler has put elsewhere: it has counted the room of these calls as taken.
  for (const call of next) if (call.ready && call.hostTokens > 0 && room.take(call.neededTokens)) swapIn.push(call);
  stay([...parked, ...others.retained].filter(isPlannedElsewhere));
  const result: Arrangement<C, R> = { batch, swapIn, swapOut: [], drop: [] };
  if (victims.size === 0) return result;
  const ranked = [...next, ...parked, ...others.retained];
  const host = new HostRoom<C | R>(ranked, new Set(swapIn), others.fixed, limits);
  for (const victim of ranked) {
    if (!victims.has(victim)) continue;
    const moves = victim.tier !== "none" && !victim.swapRefused && isWorthMoving(victim.contextTokens);
    const dropped = moves ? host.take(victim) : undefined;
    if (dropped === undefined) result.drop.push(victim);
    else {
      result.drop.push(...dropped);
      result.swapOut.push(victim);
    }
  }
  // Least valuable first, as the room is needed.
  result.drop.reverse();
  result.swapOut.reverse();
  return result;
}

/** Where the plan has it no longer on the engine, or has not said so. */
function isPlannedElsewhere({ tier }: Idle): boolean {
  return tier === "host" || tier === "none";
}

function chooseBatch<C extends Candidate>(
  { slots, run, reserve, keep }: Candidates<C>,
  { batchCallsMax }: ContextLimits,
  room: Room,
): C[] {
  const all = [...run, ...reserve, ...keep];
  const taken = new Set<C>();
  for (const call of all) {
    if (call.stays && call.ready && taken.size < batchCallsMax && room.take(call.neededTokens)) taken.add(call);
  }
  let free = Math.max(0, Math.min(slots, batchCallsMax) - taken.size);
  const offer = (call: C, isWaitedFor: boolean) => {
    if (free === 0 || taken.has(call)) return;
    if (call.ready && room.take(call.neededTokens)) {
      taken.add(call);
      free--;
      // Nothing is parked in place of a call that is on its way, or a short fetch would start somebody else's prompt.
    } else if (isWaitedFor && call.comes) free--;
  };
  for (const call of run) offer(call, true);
  for (const call of reserve) offer(call, true);
  for (const call of keep) offer(call, false);
  return all.filter((call) => taken.has(call));
}

/** Most valuable first: what is worth less makes room for it in the host tier. */
class HostRoom<X extends Idle> {
  #blocksLeft: number;
  /** Contexts that may be dropped, most valuable first. */
  readonly #contexts: X[];
  readonly #valueOf: ReadonlyMap<X, number>;
  readonly #limits: ContextLimits;

  constructor(
    ranked: readonly X[],
    comeBack: ReadonlySet<X>,
    fixed: readonly { hostTokens: number }[],
    limits: ContextLimits,
  ) {
    this.#limits = limits;
    this.#valueOf = new Map(ranked.map((context, place) => [context, place]));
    this.#contexts = ranked.filter((context) => context.hostTokens > 0 && !comeBack.has(context));
    this.#blocksLeft = limits.hostBlocks ?? 0;
    for (const { hostTokens } of [...fixed, ...comeBack, ...this.#contexts])
      this.#blocksLeft -= blocksOf(hostTokens, limits);
  }

  /** @returns what must be dropped for it; undefined when it is itself worth the least, or too large. */
  take(context: X): X[] | undefined {
    const blocks = blocksOf(context.contextTokens, this.#limits);
    const drop: X[] = [];
    let left = this.#blocksLeft;
    for (let i = this.#contexts.length - 1; left < blocks; i--) {
      const least = this.#contexts[i];
      if (least === undefined || this.#value(least) < this.#value(context)) return undefined;
      drop.push(least);
      left += blocksOf(least.hostTokens, this.#limits);
    }
    this.#contexts.length -= drop.length;
    this.#blocksLeft = left - blocks;
    return drop;
  }

  #value(context: X): number {
    return this.#valueOf.get(context) ?? Number.POSITIVE_INFINITY;
  }
}

/** A call that fills the whole engine must still get its last token. */
export function blocksOf(tokens: number, { blockTokens, kvBlocks }: { blockTokens: number; kvBlocks: number }): number {
  return Math.min(Math.ceil(tokens / blockTokens), kvBlocks);
}

/** What is left of the engine's contexts. */
class Room {
  #calls: number;
  #blocks: number;
  readonly #limits: ContextLimits;

  constructor(limits: ContextLimits) {
    this.#calls = limits.residentCallsMax;
    this.#blocks = limits.kvBlocks;
    this.#limits = limits;
  }

  take(tokens: number): boolean {
    const blocks = blocksOf(tokens, this.#limits);
    if (this.#calls < 1 || this.#blocks < blocks) return false;
    this.#calls--;
    this.#blocks -= blocks;
    return true;
  }
}
