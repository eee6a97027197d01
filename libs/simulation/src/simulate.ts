/**
 * The simulator: virtual time around the very scheduler that ships. Events come from one heap, in the order of their
 * times and, at one time, in the order in which they were foreseen; so a run is a function of its specification.
 *
 * What happens at one moment is heard by the core first; then it plans once; then the engines go on.
 */
import {
  type CallId,
  type Command,
  type CoreConfig,
  type EngineId,
  type EngineReport,
  type Input,
  type Millis,
  Scheduler,
} from "@autellix/core";
import { type AgentWorld, INCARNATION, VirtualAgent } from "./agent.ts";
import type { SimCall, SimProgram } from "./calls.ts";
import { Clients, type ClientWorld } from "./clients.ts";
import { MinHeap } from "./heap.ts";
import { engineResult, type SimulationResult } from "./results.ts";
import { checkSpec, type SimulationSpec } from "./simulation-spec.ts";
import { srptPolicy } from "./srpt.ts";

type Event =
  | { kind: "program"; index: number }
  | { kind: "call"; program: SimProgram; index: number }
  | { kind: "segment"; agent: VirtualAgent; version: number }
  /** The core asked to be woken. */
  | { kind: "wake" }
  | { kind: "tick" };

/** As the scheduler service's defaults. */
const LIMITS = {
  attemptsCrashedMax: 3,
  programIdleMaxMs: 3_600_000,
  cancelMemoryMs: 60_000,
  cancelMemoryMax: 10_000,
  planResendMs: 1_000,
} as const;
/** How often the core hears that time passes, whatever it asked for. */
const TICK_MS = 1_000;

/**
 * Plays programs on engines under a system. Synchronous, and deterministic: the same specification gives the same
 * result, byte for byte.
 *
 * @throws RangeError for a specification that cannot be played.
 */
export function simulate(spec: SimulationSpec): SimulationResult {
  checkSpec(spec);
  return new Simulation(spec).run();
}

class Simulation implements AgentWorld, ClientWorld {
  private readonly spec: SimulationSpec;
  private readonly core: Scheduler;
  private readonly clients: Clients;
  private readonly agents: VirtualAgent[] = [];
  private readonly agentsById = new Map<EngineId, VirtualAgent>();
  private readonly events = new MinHeap<Event>();
  /** Events that are neither ticks nor wakes: without any, nothing will happen any more. */
  private foreseen = 0;
  private now: Millis = 0;
  /** Programs that have ended, until the core has heard of their last calls' ends. */
  private endedPrograms: SimProgram[] = [];
  private planAsked = false;
  private wakeAt: Millis = Number.POSITIVE_INFINITY;
  /** Σ over calls of the time in the system so far. */
  private callsMs = 0;

  constructor(spec: SimulationSpec) {
    this.spec = spec;
    this.clients = new Clients(spec, this);
    this.core = new Scheduler(configOf(spec, this.clients));
    const { system, preset, engines, plansOn = "window" } = spec;
    for (let i = 0; i < engines; i++) {
      const agent = new VirtualAgent(i, preset, system, plansOn, this);
      this.agents.push(agent);
      this.agentsById.set(agent.id, agent);
    }
  }

  run(): SimulationResult {
    const { untilMs = Number.POSITIVE_INFINITY } = this.spec;
    this.feed({ kind: "leaderStarted", at: 0 });
    for (const { id: engine, capacity } of this.agents)
      this.feed({ kind: "engineJoined", at: 0, engine, incarnation: INCARNATION, capacity });
    this.clients.start();
    this.events.push(TICK_MS, { kind: "tick" });
    while (!this.clients.areDone) {
      const at = this.events.minKey;
      this.passTo(Math.min(at, untilMs));
      if (at > untilMs) break;
      this.moment();
    }
    return this.result();
  }

  private passTo(at: Millis): void {
    this.callsMs += this.clients.calls.size * (at - this.now);
    this.now = at;
  }

  /** All that happens now, then one planning, then the engines. */
  private moment(): void {
    const { events, now } = this;
    while (events.minKey <= now) this.happen(events.pop() as Event);
    if (this.planAsked && this.mayPlan()) {
      this.planAsked = false;
      this.feed({ kind: "planDue", at: now });
    }
    for (const agent of this.agents) if (agent.atBoundary) agent.goOn(now);
    if (this.foreseen === 0 && !this.clients.areDone)
      throw new Error(`${this.clients.calls.size} calls wait at ${now} ms, and no engine runs`);
  }

  /** In windows, an engine that is inside one hears of no plan. */
  private mayPlan(): boolean {
    return this.spec.plansOn === "arrival" || this.agents.some((agent) => agent.atBoundary);
  }

