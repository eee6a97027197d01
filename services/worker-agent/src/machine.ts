/**
 * What a worker agent decides: `react(event)` returns the effects, without IO, clock or chance. The parts beside it
 * share one state: `plans` (what shall be), `starts` (how a call gets ready), `steps` (the batch, what is moved for it),
 * `contexts` (of ended calls), `tokens`, `endings` (the record of an ended call), `delivery` (its end in front of the
 * reader), `reports` and `frontends`.
 */
import { type CallState, type Exit, type KvUse, subjects } from "@autellix/protocol";
import type { Buckets } from "@autellix/runtime";
import { Contexts } from "./contexts.ts";
import { Deliveries } from "./delivery.ts";
import { Endings } from "./endings.ts";
import type { AgentEvent, Effect } from "./events.ts";
import { Frontends } from "./frontends.ts";
import type { HeldCall } from "./held-call.ts";
import { FLUSH_MS_MAX } from "./limits.ts";
import { Plans } from "./plans.ts";
import { Reports } from "./reports.ts";
import { Starts } from "./starts.ts";
import { type AgentSetup, AgentState } from "./state.ts";
import { Steps } from "./steps.ts";
import { Tokens } from "./tokens.ts";

/** For people: nothing of it is decided by. */
export interface AgentUse {
  held: Record<CallState, number>;
  kv: KvUse;
  unsentOutcomes: number;
  unsentOutcomesMax: number;
  /** Of these, what a newer marker keeps from being written. */
  fencedOutcomes: number;
  planIdleMs: number;
  firstToken: Buckets;
}

export class AgentMachine {
  readonly #state: AgentState;
  readonly #contexts: Contexts;
  readonly #frontends: Frontends;
  readonly #reports: Reports;
  readonly #deliveries: Deliveries;
  readonly #endings: Endings;
  readonly #starts: Starts;
  readonly #plans: Plans;
  readonly #steps: Steps;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(setup: AgentSetup) {
    const state = new AgentState(setup);
    const frontends = new Frontends(state, () => this.#reports.want());
    const contexts = new Contexts(state);
    const reports = new Reports(state, { contexts, frontends });
    const deliveries = new Deliveries(state);
    const endings = new Endings(state, { contexts, reports, deliveries });
    const tokens = new Tokens(state);
    const starts = new Starts(state, { contexts, endings, frontends, tokens });
    const plans = new Plans(state, { contexts, reports, starts, endings });
    this.#state = state;
    this.#contexts = contexts;
    this.#frontends = frontends;
    this.#reports = reports;
    this.#deliveries = deliveries;
    this.#endings = endings;
    this.#starts = starts;
    this.#plans = plans;
    this.#steps = new Steps(state, { plans, contexts, reports, endings, tokens });
  }

  /** The only entry. */
  react(event: AgentEvent): Effect[] {
    const state = this.#state;
    if (state.draining === "done") return [];
    state.nowMs = Math.max(state.nowMs, event.atMs);
    this.#handle(event);
    state.timers.run(state.nowMs);
    this.#starts.beginWaiting();
    const busy = this.#steps.advance();
    this.#reports.observe(busy);
    this.#drain(busy);
    this.#reports.sendDue();
    this.#wake();
    return state.takeEffects();
  }

  /** What people want to know at a glance; O(held calls). */
  use(): AgentUse {
    const { held, batch, setup, firstToken } = this.#state;
    const states: AgentUse["held"] = { fetching: 0, running: 0, parked: 0, swapped: 0, evicted: 0 };
    let fencedOutcomes = 0;
    for (const call of held.values()) {
      states[call.reportState(batch)]++;
      if (call.ending?.stage === "fenced") fencedOutcomes++;
    }
    return {
      held: states,
      kv: this.#contexts.kvUse(),
      unsentOutcomes: this.#state.unsentOutcomes(),
      unsentOutcomesMax: setup.limits.unsentOutcomesMax,
      fencedOutcomes,
      planIdleMs: this.#reports.planIdleMs,
      firstToken,
    };
  }

