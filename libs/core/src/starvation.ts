/**
 * Anti-starvation (paper §4.2.2, Algorithm 1): a call whose program has waited β times as long as it was served goes to
 * the tail of Q1. W_p and T_p are frozen at the call's arrival and T_c does not grow while it waits, so the moment is
 * known beforehand: a heap of due times, never a scan.
 */
import { type Call, NO_SERVICE, waitedMs } from "./call.ts";
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
    state.awaitPromotionAt(dueAt, call);
    return;
  }
  // In overload this is the rule, and the heap would move all of its levels for it.
  call.promotionAwaited = true;
  state.starving.push(call);
}

/** Promotes every call whose time has come, those of one pass in their order: how they came here has none. */
export function promoteDue(state: State, at: Millis): void {
  const due: Call[] = [];
  const { starving } = state;
  if (starving.length > 0) state.starving = [];
  for (const call of starving) if (isDue(state, call, at)) due.push(call);
  for (let call = state.promotions.popDue(at); call; call = state.promotions.popDue(at)) {
    if (isDue(state, call, at)) due.push(call);
  }
  if (due.length > 1) due.sort(byRank);
  for (const call of due) promote(state, call, at);
}

/** One that was served since it was awaited is looked at again later. */
function isDue(state: State, call: Call, at: Millis): boolean {
  call.promotionAwaited = false;
  // In no queue: it has ended, or is between two attempts and will be queued again.
  if (call.level === 0 || call.list === undefined) return false;
  const dueAt = promotionDueAt(state, call, at);
  if (dueAt <= at) return true;
  state.awaitPromotionAt(dueAt, call);
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
  state.insert(call);
  state.queued(call);
}
