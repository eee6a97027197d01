/**
 * The simulator: virtual time around the very scheduler that ships. Events come from one heap, in the order of their
 * times and, at one time, in the order in which they were foreseen; so a run is a function of its specification.
 *
 * What happens at one moment is heard by the core first; then it plans once; then the engines go on.
 */
import {
  type CallId,
  type Command,
  type EngineId,
  type EngineReport,
  type Input,
  type Millis,
  type Policy,
  type ProgramId,
  Scheduler,
} from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import { type AgentWorld, INCARNATION, VirtualAgent } from "./agent.ts";
import { callIdOf, SimCall, SimProgram } from "./calls.ts";
import { MinHeap } from "./heap.ts";
import type { ProgramSpec } from "./program.ts";
import {
  type CallResult,
  callResult,
  engineResult,
  type ProgramResult,
  programResult,
  type SimulationResult,
} from "./results.ts";
import { srptPolicy, workOf } from "./srpt.ts";
import type { System } from "./systems.ts";

export interface SimulationSpec {
  /** In the order of `arrivesAtMs`. */
  programs: readonly ProgramSpec[];
  engines: number;
  preset: EnginePreset;
  system: System;
  /**
   * `window` (Algorithm 1, the default): an engine is planned when its window of N steps is over, or when it is idle.
   * `arrival` (the live system): as soon as something changes, and the plan counts from the next step on.
   */
  plansOn?: "window" | "arrival";
  /** The run is stopped at this time. */
  untilMs?: number;
  /** The run is stopped when all of these programs have ended: [from, to) by index. */
  untilEnded?: { from: number; to: number };
  /** Report each call, too. */
  keepCalls?: boolean;
}

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
export const ENGINES_MAX = 4_096;

/**
 * Plays programs on engines under a system. Synchronous, and deterministic: the same specification gives the same
 * result, byte for byte.
 *
 * @throws RangeError for a specification that cannot be played.
 */
export function simulate(spec: SimulationSpec): SimulationResult {
  return new Simulation(spec).run();
}

class Simulation implements AgentWorld {
  private readonly spec: SimulationSpec;
  private readonly core: Scheduler;
  private readonly agents: VirtualAgent[] = [];
  private readonly agentsById = new Map<EngineId, VirtualAgent>();
  private readonly events = new MinHeap<Event>();
  /** Events that are neither ticks nor wakes: without any, nothing will happen any more. */
  private foreseen = 0;
  private now: Millis = 0;
  private readonly calls = new Map<CallId, SimCall>();
  private readonly programs = new Map<ProgramId, SimProgram>();
  private readonly results: ProgramResult[] = [];
  private readonly callResults: CallResult[] = [];
  private programsLeft: number;
  private awaitedLeft = Number.POSITIVE_INFINITY;
  /** Programs that have ended, until the core has heard of their last calls' ends. */
  private endedPrograms: SimProgram[] = [];
  private planAsked = false;
  private wakeAt: Millis = Number.POSITIVE_INFINITY;
  private seq = 0;
  private offeredTokens = 0;
  private completedTokens = 0;
  /** Σ over calls of the time in the system so far. */
  private callsArea = 0;

  constructor(spec: SimulationSpec) {
    check(spec);
    this.spec = spec;
    const { system, preset, engines, plansOn = "window" } = spec;
    this.programsLeft = spec.programs.length;
    if (spec.untilEnded) this.awaitedLeft = spec.untilEnded.to - spec.untilEnded.from;
    this.core = new Scheduler({
      ...LIMITS,
      policy: this.policy(system.policy),
      ladder: system.ladder,
      balancer: system.balancer,
      windowSteps: system.windowSteps,
      reserveCallsMax: system.reserveCallsMax,
      ...(system.beta === undefined ? {} : { beta: system.beta }),
      ...(system.binding === undefined ? {} : { binding: system.binding }),
      ...(system.misfit === undefined ? {} : { misfit: system.misfit }),
    });
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
    this.foreseeProgram(0);
    this.events.push(TICK_MS, { kind: "tick" });
    while (this.programsLeft > 0 && this.awaitedLeft > 0) {
      const at = this.events.minKey;
      if (at > untilMs) {
        this.passTo(untilMs);
        break;
      }
      this.passTo(at);
      this.moment();
    }
    return this.result();
  }

  private passTo(at: Millis): void {
    this.callsArea += this.calls.size * (at - this.now);
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
    if (this.foreseen === 0 && this.programsLeft > 0)
      throw new Error(`${this.calls.size} calls wait at ${now} ms, and no engine runs`);
  }

  /** In windows, an engine that is inside one hears of no plan. */
  private mayPlan(): boolean {
    return this.spec.plansOn === "arrival" || this.agents.some((agent) => agent.atBoundary);
  }

  private happen(event: Event): void {
    switch (event.kind) {
      case "program":
        this.foreseen--;
        this.programArrives(event.index);
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
        if (this.wakeAt <= this.now) {
          this.wakeAt = Number.POSITIVE_INFINITY;
          this.feed({ kind: "timePassed", at: this.now });
        }
        break;
      case "tick":
        this.feed({ kind: "timePassed", at: this.now });
        this.events.push(this.now + TICK_MS, event);
        break;
    }
  }

  private foresee(at: Millis, event: Event): void {
    this.foreseen++;
    this.events.push(at, event);
  }

  // ── clients ────────────────────────────────────────────────────────────────────────────────────────────────

  private foreseeProgram(index: number): void {
    const program = this.spec.programs[index];
    if (program) this.foresee(program.arrivesAtMs, { kind: "program", index });
  }