  #handle(event: AgentEvent): void {
    switch (event.kind) {
      case "started":
        this.#reports.want();
        return;
      case "planReceived":
        this.#plans.receive(event.plan);
        return;
      case "asked":
        this.#answer(event);
        return;
      case "stepped":
        this.#steps.stepped(event);
        return;
      case "opened":
        this.#starts.opened(event);
        return;
      case "openFailed":
        this.#starts.openFailed(event);
        return;
      case "swapped":
        this.#steps.swapped(event);
        return;
      case "retained":
        this.#contexts.retained(event.id, event.kept, event.context);
        return;
      case "left":
        this.#state.moving.delete(event.id);
        return;
      case "endAnswered":
        this.#deliveries.answered(event.id, event.confirmed);
        return;
      case "pingAnswered":
        this.#frontends.answered(event.frontend, event.answered);
        return;
      case "connectionChanged":
        this.#state.connected = event.connected;
        this.#frontends.forgiveSilence();
        return;
      case "drainAsked":
        this.#startDraining(event.withinMs ?? this.#state.setup.limits.drainMsMax);
        return;
      case "timePassed":
        // A timer may fire a little early; then it is needed again.
        this.#wakeAtMs = Number.POSITIVE_INFINITY;
        return;
      default: {
        const call = this.#state.held.get(event.id);
        // Dropped meanwhile: the answer is about nothing any more.
        if (call !== undefined) this.#handleOfCall(call, event);
      }
    }
  }

  #handleOfCall(call: HeldCall, event: AgentEvent): void {
    switch (event.kind) {
      case "fetched":
        this.#starts.fetched(call, event.body, event.outcome);
        return;
      case "haveAnswered":
        this.#starts.haveAnswered(call, event.answer);
        return;
      case "parked":
        call.preemptible = event.preemptible;
        // What was dropped or moved since is not back.
        call.contextTokens = Math.min(call.contextTokens, event.context.contextTokens);
        return;
      case "resultStored":
        this.#endings.resultStored(call, event.name);
        return;
      case "outcomeWritten":
        this.#endings.written(call, event.result);
        return;
      case "outcomeRead":
        if (call.phase === "ending") this.#endings.outcomeRead(call, event.result);
        else this.#starts.outcomeRead(call, event.result);
        return;
      default:
        throw new Error(`event ${event.kind} is about no call`);
    }
  }

  #answer({ ask, replyTo }: Extract<AgentEvent, { kind: "asked" }>): void {
    if (ask.kind === "report") {
      this.#plans.adopt(ask.epoch);
      this.#reports.answer(replyTo);
      return;
    }
    this.#state.emit({ kind: "send", subject: replyTo, message: this.#deliveries.gap(ask.call, ask.from) });
  }

  #startDraining(withinMs: number): void {
    const state = this.#state;
    if (state.draining !== "no") return;
    state.draining = "running";
    // What has not begun here would only wait: it is for others at once.
    for (const call of state.held.values()) if (!call.stepped && call.phase !== "ending") state.remove(call);
    this.#reports.want();
    state.timers.set("drain", state.nowMs + withinMs, () => this.#startFlushing());
  }

  #startFlushing(): void {
    const state = this.#state;
    state.draining = "flushing";
    state.timers.set("drain", state.nowMs + FLUSH_MS_MAX, () => this.#finishDraining());
  }

  /** Begun calls run on, then results are stored and ends confirmed, each within a time limit. */
  #drain(busy: boolean): void {
    const state = this.#state;
    if (state.draining === "running" && !busy) this.#startFlushing();
    if (state.draining !== "flushing" || state.stepping) return;
    this.#leave();
    if (state.deliveries.size > 0 || state.moving.size > 0) return;
    for (const call of state.held.values()) if (call.phase === "ending" && call.ending?.stage !== "fenced") return;
    this.#finishDraining();
  }

  /** What could not end goes on elsewhere: on this host with the state that it has here. */
  #leave(): void {
    const state = this.#state;
    if ((state.setup.info.hostBlocks ?? 0) === 0) return;
    for (const call of state.held.values()) {
      if (!call.opened || !call.preemptible || state.moving.has(call.id)) continue;
      if (call.contextTokens + call.hostTokens === 0) continue;
      call.opened = false;
      state.moving.add(call.id);
      state.emit({ kind: "leave", id: call.id });
    }
  }

  #finishDraining(): void {
    const state = this.#state;
    if (state.draining === "done") return;
    state.draining = "done";
    // Those that are still held go on elsewhere.
    for (const call of state.held.values()) state.traces?.left(call);
    this.#reports.sendNow();
    const { pool, engine, incarnation } = state.setup;
    const exit: Exit = { kind: "exit", pool, engine, incarnation };
    state.emit({ kind: "send", subject: subjects.report(pool), message: exit });
    state.emit({ kind: "drained" });
  }

  #wake(): void {
    const { timers, nowMs, draining } = this.#state;
    if (draining === "done") return;
    const nextMs = Math.min(timers.nextMs() ?? Number.POSITIVE_INFINITY, this.#reports.dueAtMs());
    // A wake that comes too early is harmless; one is only set anew when it would come too late.
    if (this.#wakeAtMs > nowMs && this.#wakeAtMs <= nextMs) return;
    this.#wakeAtMs = nextMs;
    if (nextMs < Number.POSITIVE_INFINITY) this.#state.emit({ kind: "wake", atMs: nextMs });
  }
}
