/**
 * The scheduler: one `apply`, synchronous and deterministic. It has no clock, no random, no IO and no dependency;
 * time comes with each input, and what shall be done leaves as commands (design §5).
 *
 * A reader who knows the paper: the process table is table.ts, Algorithm 1 is arrivals.ts (step 1), agents.ts
 * (step 2) and batch.ts (step 3), Algorithm 2 is balancers.ts, PLAS and ATLAS are policies.ts.
 */
import { engineJoined, engineLost, engineSuspected, reported } from "./agents.ts";
import { callArrived, leaderStarted, programEnded, programStarted } from "./arrivals.ts";
import { dispatchOf, markerRefused, markerWritten, nextAttempt } from "./attempts.ts";
import { formBatch } from "./batch.ts";
import type { Call } from "./call.ts";
import type { Command, EnginePlan, Input, PlannedCall, SavedEntry } from "./contract.ts";
import { callCancelled, outcomeSeen, timePassed } from "./endings.ts";
import { type Batch, type Engine, isLastPlan } from "./engine.ts";
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";
import { type CoreConfig, State } from "./state.ts";
import { type ProgramEntry, saved } from "./table.ts";

export class Scheduler {
  private readonly state: State;

  constructor(config: CoreConfig) {
    this.state = new State(config);
  }

  /** The only entry. @returns what shall be done, in this order. */
  apply(input: Input): Command[] {
    const { state } = this;
    const plansAsked = input.kind !== "planDue" && state.leading && state.planDue.size > 0;
    const deadline = state.deadlines.nextAt;
    this.react(input);
    if (state.leading && state.planDue.size > 0 && !plansAsked) state.emit({ kind: "wakeAt", at: input.at });
    const next = state.deadlines.nextAt;
    if (next !== undefined && (deadline === undefined || next < deadline || input.kind === "timePassed")) {
      state.emit({ kind: "wakeAt", at: next });
    }
    return state.takeCommands();
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
    const engines = [...this.state.planDue];
    this.state.planDue.clear();
    for (const engine of engines) if (this.state.engines.get(engine.id) === engine) this.planEngine(engine, at);
  }

  private planEngine(engine: Engine, at: Millis): void {
    const { windowSteps, reserveCallsMax } = this.state.config;
    const admitsNew = this.state.admitsNew && engine.accepting;
    const batch = formBatch(engine, { windowSteps, reserveCallsMax, admitsNew });
    // Their markers are written first; they come back to their places when that is done.
    for (const call of batch.unmarked) nextAttempt(this.state, call, "take_over", at);
    const cancelled = [...engine.started].filter((call) => call.cancel !== undefined && call.stage === "queued");
    const changed = !isLastPlan(engine, batch) || cancelled.some((call) => !this.sentCancels.has(call));
    if (!changed && !engine.answerDue && engine.planNumber > 0) return;
    this.send(engine, batch, cancelled, at);
  }

  /** Cancels that a plan has carried: the next one repeats them, but they are no reason for one. */
  private readonly sentCancels = new WeakSet<Call>();

  private send(engine: Engine, batch: Batch, cancelled: Call[], at: Millis): void {
    engine.planNumber = this.state.takePlanNumber();
    const planned = (call: Call): PlannedCall => plannedCall(engine, call, at);
    const plan: EnginePlan = {
      engine: engine.id,
      incarnation: engine.incarnation,
      number: engine.planNumber,
      reportSeen: engine.reportSeen,
      run: batch.run.map(planned),
      reserve: batch.reserve.map(planned),
      keep: batch.keep.map(planned),
      cancel: cancelled.map((call) => ({ call: call.id, attempt: call.attempt, cause: call.cancel ?? "client" })),
      fences: engine.fences,
      windowSteps: this.state.config.windowSteps,
    };
    for (const call of cancelled) this.sentCancels.add(call);
    Object.assign(engine, { run: batch.run, reserve: batch.reserve, keep: batch.keep });
    engine.fences = [];
    engine.answerDue = false;
    engine.planSentAt = at;
    this.state.emit({ kind: "sendPlan", plan });
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
      held: engine.started.size,
    }));
  }

  knows(call: CallId): boolean {
    return this.state.calls.has(call);
  }

  /** A program as its owner sees it. */
  program(id: ProgramId): (SavedEntry & { waitingCalls: number; runningCalls: number }) | undefined {
    const entry: ProgramEntry | undefined = this.state.table.get(id);
    if (!entry) return undefined;
    let running = 0;
    for (const call of entry.threads) if (call.engine?.run.includes(call)) running++;
    return { ...saved(entry), waitingCalls: entry.threads.size - running, runningCalls: running };
  }
}

function runningCalls(engine: Engine): number {
  let running = 0;
  for (const call of engine.run) if (engine.started.has(call)) running++;
  return running;
}

function plannedCall(engine: Engine, call: Call, at: Millis): PlannedCall {
  engine.started.add(call);
  call.planned = true;
  return { call: call.id, attempt: call.attempt, ...(call.held ? {} : { dispatch: dispatchOf(call, at) }) };
}

function unknownInput(input: never): never {
  throw new Error(`unknown input ${JSON.stringify(input)}`);
}
