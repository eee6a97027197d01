/** What comes in from outside: calls, programs, and the moment at which this leader begins to act. */
import { closeCancelled } from "./attempts.ts";
import { Call } from "./call.ts";
import type { ArrivedCall, CallRecord, CancelCause, Input, ReportedCall } from "./contract.ts";
import { cancelCall, finishCall, refuseEnded } from "./endings.ts";
import type { Millis } from "./ids.ts";
import { levelOf } from "./ladder.ts";
import { awaitPromotion } from "./starvation.ts";
import type { State } from "./state.ts";

type Of<K extends Input["kind"]> = Extract<Input, { kind: K }>;

/** Algorithm 1, step 1: a call inherits its program's attained service and enters the level that this service picks. */
export function callArrived(state: State, { at, call: arrived, record }: Of<"callArrived">): void {
  const known = state.calls.get(arrived.id);
  if (known) {
    // The stream holds one message per call: a new sequence means that the old one has left it.
    known.seq = arrived.seq;
    return;
  }
  const call = newCall(state, arrived, at);
  state.calls.add(call);
  call.program.addThread(call);
  call.program.lastArrivalAt = at;
  state.changes?.call(call);
  state.awaitDeadline(call);
  if (!state.leading) {
    gather(call, record);
    call.cancel = takeCancel(state, call, at);
    return;
  }
  const cancel = takeCancel(state, call, at) ?? cancelledWith(call);
  if (cancel !== undefined) {
    closeCancelled(state, call, cancel, at);
    return;
  }
  if (refuseEnded(state, call, at)) return;
  state.enqueue(call, at);
}

/** A cancel that overtook its call, unless it is too old. */
function takeCancel(state: State, call: Call, at: Millis): CancelCause | undefined {
  const early = state.cancelMemory.get(call.id);
  state.cancelMemory.delete(call.id);
  return early && early.until >= at ? early.cause : undefined;
}

/** It was accepted before its program was ended and cancelled, and is read after that. */
function cancelledWith({ program, arrivedAt }: Call): CancelCause | undefined {
  const { cancelled, endedAt } = program;
  return cancelled && endedAt !== undefined && arrivedAt <= endedAt ? "program" : undefined;
}

function newCall(state: State, arrived: ArrivedCall, at: Millis): Call {
  const { policy } = state.config;
  // Not the time at which it was read: a later leader reads it again, and the program shall have one start.
  const program = state.table.open(arrived.program, arrived.arrivedAt, arrived.alone);
  const inherited = policy.inherits(program, arrived, at);
  const rank = policy.ranks?.(program, arrived) ?? 0;
  return new Call(arrived, program, inherited, levelOf(state.ladder, inherited), rank);
}

/** A call from before the take-over: nobody knows yet whether an agent runs it (design §4, Take-over). */
function gather(call: Call, record: CallRecord | undefined): void {
  call.mayHaveRun = true;
  if (record?.kind === "terminal") call.stage = "closing";
  if (record?.kind === "marker") {
    call.attempt = record.attempt;
    call.fence = record.seq;
    call.crashes = record.crashes;
  }
}

/**
 * Every call read so far gets its place: ended → acked; reported → stays where it runs; else queued, with a marker
 * before its next plan, since an earlier leader may have dispatched it.
 */
export function leaderStarted(state: State, { at }: Of<"leaderStarted">): void {
  if (state.leading) throw new Error("the leader has started already");
  state.leading = true;
  state.dropPins();
  for (const call of [...state.calls.values()].sort((a, b) => a.seq - b.seq)) {
    placeGathered(state, call, at);
  }
  state.reportedEarly.clear();
  for (const engine of state.engines.values()) {
    // Which of its calls are in the batch is not in a report: the first ones, until there is a plan.
    engine.run = engine.startedInOrder(state.takeStamp()).slice(0, engine.capacity.batchCallsMax);
    state.wantPlan(engine);
  }
}

function placeGathered(state: State, call: Call, at: Millis): void {
  // Cancelled while gathering: carried out as soon as its place is known.
  const cancel = call.cancel ?? cancelledWith(call);
  call.cancel = undefined;
  const early = state.reportedEarly.get(call.id);
  const reporter = early && state.engines.get(early.engine.id) === early.engine ? early.engine : undefined;
  if (early?.finished) finishCall(state, call, early.finished, at, reporter);
  else if (call.stage === "closing") state.settle(call);
  else if (early?.reported && early.reported.attempt >= call.attempt)
    adopt(state, call, early.engine, early.reported, at);
  else if (!refuseEnded(state, call, at)) state.enqueue(call, at);
  if (cancel !== undefined && state.calls.get(call.id) === call) cancelCall(state, call, cancel, at);
}

/** The call goes on where it is: its agent reported it. */
function adopt(
  state: State,
  call: Call,
  engine: NonNullable<Call["engine"]>,
  reported: ReportedCall,
  at: Millis,
): void {
  call.order = state.takeOrder();
  call.stage = "queued";
  call.engine = engine;
  call.attempt = reported.attempt;
  call.held = true;
  call.mayHaveRun = false;
  if (reported.contextTokens > 0) call.contextTokens = reported.contextTokens;
  // Nobody said where its context lies: counted as if it were on the engine.
  call.tier = "engine";
  engine.start(call);
  call.service.ms = reported.serviceMs;
  if (reported.preemptible === false) engine.unstoppable.add(call);
  engine.queues.at(call.level).insert(call);
  state.changes?.call(call);
  awaitPromotion(state, call, at);
}

export function programStarted(state: State, { at, program, restored }: Of<"programStarted">): void {
  if (restored) {
    state.table.restore(restored, state.config.policy.measures);
    return;
  }
  const isNew = !state.table.get(program);
  const entry = state.table.open(program, at);
  state.changes?.program(entry);
  if (isNew) state.save(entry);
}

/** Later calls are refused; accepted ones finish, unless `cancel` (design §2, Program ended). */
export function programEnded(state: State, { at, program, cancel }: Of<"programEnded">): void {
  const entry = state.table.open(program, at);
  entry.endedAt ??= at;
  entry.cancelled ||= cancel;
  state.save(entry);
  state.closeProgram(entry);
  if (cancel) for (const call of [...entry.threads()]) cancelCall(state, call, "program", at);
}