  private happen(event: Event): void {
    switch (event.kind) {
      case "program":
        this.foreseen--;
        this.clients.programArrives(event.index);
        break;
      case "call":
        this.foreseen--;
        this.callArrives(event.program, event.index);
        break;
      case "segment":
        this.foreseen--;
        event.agent.segmentEnded(this.now, event.version);
        break;
      case "wake":
        if (this.wakeAt > this.now) break;
        this.wakeAt = Number.POSITIVE_INFINITY;
        this.feed({ kind: "timePassed", at: this.now });
        break;
      case "tick":
        this.feed({ kind: "timePassed", at: this.now });
        this.events.push(this.nextTickAt(), event);
        break;
    }
  }

  /** Where there is no call, the last tick before the next event: a pause of years costs nothing. */
  private nextTickAt(): Millis {
    const idleMs = this.clients.calls.size === 0 ? this.events.minKey - this.now : 0;
    return this.now + TICK_MS * Math.max(1, Math.floor(idleMs / TICK_MS));
  }

  private foresee(at: Millis, event: Event): void {
    this.foreseen++;
    this.events.push(at, event);
  }

  // ── clients ────────────────────────────────────────────────────────────────────────────────────────────────

  programArrivesAt(at: Millis, index: number): void {
    this.foresee(at, { kind: "program", index });
  }

  callArrivesAt(at: Millis, program: SimProgram, index: number): void {
    this.foresee(at, { kind: "call", program, index });
  }

  private callArrives(program: SimProgram, index: number): void {
    // A client calls again after it has read an answer: the core knows of that answer's end, too.
    if (program.unreported > 0) {
      for (const agent of this.agents) if (agent.owesReportOf(program)) agent.report();
    }
    const at = this.now;
    this.feed({ kind: "callArrived", at, call: this.clients.callArrives(program, index, at) });
  }

  programEnded(program: SimProgram): void {
    this.endedPrograms.push(program);
    for (const agent of this.agents) agent.model.kv.forget(program);
  }

  // ── agents ─────────────────────────────────────────────────────────────────────────────────────────────────

  callOf(id: CallId): SimCall | undefined {
    return this.clients.calls.get(id);
  }

  segmentEndsAt(agent: VirtualAgent, at: Millis, version: number): void {
    this.foresee(at, { kind: "segment", agent, version });
  }

  ended(call: SimCall, at: Millis): void {
    this.clients.callEnds(
      call,
      this.agents.findIndex(({ id }) => id === call.engine),
      at,
    );
  }

  report(report: EngineReport): void {
    this.feed({ kind: "reported", at: this.now, report });
    if (this.endedPrograms.length === 0) return;
    const waiting = this.endedPrograms;
    this.endedPrograms = [];
    for (const program of waiting) {
      if (program.unreported > 0) this.endedPrograms.push(program);
      else this.feed({ kind: "programEnded", at: this.now, program: program.id, cancel: false });
    }
  }

  // ── core ───────────────────────────────────────────────────────────────────────────────────────────────────

  private feed(input: Input): void {
    this.spec.beforeInput?.(input, this.core);
    const commands = this.core.apply(input);
    for (let i = 0; i < commands.length; i++) this.carryOut(commands[i] as Command);
  }

  private carryOut(command: Command): void {
    switch (command.kind) {
      case "sendPlan":
        this.agentsById.get(command.plan.engine)?.receive(command.plan, this.now);
        break;
      case "wakeAt":
        if (command.at <= this.now) this.planAsked = true;
        else if (command.at < this.wakeAt) {
          this.wakeAt = command.at;
          this.events.push(command.at, { kind: "wake" });
        }
        break;
      case "ack":
      case "saveEntry":
        break;
      default:
        throw new Error(`the core said ${command.kind}, but nothing is lost in the lab`);
    }
  }

  private result(): SimulationResult {
    const { now, agents, clients, spec } = this;
    const inEngineMs = agents.reduce((sum, { model }) => sum + model.callsMs, 0);
    const { promotions, demotions, preemptions } = this.core.totals;
    return {
      programs: clients.programResults(now),
      endedAtMs: now,
      offeredTokens: clients.offeredTokens,
      completedTokens: clients.completedTokens,
      engine: agents.map((agent) => engineResult(agent, now)),
      promotions,
      demotions,
      preemptions,
      callsInEngineMean: now > 0 ? inEngineMs / now : 0,
      waitingCallsMean: now > 0 ? Math.max(0, this.callsMs - inEngineMs) / now : 0,
      ...(spec.keepCalls ? { calls: clients.callResults } : {}),
    };
  }
}

function configOf({ system }: SimulationSpec, clients: Clients): CoreConfig {
  const { policy, ladder, balancer, windowSteps, reserveCallsMax, beta, promotedShare, binding, misfit } = system;
  return {
    ...LIMITS,
    policy: policy === "srpt" ? srptPolicy((id) => clients.remainingMs(id)) : policy,
    ladder,
    balancer,
    windowSteps,
    reserveCallsMax,
    ...(beta === undefined ? {} : { beta }),
    ...(promotedShare === undefined ? {} : { promotedShare }),
    ...(binding === undefined ? {} : { binding }),
    ...(misfit === undefined ? {} : { misfit }),
  };
}
