/** How calls end: finished by an agent, cancelled, expired, refused, dead. A call ends in exactly one way (S1). */
import { closeCall, closeCancelled, nextAttempt } from "./attempts.ts";
import { type Call, waitedMs } from "./call.ts";
import type { CancelCause, FinishedCall, Input } from "./contract.ts";
import type { CallId, Millis } from "./ids.ts";
import type { State } from "./state.ts";

/** Idle programs dropped per input: a bound on one input's work. */
const IDLE_DROP_MAX = 100;

/** An agent reports that a terminal record is stored: charge the program once, ack. */
export function finishCall(state: State, call: Call, finished: FinishedCall, at: Millis): void {
  const program = call.program;
  state.settle(call);
  if (!finished.found) {
    const served = Math.max(0, finished.serviceMs);
    if (state.table.charge(call, state.config.policy, served, finished.waitingMs, at)) state.save(program);
  }
  // Most recently used from here on.
  if (state.table.get(program.id) === program) state.table.open(program.id, at, program.alone);
}

/** A terminal record that the scheduler wrote itself, or found when it tried. */
export function outcomeSeen(state: State, { at, call: id, status }: Extract<Input, { kind: "outcomeSeen" }>): void {
  const call = state.calls.get(id);
  if (!call) return;
  const waitingMs = waitedMs(call, at);
  const serviceMs = call.servedMs + call.serviceMs;
  finishCall(state, call, { call: id, attempt: call.attempt, status, found: false, serviceMs, waitingMs }, at);
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
  if (call.stage !== "queued") return;
  if (call.mayHaveRun) {
    nextAttempt(state, call, "take_over", at);
    return;
  }
  state.unqueue(call);
  if (call.engine) state.wantPlan(call.engine);
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

/** Deadlines that have passed, and programs that nobody uses any more. */
export function timePassed(state: State, at: Millis): void {
  if (!state.leading) return;
  for (;;) {
    const call = state.deadlines.popDue(at);
    if (!call) break;
    if (state.calls.get(call.id) === call) cancelCall(state, call, "deadline", at);
  }
  state.table.dropIdle(at - state.config.programIdleMaxMs, IDLE_DROP_MAX);
}
