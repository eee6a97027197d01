/** Attempts of a call, and its end without one: no attempt k ≥ 2 without its marker (S3). */
import { bankService, type Call, waitedMs } from "./call.ts";
import type { CancelCause, Input, MarkerCause, PlannedCall } from "./contract.ts";
import type { Millis } from "./ids.ts";
import type { State } from "./state.ts";

type Of<K extends Input["kind"]> = Extract<Input, { kind: K }>;

/** Begins the next attempt of a call that an agent may hold: its marker first (S3). */
export function nextAttempt(state: State, call: Call, cause: MarkerCause, at: Millis): void {
  state.unqueue(call);
  // When its marker is written it is looked at anew, in its order: markers come back in any.
  if (state.queuesOf(call).starving.remove(call) !== undefined) call.promotionAwaited = false;
  call.engine?.forget(call);
  state.moveTo(call, undefined);
  bankService(call);
  call.tier = "none";
  call.continues = undefined;
  call.planned = false;
  call.held = false;
  call.mayHaveRun = false;
  if (call.crashes >= state.config.attemptsCrashedMax) {
    state.emit({ kind: "deadLetter", call: call.id, seq: call.seq, crashes: call.crashes });
    closeCall(state, call, "dead", "dead", at);
    return;
  }
  call.attempt++;
  call.stage = "marking";
  state.totals.failovers++;
  state.changes?.call(call);
  state.emit({
    kind: "writeMarker",
    call: call.id,
    attempt: call.attempt,
    expect: call.fence,
    cause,
    crashes: call.crashes,
  });
}

export function markerWritten(state: State, { at, call: id, attempt, fence }: Of<"markerWritten">): void {
  const call = state.calls.get(id);
  if (call?.stage !== "marking" || call.attempt !== attempt) return;
  call.fence = fence;
  if (call.cancel !== undefined) closeCancelled(state, call, call.cancel, at);
  else state.requeue(call, at);
  // The batch that it stood at the head of has kept a place for it, and it may go elsewhere.
  state.wantFreePlaces();
}

/** Another marker, or none, is on the subject: written again, expecting what was read (S3). */
export function markerRefused(state: State, { call: id, attempt, lastSeq }: Of<"markerRefused">): void {
  const call = state.calls.get(id);
  if (call?.stage !== "marking" || call.attempt !== attempt) return;
  state.emit({ kind: "writeMarker", call: id, attempt, expect: lastSeq, cause: "take_over", crashes: call.crashes });
}

/** Ends a call that no agent holds: its terminal record is written by the scheduler. */
export function closeCall(
  state: State,
  call: Call,
  status: "cancelled" | "expired" | "failed" | "dead",
  code: "cancelled" | "expired" | "program_ended" | "dead",
  at: Millis,
): void {
  state.unqueue(call);
  state.forget(call);
  call.engine?.forget(call);
  if (call.engine) state.wantPlan(call.engine);
  call.engine = undefined;
  call.stage = "closing";
  state.changes?.call(call);
  state.emit({
    kind: "writeOutcome",
    call: call.id,
    status,
    code,
    attempt: call.attempt,
    fence: call.fence,
    waitingMs: waitedMs(call, at),
    serviceMs: call.servedMs + call.serviceMs,
  });
}

/** A cancelled call ends as `cancelled`, or as `expired` when its deadline was the cause. */
export function closeCancelled(state: State, call: Call, cause: CancelCause, at: Millis): void {
  const status = cause === "deadline" ? "expired" : "cancelled";
  closeCall(state, call, status, status, at);
}

/** What an agent must know of a call that it does not hold yet. */
export function dispatchOf(call: Call, at: Millis): NonNullable<PlannedCall["dispatch"]> {
  const dispatch = { seq: call.seq, fence: call.fence, waitedMs: waitedMs(call, at), servedMs: call.servedMs };
  return call.continues === undefined ? dispatch : { ...dispatch, continues: call.continues };
}
