/**
 * Anti-starvation (paper §4.2.2, Algorithm 1): a call whose program has waited β times as long as it was served goes to
 * the tail of Q1. W_p and T_p are frozen at the call's arrival and T_c does not grow while it waits, so the moment is
 * known beforehand: a heap of due times, never a scan.
 *
 * Not in the paper: an engine has places for so many promoted calls, and the others wait for one, longest due first
 * (decision 0038).
 */
import { type Call, NO_SERVICE, waitedMs } from "./call.ts";
import type { Engine } from "./engine.ts";
import type { Millis } from "./ids.ts";
import { byRank } from "./queues.ts";
import type { State } from "./state.ts";

/** When the ratio reaches β if the call is not served until then. */
export function promotionDueAt(state: State, call: Call, at: Millis): Millis {
  const ofProgram = state.config.policy.starvation === "program";
  const waitingMs = (ofProgram ? call.pathWaitingMs : 0) + waitedMs(call, at) - call.promotedWaitingMs;
  const serviceMs = (ofProgram ? call.pathServiceMs : 0) + call.servedMs + call.serviceMs - call.promotedServiceMs;
  return at + state.beta * Math.max(serviceMs, state.betaFloorMs) - waitingMs;
}

/** Whether it was promoted, or waits in the level where it came in for as long as a call waits that is promoted. */
export function starves(state: State, call: Call, at: Millis): boolean {
  return call.promotedWaitingMs > 0 || promotionDueAt(state, call, at) <= at;
}

/** The call entered a level below Q1: from here on its promotion is awaited. */
export function awaitPromotion(state: State, call: Call, at: Millis): void {
  if (call.level === 0 || call.promotionAwaited || !state.promotes) return;
  const dueAt = promotionDueAt(state, call, at);
  if (dueAt > at) {
    awaitAt(state, call, dueAt);
    return;
  }
  // In overload this is the rule, and the heap would move all of its levels for it.
  call.promotionAwaited = true;
  state.dueAtOnce.push(call);
}

/** It does not starve until then: one that was promoted leaves its place to others. */
function awaitAt(state: State, call: Call, dueAt: Millis): void {
  state.queuesOf(call).promoted.delete(call);
  state.awaitPromotionAt(dueAt, call);
}

/**
 * Promotes every call whose time has come, as far as there are places. Where a place was freed since, a plan is due, and
 * who waits for it is promoted before that.
 */
export function promoteDue(state: State, at: Millis): void {
  const due: Due[] = [];
  const look = (call: Call) => {
    const since = dueSince(state, call, at);
    if (since !== undefined) due.push({ call, since });
  };
  const { dueAtOnce } = state;
  if (dueAtOnce.length > 0) state.dueAtOnce = [];
  for (const call of dueAtOnce) look(call);
  for (let call = state.promotions.popDue(at); call; call = state.promotions.popDue(at)) look(call);
  // How they came here has no order. Where they wait for places, who is due longest goes first; the paper has no places.
  const isLimited = state.promotedShare !== Number.POSITIVE_INFINITY;
  if (due.length > 1) due.sort((a, b) => (isLimited ? a.since - b.since : 0) || byRank(a.call, b.call));
  const engines = new Set(state.planDue);
  const looked = new Set<Call>();
  for (const { call } of due) {
    awaitPlace(state, call, at);
    looked.add(call);
    if (call.engine) engines.add(call.engine);
  }
  promoteStarving(state, engines, looked, at);
}

interface Due {
  call: Call;
  /** The time that had come. */
  since: Millis;
}

/** A call that is due takes its place in the row, or is promoted at once where it keeps its place among the promoted. */
function awaitPlace(state: State, call: Call, at: Millis): void {
  const { promoted, starving } = state.queuesOf(call);
  const order = state.takeOrder();
  if (promoted.has(call)) {
    promote(state, call, order, at);
    return;
  }
  call.promotionAwaited = true;
  starving.add(call, order);
}

/**
 * Those that wait for a place among the promoted calls of these engines, and those that no engine has.
 *
 * @param looked whose time has come, as was just seen.
 */
function promoteStarving(state: State, engines: Iterable<Engine>, looked: ReadonlySet<Call>, at: Millis): void {
  const { unbound } = state;
  let left = placesLeft(state);
  const take = (call: Call) => {
    const order = call.starvingOrder;
    state.queuesOf(call).starving.remove(call);
    call.promotionAwaited = false;
    // It may have been served since it came into the row.
    if (!looked.has(call) && dueSince(state, call, at) === undefined) return;
    promote(state, call, order, at);
    left--;
  };
  for (const engine of engines) {
    while (left > 0) {
      const own = placesOf(state, engine) > engine.queues.promoted.size ? engine.queues.starving.first() : undefined;
      const first = earlier(own, unbound.starving.first());
      if (first === undefined) break;
      take(first);
    }
  }
  for (let first = unbound.starving.first(); first && left > 0; first = unbound.starving.first()) take(first);
}

function earlier(a: Call | undefined, b: Call | undefined): Call | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a.starvingOrder < b.starvingOrder ? a : b;
}

/** A promoted call has left its queues: who waits for a place, and may have it now, gets it with the next plan. */
export function wantPromotions(state: State): void {
  const isLateDue = state.unbound.starving.size > 0;
  const waiting = [...state.engines.values()].filter((engine) => isLateDue || engine.queues.starving.size > 0);
  if (waiting.length === 0 || placesLeft(state) <= 0) return;
  for (const engine of waiting) state.wantPlan(engine);
}

function placesOf({ promotedShare }: State, { capacity }: Engine): number {
  return Math.max(1, Math.floor(promotedShare * capacity.batchCallsMax));
}

/**
 * Places for promoted calls that nobody has. Calls without an engine have taken theirs too, between two attempts or
 * bound late: wherever they go they are promoted.
 */
function placesLeft(state: State): number {
  if (state.promotedShare === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
  let left = -state.unbound.promoted.size;
  for (const engine of state.engines.values())
    left += Math.max(0, placesOf(state, engine) - engine.queues.promoted.size);
  return left;
}

/** @returns when the call was due; undefined when it is not: one that was served since it was awaited is looked at again later. */
function dueSince(state: State, call: Call, at: Millis): Millis | undefined {
  call.promotionAwaited = false;
  // In no queue: it has ended, or is between two attempts and will be queued again.
  if (call.level === 0 || call.list === undefined) return undefined;
  const dueAt = promotionDueAt(state, call, at);
  if (dueAt <= at) return dueAt;
  awaitAt(state, call, dueAt);
  return undefined;
}

/**
 * To Q1 with a fresh quantum, behind who was there when it was due; only the call's own W_c and T_c start again from zero.
 */
function promote(state: State, call: Call, order: number, at: Millis): void {
  state.unqueue(call);
  call.level = 0;
  if (call.service !== NO_SERVICE) call.service.quantumUsed = 0;
  call.promotedWaitingMs = waitedMs(call, at);
  call.promotedServiceMs = call.servedMs + call.serviceMs;
  call.order = order;
  state.totals.promotions++;
  state.changes?.call(call);
  state.queuesOf(call).promoted.add(call);
  state.insert(call);
  state.queued(call);
}
