/**
 * The scheduler: one `apply`, synchronous and deterministic. It has no clock, no random, no IO and no dependency;
 * time comes with each input, and what shall be done leaves as commands (design §5).
 *
 * A reader who knows the paper: the process table is table.ts, Algorithm 1 is arrivals.ts (step 1), agents.ts and
 * starvation.ts (step 2) and batch.ts (step 3), its queues are ladder.ts, calibration.ts and queues.ts, Algorithm 2 is
 * balancers.ts, KV memory is batch.ts (`placeIdle`) and retained.ts, PLAS and ATLAS are policies.ts.
 */
import { engineJoined, engineLost, engineSuspected, reported } from "./agents.ts";
import { callArrived, leaderStarted, programEnded, programStarted } from "./arrivals.ts";
import { dispatchOf, markerRefused, markerWritten, nextAttempt } from "./attempts.ts";
import { formBatch } from "./batch.ts";
import { type Call, waitedMs } from "./call.ts";
import type { CoreConfig } from "./config.ts";
import type { Command, EnginePlan, Input, KeptCall, PlannedCall, SavedEntry } from "./contract.ts";
import { callCancelled, outcomeSeen, timePassed } from "./endings.ts";
import { type Batch, type Engine, isLastPlan } from "./engine.ts";
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";
import type { Ladder } from "./ladder.ts";
import type { Policy } from "./policies.ts";
import { promoteDue, starves, wantPromotions } from "./starvation.ts";
import { State, type Totals } from "./state.ts";
import { type ProgramEntry, saved } from "./table.ts";
import { Views } from "./views.ts";
import type { WaitTally } from "./wait-tally.ts";

/** One of a program's threads: an active call, with its own arrival, waiting and service. */
export interface ActiveCall {
  call: CallId;
  thread: string | undefined;
  engine: EngineId | undefined;
  /** 0 = Q1. */
  level: number;
  arrivedAt: Millis;
  waitingMs: Millis;
  serviceMs: Millis;
}

/** What `place` shows of a call; it changes with the call. */
export type CallPlace = Pick<Call, "level" | "promotedWaitingMs" | "promotedServiceMs">;

/** What `past` shows of a program; it changes with the program. */
export type ProgramTimes = Pick<
  ProgramEntry,
  | "arrivedAt"
  | "lastCompletionAt"
  | "endedAt"
  | "threadCount"
  | "serviceMs"
  | "waitingMs"
  | "pathServiceMs"
  | "endedCalls"
  | "engines"
>;

export class Scheduler {
  /** Pages and changes for people. */
  readonly views: Views;
  private readonly state: State;
  /** The due time that a `wakeAt` was asked for last. */
  private wakeAt: Millis | undefined;

  constructor(config: CoreConfig) {
    this.state = new State(config);
    this.views = new Views(this.state);
  }

  /** The only entry. @returns what shall be done, in this order. */
  apply(input: Input): Command[] {
    const { state } = this;
    const plansAsked = input.kind !== "planDue" && state.leading && state.planDue.size > 0;
    this.react(input);
    if (state.leading && state.planDue.size > 0 && !plansAsked) state.emit({ kind: "wakeAt", at: input.at });
    this.askToBeWoken(input);
    return state.takeCommands();
  }

  /** For the next deadline or promotion: when it comes sooner than what was asked for, or that time has passed. */
  private askToBeWoken(input: Input): void {
    const { deadlines, promotions, dueAtOnce } = this.state;
    const deadline = deadlines.nextAt ?? Number.POSITIVE_INFINITY;
    const promotion = dueAtOnce.length > 0 ? input.at : (promotions.nextAt ?? Number.POSITIVE_INFINITY);
    const next = deadline < promotion ? deadline : promotion;
    if (input.kind === "timePassed") this.wakeAt = undefined;
    if (next === Number.POSITIVE_INFINITY || (this.wakeAt !== undefined && next >= this.wakeAt)) return;
    this.wakeAt = next;
    this.state.emit({ kind: "wakeAt", at: next });
  }

