/** How calls end: finished by an agent, cancelled, expired, refused, dead. A call ends in exactly one way (S1). */
import { closeCall, closeCancelled, nextAttempt } from "./attempts.ts";
import { type Call, waitedMs } from "./call.ts";
import type { CancelCause, FinishedCall, Input } from "./contract.ts";
import type { Engine } from "./engine.ts";
import type { CallId, Millis } from "./ids.ts";
import { promoteDue } from "./starvation.ts";
import type { State } from "./state.ts";

/** Programs looked at for being stale per input: a bound on one input's work. */
const IDLE_LOOKS_MAX = 100;

/**
 * A terminal record is stored: charge the program once, ack.
 *
 * @param engine whose agent says so, and where the context lies: not always the one that the call is queued on.
 */
export function finishCall(
  state: State,
  call: Call,
  finished: FinishedCall,
  at: Millis,
  engine: Engine | undefined,
): void {
  const { program } = call;
  const { policy } = state.config;
  state.settle(call);
  call.engine = engine;
  state.changes?.end(call, finished, at);
  if (finished.found) return;
  if (finished.contextTokens !== undefined) call.contextTokens = finished.contextTokens;
  const serviceMs = Math.max(0, finished.serviceMs);
  // A call that never ran had no tokens either: its context is its prompt's estimate.
  const tokens = serviceMs > 0 ? call.contextTokens : 0;
  const served = policy.measures === "time" ? serviceMs : tokens;
  if (!state.table.charge(call, policy, { serviceMs, waitingMs: finished.waitingMs, served }, at)) return;
  if (finished.status === "completed") state.completed(call, served, at);
  state.save(program);
}

/**
 * A terminal record that the scheduler wrote itself, or found when it tried. What the record says of the call counts:
 * its agent may never have reported it, or to another leader.
 */
export function outcomeSeen(state: State, input: Extract<Input, { kind: "outcomeSeen" }>): void {
  const { at, call: id, status } = input;
  const call = state.calls.get(id);
  if (!call) return;
  const past = input.past ?? { serviceMs: call.servedMs + call.serviceMs, waitingMs: waitedMs(call, at) };
  finishCall(state, call, { call: id, attempt: call.attempt, status, found: false, ...past }, at, undefined);
}

/** @returns whether the call came after the end of its program, and is refused. */
export function refuseEnded(state: State, call: Call, at: Millis): boolean {
  const endedAt = call.program.endedAt;
  if (endedAt === undefined || call.arrivedAt <= endedAt) return false;
  closeCall(state, call, "failed", "program_ended", at);
  return true;
}

export function callCancelled(state: State, { at, call: id, cause }: Extract<Input, { kind: "callCancelled" }>): void {
  const call = state.calls.get(id);
  if (call) cancelCall(state, call, cause, at);
  else remember(state, id, cause, at);
}

/**
 * Not dispatched: the record is written here. Dispatched: it stands in `EnginePlan.cancel` until the agent has
 * reported the end. Between two attempts: decided when the marker is written.
 */
export function cancelCall(state: State, call: Call, cause: CancelCause, at: Millis): void {
  if (call.stage === "closing" || call.cancel !== undefined) return;
  if (call.stage === "queued" && !call.planned && !call.mayHaveRun) {
    closeCancelled(state, call, cause, at);
    return;
  }
  call.cancel = cause;
  state.changes?.call(call);
  if (call.stage !== "queued") return;
  if (call.mayHaveRun) {
    nextAttempt(state, call, "take_over", at);
    return;
  }
  state.unqueue(call);
  if (!call.engine) return;
  call.engine.cancels.add(call);
  call.engine.answerDue = true;
  state.wantPlan(call.engine);
}

/** A cancel can overtake its call: it is remembered for a while, the oldest forgotten first. */
function remember(state: State, id: CallId, cause: CancelCause, at: Millis): void {
  const { cancelMemory, config } = state;
  cancelMemory.delete(id);
  cancelMemory.set(id, { cause, until: at + config.cancelMemoryMs });
  for (const [old, { until }] of cancelMemory) {
    if (until >= at && cancelMemory.size <= config.cancelMemoryMax) break;
    cancelMemory.delete(old);
  }
}

/** Deadlines that have passed, calls that starve, and programs that nobody uses any more. */
export function timePassed(state: State, at: Millis): void {
  if (!state.leading) return;
  for (;;) {
    const call = state.deadlines.popDue(at);
    if (!call) break;
    if (state.calls.get(call.id) === call) cancelCall(state, call, "deadline", at);
  }
  promoteDue(state, at);
  state.table.dropIdle(at, IDLE_LOOKS_MAX, (entry) => state.closeProgram(entry));
}