  private programArrives(index: number): void {
    this.foreseeProgram(index + 1);
    const spec = this.spec.programs[index];
    if (!spec) throw new RangeError(`no program ${index}`);
    const program = new SimProgram(index, spec);
    this.programs.set(program.id, program);
    for (const [call, callSpec] of spec.calls.entries()) {
      this.offeredTokens += callSpec.decodeTokens;
      program.remainingMs += this.workOf(program, call);
      if (callSpec.parents.length > 0) continue;
      this.foresee(program.arrivedAt + callSpec.gapMs, { kind: "call", program, index: call });
    }
  }

  private callArrives(program: SimProgram, index: number): void {
    // A client calls again after it has read an answer: the core knows of that answer's end, too.
    if (program.unreported > 0) this.reportEndsOf(program);
    const spec = program.spec.calls[index];
    if (!spec) throw new RangeError(`program ${program.index} has no call ${index}`);
    const call = new SimCall(program, index, this.now);
    program.calls[index] = call;
    this.calls.set(call.id, call);
    this.feed({
      kind: "callArrived",
      at: this.now,
      call: {
        id: call.id,
        seq: ++this.seq,
        program: program.id,
        ...(spec.thread === undefined ? {} : { thread: spec.thread }),
        ...(spec.parents.length === 0 ? {} : { parents: spec.parents.map((parent) => callIdOf(program, parent)) }),
        arrivedAt: this.now,
        // Nobody gives up in the lab.
        deadlineAt: Number.POSITIVE_INFINITY,
        promptTokens: call.promptTokens,
      },
    });
  }

  private reportEndsOf(program: SimProgram): void {
    for (const agent of this.agents) if (agent.owesReportOf(program)) agent.report();
  }

  private workOf(program: SimProgram, call: number): number {
    const spec = program.spec.calls[call];
    return spec ? workOf(this.spec.preset.cost, spec, program.promptTokens[call] ?? 0) : 0;
  }

  private policy(policy: Policy | "srpt"): Policy {
    return policy === "srpt" ? srptPolicy((id) => this.programs.get(id)?.remainingMs ?? 0) : policy;
  }

  // ── agents ─────────────────────────────────────────────────────────────────────────────────────────────────

  callOf(id: CallId): SimCall | undefined {
    return this.calls.get(id);
  }

  segmentEndsAt(agent: VirtualAgent, at: Millis, version: number): void {
    this.foresee(at, { kind: "segment", agent, version });
  }

  ended(call: SimCall, at: Millis): void {
    const { program } = call;
    this.calls.delete(call.id);
    this.completedTokens += program.spec.calls[call.index]?.decodeTokens ?? 0;
    program.remainingMs -= this.workOf(program, call.index);
    program.endedCalls++;
    if (this.spec.keepCalls)
      this.callResults.push(
        callResult(
          call,
          this.agents.findIndex(({ id }) => id === call.engine),
        ),
      );
    for (const child of program.children[call.index] ?? []) {
      const left = (program.parentsLeft[child] ?? 0) - 1;
      program.parentsLeft[child] = left;
      if (left > 0) continue;
      this.foresee(at + (program.spec.calls[child]?.gapMs ?? 0), { kind: "call", program, index: child });
    }
    if (program.endedCalls === program.spec.calls.length) this.programEnds(program, at);
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

  private programEnds(program: SimProgram, at: Millis): void {
    program.endedAt = at;
    const { preset, system, untilEnded } = this.spec;
    this.results.push(programResult(program, at, preset.cost, system));
    this.programs.delete(program.id);
    this.endedPrograms.push(program);
    for (const agent of this.agents) agent.model.kv.forget(program);
    this.programsLeft--;
    if (untilEnded && program.index >= untilEnded.from && program.index < untilEnded.to) this.awaitedLeft--;
  }

  // ── core ───────────────────────────────────────────────────────────────────────────────────────────────────

  private feed(input: Input): void {
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
    const { now, core, agents, spec } = this;
    for (const program of this.programs.values())
      this.results.push(programResult(program, now, spec.preset.cost, spec.system));
    this.results.sort((a, b) => a.index - b.index);
    const engine = agents.map((agent) => engineResult(agent, now));
    const inEngine = agents.reduce((sum, { model }) => sum + model.callsMs, 0);
    const { promotions, demotions, preemptions } = core.totals;
    return {
      programs: this.results,
      endedAtMs: now,
      offeredTokens: this.offeredTokens,
      completedTokens: this.completedTokens,
      engine,
      promotions,
      demotions,
      preemptions,
      callsInEngineMean: now > 0 ? inEngine / now : 0,
      waitingCallsMean: now > 0 ? Math.max(0, this.callsArea - inEngine) / now : 0,
      ...(spec.keepCalls ? { calls: this.callResults } : {}),
    };
  }
}

function check({ programs, engines, untilEnded }: SimulationSpec): void {
  if (!Number.isInteger(engines) || engines < 1 || engines > ENGINES_MAX)
    throw new RangeError(`a simulation has 1 to ${ENGINES_MAX} engines, not ${engines}`);
  let before = 0;
  for (const [index, { arrivesAtMs, calls }] of programs.entries()) {
    if (!(arrivesAtMs >= before)) throw new RangeError(`program ${index} arrives before the one before it`);
    if (calls.length === 0) throw new RangeError(`program ${index} has no calls`);
    before = arrivesAtMs;
  }
  if (untilEnded && !(untilEnded.from >= 0 && untilEnded.from < untilEnded.to && untilEnded.to <= programs.length))
    throw new RangeError(`programs ${untilEnded.from} to ${untilEnded.to} are not among ${programs.length}`);
}