  private react(input: Input): void {
    const { state } = this;
    switch (input.kind) {
      case "leaderStarted":
        leaderStarted(state, input);
        break;
      case "callArrived":
        callArrived(state, input);
        break;
      case "callCancelled":
        callCancelled(state, input);
        break;
      case "programStarted":
        programStarted(state, input);
        break;
      case "programEnded":
        programEnded(state, input);
        break;
      case "engineJoined":
        engineJoined(state, input);
        break;
      case "engineSuspected":
        engineSuspected(state, input);
        break;
      case "engineLost":
        engineLost(state, input);
        break;
      case "reported":
        reported(state, input);
        break;
      case "markerWritten":
        markerWritten(state, input);
        break;
      case "markerRefused":
        markerRefused(state, input);
        break;
      case "outcomeSeen":
        outcomeSeen(state, input);
        break;
      case "planDue":
        this.planAll(input.at);
        break;
      case "timePassed":
        if (input.admitsNew !== undefined) this.admit(input.admitsNew);
        timePassed(state, input.at);
        break;
      default:
        unknownInput(input);
    }
  }

  private admit(admitsNew: boolean): void {
    if (admitsNew === this.state.admitsNew) return;
    this.state.admitsNew = admitsNew;
    for (const engine of this.state.engines.values()) this.state.wantPlan(engine);
  }

  // ── planning ───────────────────────────────────────────────────────────────────────────────────────────────

  private planAll(at: Millis): void {
    if (!this.state.leading) return;
    promoteDue(this.state, at);
    const engines = [...this.state.planDue];
    this.state.planDue.clear();
    for (const engine of engines) if (this.state.engines.get(engine.id) === engine) this.planEngine(engine, at);
  }

  private planEngine(engine: Engine, at: Millis): void {
    const { state } = this;
    const { windowSteps, reserveCallsMax, misfit = "stop", policy } = state.config;
    const late = state.unbound.size > 0 ? { queues: state.unbound, takesMax: state.lateTakesMax(engine) } : undefined;
    const stamp = state.takeStamp();
    const latePromoted = state.unbound.promoted.size;
    const batch = formBatch(engine, {
      at,
      stamp,
      windowSteps,
      reserveCallsMax,
      misfit,
      keepsContexts: policy.keeps === "next-to-run",
      starves: (call) => starves(state, call, at),
      guestTurnMs: state.beta * state.betaFloorMs,
      admitsNew: state.admitsNew && engine.accepting,
      ...(late ? { unbound: late } : {}),
    });
    // The engine took some, maybe above its own places.
    if (state.unbound.promoted.size < latePromoted) wantPromotions(state);
    // Their markers are written first; they come back to their places when that is done.
    for (const call of batch.unmarked) nextAttempt(state, call, "take_over", at);
    if (!engine.answerDue && engine.planNumber > 0 && isLastPlan(engine, batch)) return;
    this.send(engine, batch, stamp, at);
  }

  private send(engine: Engine, batch: Batch, stamp: number, at: Millis): void {
    const { state } = this;
    for (const call of engine.run) if (isPreempted(call, engine, stamp)) state.totals.preemptions++;
    // One of the reserve has run if it was served since.
    for (const [place, call] of engine.reserve.entries())
      if (call.serviceMs > (engine.reserveServedMs[place] ?? 0) && isPreempted(call, engine, stamp))
        state.totals.preemptions++;
    engine.planNumber = state.takePlanNumber();
    const planned = (call: Call): PlannedCall => {
      if (!engine.has(call)) state.waits[call.level]?.add(waitedMs(call, at));
      return plannedCall(engine, call, at);
    };
    const cancels = [...engine.cancels].filter((call) => call.stage === "queued");
    const plan: EnginePlan = {
      engine: engine.id,
      incarnation: engine.incarnation,
      number: engine.planNumber,
      reportSeen: engine.reportSeen,
      run: batch.run.map(planned),
      reserve: batch.reserve.map(planned),
      keep: batch.keep.map((call) => keptCall(engine, call, at)),
      retained: engine.capacity.retains ? engine.retained.list() : [],
      cancel: cancels.map((call) => ({ call: call.id, attempt: call.attempt, cause: call.cancel ?? "client" })),
      fences: engine.fences,
      windowSteps: state.config.windowSteps,
    };
    state.changes?.engine(engine);
    state.changes?.ran(batch.run, at);
    engine.run = batch.run;
    engine.reserve = batch.reserve;
    engine.reserveServedMs = batch.reserve.map((call) => call.serviceMs);
    engine.keep = batch.keep;
    engine.retainedSent = engine.retained.version;
    engine.fences = [];
    engine.answerDue = false;
    engine.planSentAt = at;
    state.emit({ kind: "sendPlan", plan });
  }

