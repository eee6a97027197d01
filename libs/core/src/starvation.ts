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
 * Promotes every call whose time has come, as far as there are places; those of one pass in their order: how they came
 * here has none. Where a place was freed since, a plan is due, and who waits for it is promoted before that.
 */
export function promoteDue(state: State, at: Millis): void {
  const due: Call[] = [];
  const { dueAtOnce } = state;
  if (dueAtOnce.length > 0) state.dueAtOnce = [];
  for (const call of dueAtOnce) if (isDue(state, call, at)) due.push(call);
  for (let call = state.promotions.popDue(at); call; call = state.promotions.popDue(at)) {
    if (isDue(state, call, at)) due.push(call);
  }
  if (due.length > 1) due.sort(byRank);
  for (const call of due) admit(state, call, at);
  for (const engine of state.planDue) promoteStarving(state, engine, at);
  promoteStarving(state, undefined, at);
}

/** Promotes a call that is due, or has it wait for a place. */
function admit(state: State, call: Call, at: Millis): void {
  const { promoted, starving } = state.queuesOf(call);
  if (promoted.has(call) || (starving.size === 0 && promoted.size < placesOf(state, call.engine))) {
    promote(state, call, at);
    return;
  }
  call.promotionAwaited = true;
  starving.add(call);
}

/** Those that wait for a place among the promoted calls of an engine, or of those that no engine has. */
function promoteStarving(state: State, engine: Engine | undefined, at: Millis): void {
  const { promoted, starving } = engine?.queues ?? state.unbound;
  if (starving.size === 0) return;
  const promotedMax = placesOf(state, engine);
  for (const call of starving) {
    if (promoted.size >= promotedMax) return;
    starving.delete(call);
    if (isDue(state, call, at)) promote(state, call, at);
  }
}

/** Places for promoted calls of an engine; for calls that no engine has, those that engines have left. */
function placesOf(state: State, engine: Engine | undefined): number {
  const { promotedShare } = state;
  if (promotedShare === Number.POSITIVE_INFINITY) return promotedShare;
  if (engine) return Math.max(1, Math.floor(promotedShare * engine.capacity.batchCallsMax));
  let left = 0;
  for (const other of state.engines.values()) left += placesOf(state, other) - other.queues.promoted.size;
  return left;
}

/** One that was served since it was awaited is looked at again later. */
function isDue(state: State, call: Call, at: Millis): boolean {
  call.promotionAwaited = false;
  // In no queue: it has ended, or is between two attempts and will be queued again.
  if (call.level === 0 || call.list === undefined) return false;
  const dueAt = promotionDueAt(state, call, at);
  if (dueAt <= at) return true;
  awaitAt(state, call, dueAt);
  return false;
}

/** To the tail of Q1 with a fresh quantum; only the call's own W_c and T_c start again from zero. */
function promote(state: State, call: Call, at: Millis): void {
  state.unqueue(call);
  call.level = 0;
  if (call.service !== NO_SERVICE) call.service.quantumUsed = 0;
  call.promotedWaitingMs = waitedMs(call, at);
  call.promotedServiceMs = call.servedMs + call.serviceMs;
  call.order = state.takeOrder();
  state.totals.promotions++;
  state.changes?.call(call);
  state.queuesOf(call).promoted.add(call);
  state.insert(call);
  state.queued(call);
}
