/** What engines say and what becomes of them: joined, reported, lost; and the attempts that a loss begins. */
import { nextAttempt } from "./attempts.ts";
import type { Call } from "./call.ts";
import type { EngineReport, Input, LossCause, MarkerCause, ReportedCall } from "./contract.ts";
import { finishCall } from "./endings.ts";
import type { Engine } from "./engine.ts";
import type { Millis } from "./ids.ts";
import { byRank } from "./queues.ts";
import { awaitPromotion } from "./starvation.ts";
import type { State } from "./state.ts";

type Of<K extends Input["kind"]> = Extract<Input, { kind: K }>;

export function engineJoined(state: State, { at, engine: id, incarnation, capacity }: Of<"engineJoined">): void {
  const known = state.engines.get(id);
  if (known?.incarnation === incarnation) return;
  // A changed incarnation is engine lost + engine joined at once, however short the silence (design §4).
  if (known) engineLost(state, { kind: "engineLost", at, engine: id, cause: "crash" });
  const engine = state.addEngine(id, incarnation, capacity);
  // Who waits and has not started anywhere is bound afresh, so that a new engine shares the queue at once.
  const waiting = state.unbound.takeAll();
  for (const other of state.engines.values()) waiting.push(...takeWaiting(state, other));
  state.requeueAll(waiting);
  state.wantPlan(engine);
}

/** Takes the calls that are bound to an engine and have not started there. */
function takeWaiting(state: State, engine: Engine): Call[] {
  const waiting = [...engine.queues].filter((call) => !call.planned);
  for (const call of waiting) state.unqueue(call);
  state.wantPlan(engine);
  return waiting;
}

export function engineSuspected(state: State, { engine: id, suspected }: Of<"engineSuspected">): void {
  const engine = state.engines.get(id);
  if (!engine) return;
  engine.suspected = suspected;
  state.enginesChanged();
  if (suspected) return;
  state.wantPlan(engine);
  moveOn(state);
}

/** Who waits at an engine that is about to leave waits elsewhere, if there is an engine that takes new calls. */
function moveOn(state: State): void {
  for (const engine of state.engines.values()) if (engine.draining) state.requeueAll(takeWaiting(state, engine));
}

/** Its calls go back to their places: those that it may hold after a marker, the others at once. */
export function engineLost(state: State, { at, engine: id, cause }: Of<"engineLost">): void {
  const engine = state.engines.get(id);
  if (!engine) return;
  state.removeEngine(engine);
  forgetEarly(state, engine);
  const suspects = cause === "crash" ? suspectsOf(engine) : new Set<Call>();
  const started = engine.startedCalls().sort(byRank);
  const untouched = engine.queues.takeAll().filter((call) => !engine.has(call));
  state.requeueAll(untouched);
  for (const call of started) {
    if (suspects.has(call)) call.crashes++;
    nextAttempt(state, call, markerCause(cause), at);
  }
}

function markerCause(cause: LossCause): MarkerCause {
  return cause === "crash" ? "crash" : "engine_lost";
}

/**
 * Who is charged with a crash: the suspect in the batch, if there was one; else every call of the batch becomes a
 * suspect (design §4, Poison). What the last plan named counts, reported or not: a prompt that kills its engine at
 * once never gets into a report, and a reserve may have taken a slot since.
 */
function suspectsOf(engine: Engine): Set<Call> {
  const running = [...engine.run, ...engine.reserve].filter((call) => engine.has(call));
  const known = running.filter((call) => call.crashes > 0);
  return new Set(known.length > 0 ? known : running);
}

/** A report is whole-state: it may be lost or repeated, and an older one is ignored. */
export function reported(state: State, { at, report }: Of<"reported">): void {
  const engine = state.engines.get(report.engine);
  if (!engine || engine.incarnation !== report.incarnation || report.number <= engine.reportSeen) return;
  engine.reportSeen = report.number;
  const leaves = report.draining === true && !engine.draining;
  if (leaves) {
    engine.draining = true;
    state.enginesChanged();
  }
  if (!state.leading) {
    rememberEarly(state, engine, report);
    return;
  }
  const stamp = state.takeStamp();
  const seen = account(state, engine, report, stamp, at);
  for (const finished of report.finished) {
    const call = state.calls.get(finished.call);
    if (call && call.attempt >= finished.attempt) finishCall(state, call, finished, at, engine);
  }
  if (leaves) moveOn(state);
  const held = engine.startedCount;
  if (report.planNumber >= engine.planNumber && seen < held) replaceLost(state, engine, report, stamp, at);
  for (const { call, attempt } of report.fenced) {
    answerFenced(state, engine, state.calls.get(call), { call, attempt }, at);
  }
  engine.answerDue ||=
    report.finished.length > 0 ||
    report.fenced.length > 0 ||
    (report.planNumber < engine.planNumber && at - engine.planSentAt >= state.config.planResendMs);
  state.wantPlan(engine);
}

/** An end counts whoever reports it; of two engines that hold a call, the one with the later attempt has it. */
function rememberEarly(state: State, engine: Engine, report: EngineReport): void {
  forgetEarly(state, engine);
  for (const call of report.calls) {
    const other = state.reportedEarly.get(call.call);
    if (other?.finished || (other?.reported && other.reported.attempt > call.attempt)) continue;
    state.reportedEarly.set(call.call, { engine, reported: call });
  }
  for (const finished of report.finished) state.reportedEarly.set(finished.call, { engine, finished });
}