  // ── views ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Un-acked calls and how many of them are in a batch. */
  counts(): { queued: number; running: number; programs: number } {
    let running = 0;
    for (const engine of this.state.engines.values()) running += runningCalls(engine);
    return { queued: this.state.calls.size, running, programs: this.state.table.size };
  }

  engineCounts(): { engine: EngineId; running: number; held: number }[] {
    return [...this.state.engines.values()].map((engine) => ({
      engine: engine.id,
      running: runningCalls(engine),
      held: engine.startedCount,
    }));
  }

  knows(call: CallId): boolean {
    return this.state.calls.has(call);
  }

  /** The queue of an un-acked call, and what it had waited and been served when it was promoted last. */
  place(id: CallId): Readonly<CallPlace> | undefined {
    return this.state.calls.get(id);
  }

  /** The program's times and sums, without a copy of all that is saved. */
  past(id: ProgramId): Readonly<ProgramTimes> | undefined {
    return this.state.table.get(id);
  }

  /** A program as its owner sees it. */
  program(id: ProgramId): (SavedEntry & { waitingCalls: number; runningCalls: number }) | undefined {
    const entry: ProgramEntry | undefined = this.state.table.get(id);
    if (!entry) return undefined;
    let running = 0;
    for (const call of entry.threads()) if (call.engine?.run.includes(call)) running++;
    return {
      ...saved(entry, this.state.config.policy.measures),
      waitingCalls: entry.threadCount - running,
      runningCalls: running,
    };
  }

  /** The program's active calls, oldest first (process table, paper §2). */
  threads(id: ProgramId, at: Millis): ActiveCall[] {
    const entry = this.state.table.get(id);
    return [...(entry?.threads() ?? [])].map((call) => ({
      call: call.id,
      thread: call.thread,
      engine: call.engine?.id,
      level: call.level,
      arrivedAt: call.arrivedAt,
      waitingMs: waitedMs(call, at),
      serviceMs: call.servedMs + call.serviceMs,
    }));
  }

  /** The ladder in force. */
  get ladder(): Ladder {
    return this.state.ladder;
  }

  /** What attained service, and with it the ladder, counts. */
  get measures(): Policy["measures"] {
    return this.state.config.policy.measures;
  }

  /** Waiting of calls when they began, by the level that they came from, Q1 first. */
  get waits(): readonly Readonly<WaitTally>[] {
    return this.state.waits;
  }

  /** What was done since this scheduler was made. */
  get totals(): Readonly<Totals> {
    return this.state.totals;
  }
}

function runningCalls(engine: Engine): number {
  let running = 0;
  for (const call of engine.run) if (engine.has(call)) running++;
  return running;
}

/** What a plan says of a call that is held does not change from plan to plan: it is written once. */
function plannedCall(engine: Engine, call: Call, at: Millis): PlannedCall {
  if (call.held) {
    const last = call.plannedAs;
    if (last && last.attempt === call.attempt && !("tier" in last)) return last;
    call.plannedAs = { call: call.id, attempt: call.attempt };
    return call.plannedAs;
  }
  engine.start(call);
  return { call: call.id, attempt: call.attempt, dispatch: dispatchOf(call, at) };
}

function keptCall(engine: Engine, call: Call, at: Millis): KeptCall {
  if (!call.held) return { ...plannedCall(engine, call, at), tier: call.tier };
  const last = call.plannedAs;
  if (last && last.attempt === call.attempt && "tier" in last && last.tier === call.tier) return last;
  const kept = { call: call.id, attempt: call.attempt, tier: call.tier };
  call.plannedAs = kept;
  return kept;
}

/** It was in the batch, is not in the new one, and goes on later. */
function isPreempted(call: Call, engine: Engine, stamp: number): boolean {
  return call.engine === engine && call.list !== undefined && call.placedIn !== stamp;
}

function unknownInput(input: never): never {
  throw new Error(`unknown input ${JSON.stringify(input)}`);
}