/** Drops what this engine said that it holds; ends stay. */
function forgetEarly(state: State, engine: Engine): void {
  for (const [id, early] of state.reportedEarly) {
    if (early.engine.id === engine.id && !early.finished) state.reportedEarly.delete(id);
  }
}

/**
 * Algorithm 1, step 2: charge service, then demote calls whose quantum is used up, in queue order. Calls that the
 * agent holds are marked with the report's stamp.
 *
 * @returns how many of them this engine was given.
 */
function account(state: State, engine: Engine, report: EngineReport, stamp: number, at: Millis): number {
  const demoted: Call[] = [];
  engine.reportBegins();
  let seen = 0;
  for (const reportedCall of report.calls) {
    const call = engine.startedWith(reportedCall.call, state.calls);
    if (!call || call.attempt !== reportedCall.attempt) continue;
    if (call.seenIn !== stamp) seen++;
    call.seenIn = stamp;
    call.held = true;
    call.continues = undefined;
    if (reportedCall.preemptible === false) engine.unstoppable.add(call);
    if (charge(state, call, reportedCall)) demoted.push(call);
  }
  if (demoted.length > 1) demoted.sort(byRank);
  for (const call of demoted) demote(state, call, at);
  return seen;
}

/** The agent applied the last plan and does not hold a call that it was given: an earlier plan was lost on the way. */
function replaceLost(state: State, engine: Engine, report: EngineReport, stamp: number, at: Millis): void {
  const missing: Call[] = [];
  for (const call of engine.startedCalls()) {
    if (call.seenIn !== stamp && (call.stage === "queued" || call.stage === "settling")) missing.push(call);
  }
  for (const call of missing) {
    if (call.stage === "settling") {
      // An answer on its way said "drop" when this one said "write": the result is gone.
      if (!isNamed(report, call)) nextAttempt(state, call, "engine_lost", at);
    } else if (call.cancel !== undefined || engine.draining) {
      // Nobody will ever report its end here: it gets one behind a marker, as it does elsewhere.
      nextAttempt(state, call, "engine_lost", at);
    } else {
      // Also one that it never held: it had no room for it when the plan came.
      call.held = false;
      engine.answerDue = true;
    }
  }
}

function isNamed(report: EngineReport, call: Call): boolean {
  return report.calls.some((other) => other.call === call.id) || report.fenced.some((other) => other.call === call.id);
}

/** @returns whether its quantum is used up. */
function charge(state: State, call: Call, { serviceMs, contextTokens }: ReportedCall): boolean {
  const { service } = call;
  const gainedMs = serviceMs - service.ms;
  if (gainedMs > 0) {
    // Before it ran, its context was only an estimate: all of it is new.
    const gainedTokens = Math.max(0, contextTokens - (service.ms > 0 ? call.contextTokens : 0));
    service.ms = serviceMs;
    const gained = state.config.policy.measures === "time" ? gainedMs : gainedTokens;
    service.quantumUsed += gained;
    service.sinceLost += gained;
  }
  if (contextTokens > 0) call.contextTokens = contextTokens;
  const level = state.ladder[call.level];
  if (call.list === undefined || level === undefined || service.sinceLost < service.leastTurn) return false;
  return service.quantumUsed >= level.quantum;
}

/** To the tail of the next level with a fresh quantum. A call of QK stays at its place, or goes to QK's tail. */
function demote(state: State, call: Call, at: Millis): void {
  call.service.quantumUsed = 0;
  const isLast = call.level >= state.ladder.length - 1;
  if (!call.engine || (isLast && state.config.policy.lastLevel === "stays")) return;
  state.unqueue(call);
  if (!isLast) {
    call.level++;
    state.totals.demotions++;
  }
  call.order = state.takeOrder();
  call.engine.queues.at(call.level).insert(call);
  state.changes?.call(call);
  awaitPromotion(state, call, at);
}

/**
 * S4: an agent holds the result of an attempt that a newer marker superseded. While nobody was given the newer
 * attempt, its fence goes to that agent and the result is written without a second run; else the result is dropped.
 */
function answerFenced(
  state: State,
  engine: Engine,
  call: Call | undefined,
  fenced: { call: Call["id"]; attempt: number },
  at: Millis,
): void {
  if (call?.stage === "settling" && call.engine === engine) {
    engine.fences.push({ ...fenced, fence: call.fence });
    return;
  }
  const isOwn = call?.planned === true && call.engine === engine && call.attempt === fenced.attempt;
  if (call?.stage === "queued" && (call.mayHaveRun || isOwn)) {
    // An earlier leader's marker is in the way, and only one of our own gives a fence. Not when the call's turn comes,
    // but now: unwritten results take room on the agent, which could keep the calls before this one from starting.
    call.attempt = Math.max(call.attempt, fenced.attempt);
    nextAttempt(state, call, "take_over", at);
    state.wantPlan(engine);
    return;
  }
  if (call?.stage !== "queued" || call.planned || call.attempt <= fenced.attempt) {
    if (call?.stage !== "marking") engine.fences.push({ ...fenced, fence: null });
    return;
  }
  state.unqueue(call);
  call.stage = "settling";
  state.changes?.call(call);
  state.moveTo(call, engine);
  engine.start(call);
  engine.fences.push({ ...fenced, fence: call.fence });
}
