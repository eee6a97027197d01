/**
 * What a leading scheduler decides: synchronous, without clock, random or IO. It lives for one epoch. It owns the
 * core, what the core does not need to know of a call (its address and reply), the agents' liveness, and the records
 * on their way; the adapter owns every connection.
 *
 * Invariants: nothing is acked without a terminal record read or written (S3); no plan leaves before the take-over is
 * complete (design §4); the end of a call is sent only after its record is stored (design §2.7).
 */
import { type Command, callId, type EnginePlan, engineId, type Input, Scheduler } from "@autellix/core";
import { type CallKey, type Control, callKey, type EngineInfo, type Exit, type Report } from "@autellix/protocol";
import { callsOfFrontend, type KnownCall, readArrival } from "./arrival.ts";
import { ControlDesk } from "./control.ts";
import { coreConfig } from "./core-config.ts";
import type { CallMessage, Effect, Event, MachineConfig, TakeOver } from "./events.ts";
import { type Figures, figuresOf } from "./figures.ts";
import { Liveness } from "./liveness.ts";
import { ProgramStore } from "./programs.ts";
import type { InputSink } from "./recorder.ts";
import { RecordDesk } from "./records.ts";
import { Seldom } from "./seldom.ts";
import { SpanDesk } from "./spans.ts";
import { StatusDesk } from "./status.ts";
import { ViewDesk } from "./view.ts";
import { toCoreCapacity, toCoreRecord, toCoreReport, toWirePlan } from "./wire.ts";

/** Period of `tick`: liveness, beat, status and deadlines. */
export const TICK_MS = 250;
/** An agent that is not known yet is asked for its full report at most this often. */
const ASK_AGAIN_MS = 500;
/** The calls of a dead frontend are looked for at most this often. */
const ORPHAN_SWEEP_MS = 1_000;

export class SchedulerMachine {
  readonly epoch: number;
  private readonly config: MachineConfig;
  private readonly core: Scheduler;
  private readonly inputs: InputSink | undefined;
  private readonly calls = new Map<CallKey, KnownCall>();
  private readonly liveness: Liveness;
  private readonly programs: ProgramStore;
  private readonly records: RecordDesk;
  private readonly control: ControlDesk;
  private readonly status: StatusDesk;
  private readonly view: ViewDesk;
  /** Unset while nothing is traced. */
  private readonly spans: SpanDesk | undefined;
  /** Records read at the take-over, until the calls that they belong to are read. */
  private gathered: TakeOver["records"];
  /** Engines that have not reported yet, while gathering. */
  private readonly missing: Set<string>;
  private readonly infos = new Map<string, EngineInfo>();
  private readonly asks = new Seldom(ASK_AGAIN_MS);
  private readonly orphanSweeps = new Seldom(ORPHAN_SWEEP_MS);
  private readonly startedAt: number;
  private readonly timed: boolean;
  private callsRead = false;
  private leading = false;
  private wakeAsked = false;
  private beatNumber = 0;
  private effects: Effect[] = [];

  /**
   * @param at the leader's clock, which every event brings: the stream's, carried on by a monotonic one.
   * @param inputs hears what the core is fed and what it makes of it. No effect of the machine: the input at which the
   *   core throws must not be lost with the effects of that reaction.
   */
  constructor(config: MachineConfig, takeOver: TakeOver, at: number, inputs?: InputSink) {
    this.config = config;
    this.epoch = takeOver.epoch;
    const core = coreConfig(config);
    this.core = new Scheduler(core);
    this.timed = core.policy.measures === "time";
    this.inputs = inputs;
    this.liveness = new Liveness(config);
    this.programs = new ProgramStore(config.pool, config.programIdleMaxMs);
    const emit = (effect: Effect) => this.effects.push(effect);
    const { pool, leader, traceSample: sample } = config;
    const { epoch } = takeOver;
    if (sample) this.spans = new SpanDesk({ pool, leader, sample, epoch }, this.core, this.calls, emit);
    this.records = new RecordDesk(epoch, this.calls, emit, this.spans);
    this.control = new ControlDesk(config.pool, core.policy.measures, this.core, this.programs, emit);
    this.status = new StatusDesk(config, epoch);
    const parts = { config, epoch, core: this.core, status: this.status, infos: this.infos, emit };
    this.view = new ViewDesk(parts, this.stateOf);
    this.gathered = takeOver.records;
    this.missing = new Set(takeOver.engines);
    this.startedAt = at;
    for (const restored of takeOver.programs)
      this.feed({ kind: "programStarted", at, program: restored.program, restored });
    this.spans?.takesOver(takeOver, at);
    for (const engine of takeOver.engines) this.ask(engine, at);
  }

  /** @returns what the constructor wants done: the first questions. */
  start(): Effect[] {
    return this.takeEffects();
  }

  /** @param at the leader's clock; never lower than before. */
  react(event: Event, at: number): Effect[] {
    switch (event.kind) {
      case "call":
        this.callArrived(event.message, at);
        break;
      case "callsRead":
        this.callsRead = true;
        this.leadWhenGathered(at);
        break;
      case "agent":
        if (event.message.kind === "report") this.reported(event.message, at);
        else this.exited(event.message, at);
        break;
      case "control":
        this.controlled(event.tenant, event.control, event.token, at);
        break;
      case "view":
        // Before it leads it knows too little to show: the caller asks again.
        if (this.leading) this.view.asked(event.ask, event.token, at);
        break;
      case "viewDue":
        this.view.due(at);
        break;
      case "beat":
        this.heardBeat(event.beat.epoch, event.beat.leader, at);
        break;
      case "wrote":
      case "read":
      case "deadStored":
        for (const input of this.records.react(event, at)) this.feed(input);
        break;
      case "programStored":
        this.programStored(event.key, event.result);
        break;
      case "flushPrograms":
        this.effects.push(...this.programs.flush());
        break;
      case "outcomeLookedUp":
        this.control.lookedUp(event.token, event.ended);
        break;
      case "outcomesUsed":
        this.outcomesUsed(event.share, at);
        break;
      case "retry":
        this.effects.push(event.effect);
        break;
      case "wake":
        this.wakeAsked = false;
        this.feed({ kind: "planDue", at });
        break;
      case "tick":
        this.tick(at);
        break;
    }
    return this.takeEffects();
  }

  /** For people, at a glance. */
  figures(): Figures {
    const { core, liveness, timed } = this;
    return figuresOf({
      core,
      liveness,
      timed,
      dispatching: this.leading && this.status.isDispatching && this.infos.size > 0,
    });
  }

  private takeEffects(): Effect[] {
    const effects = this.effects;
    this.effects = [];
    return effects;
  }

  // ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────

  private callArrived(message: CallMessage, at: number): void {
    const key = callKey(message.address.tenant, message.address.callId);
    const arrival = readArrival(message, this.config.callLifetimeMaxMs);
    const record = this.gathered.get(key);
    const { storedAtMs } = message;
    if (arrival.kind === "refused") {
      this.spans?.refused(key, arrival.known, storedAtMs, arrival.code, at);
      this.records.refuse(key, arrival.known, arrival.code, arrival.message);
      return;
    }
    // A call that comes again keeps what is noted of it.
    arrival.known.notes = this.calls.get(key)?.notes;
    this.calls.set(key, arrival.known);
    const held = !this.leading && record ? { record: toCoreRecord(record.seq, record.head) } : {};
    const idleFromMs = this.spans?.idleFromMs(arrival.known);
    this.feed({ kind: "callArrived", at, call: arrival.call, ...held });
    this.spans?.arrived(key, arrival.known, storedAtMs, idleFromMs, at);
  }

  // ── agents ─────────────────────────────────────────────────────────────────────────────────────────────────

  private reported(report: Report, at: number): void {
    if (report.pool !== this.config.pool) return;
    const known = this.liveness.agents.get(report.engine);
    if (known?.incarnation !== report.incarnation && !report.info) {
      this.ask(report.engine, at);
      return;
    }
    const { isBack, leaves } = this.liveness.heard(report.engine, report.incarnation, report.draining);
    if (isBack) this.feed({ kind: "engineSuspected", at, engine: engineId(report.engine), suspected: false });
    if (isBack || leaves) this.view.touchEngine(report.engine);
    if (leaves) this.log("info", { engine: report.engine }, "engine is about to leave");
    if (report.info && known?.incarnation !== report.incarnation) this.joined(report, report.info, at);
    this.spans?.reported(report, at);
    this.status.heard(report);
    this.feed({ kind: "reported", at, report: toCoreReport(report, this.epoch) });
    this.view.heard(report);
    for (const frontend of report.frontendsDead) this.frontendDead(frontend, at);
    this.missing.delete(report.engine);
    this.leadWhenGathered(at);
  }

  private joined(report: Report, info: EngineInfo, at: number): void {
    const { engine, incarnation } = report;
    this.spans?.engineLost(engine, true);
    this.infos.set(engine, info);
    this.feed({ kind: "engineJoined", at, engine: engineId(engine), incarnation, capacity: toCoreCapacity(info) });
    this.effects.push({ kind: "storeEngine", engine }, { kind: "storeModels", models: info.models });
    this.log("info", { engine, incarnation }, "engine joined");
  }

  private exited(exit: Exit, at: number): void {
    const agent = this.liveness.agents.get(exit.engine);
    if (exit.pool !== this.config.pool || (agent && agent.incarnation !== exit.incarnation)) return;
    this.lose(exit.engine, "exit", at);
    this.effects.push({ kind: "dropEngine", engine: exit.engine });
    this.missing.delete(exit.engine);
    this.leadWhenGathered(at);
  }

  private lose(engine: string, cause: "exit" | "silence", at: number): void {
    this.liveness.forget(engine);
    this.status.forget(engine);
    this.view.forget(engine);
    this.infos.delete(engine);
    this.spans?.engineLost(engine, cause === "silence");
    this.feed({ kind: "engineLost", at, engine: engineId(engine), cause });
    this.log("warn", { engine, cause }, "engine lost");
  }

  private ask(engine: string, at: number): void {
    if (this.asks.mayDo(engine, at)) this.effects.push({ kind: "askReport", engine, epoch: this.epoch });
  }

  /** Nobody will read these calls: they end, the waiting ones too (design §2, Frontend gone). */
  private frontendDead(frontend: string, at: number): void {
    // Every agent repeats it in every report while it lasts.
    if (!this.orphanSweeps.mayDo(frontend, at)) return;
    for (const key of callsOfFrontend(this.calls, frontend)) {
      this.feed({ kind: "callCancelled", at, call: callId(key), cause: "orphan" });
    }
  }

  // ── taking over ────────────────────────────────────────────────────────────────────────────────────────────

  /** Acts only when CALLS is read and every listed engine has reported, or had the time that makes it lost. */
  private leadWhenGathered(at: number): void {
    if (this.leading || !this.callsRead) return;
    if (this.missing.size > 0 && at - this.startedAt < this.config.agentLostMs) return;
    this.leading = true;
    this.log("info", { epoch: this.epoch, calls: this.calls.size, engines: this.liveness.agents.size }, "leading");
    this.spans?.tookOver(at);
    this.feed({ kind: "leaderStarted", at });
    for (const engine of this.missing) this.effects.push({ kind: "dropEngine", engine });
    this.missing.clear();
    this.gathered = new Map();
  }

  private heardBeat(epoch: number, leader: string, at: number): void {
    if (leader === this.config.leader) this.liveness.echo(at);
    else if (epoch > this.epoch) this.stepDown(`leader ${leader} has epoch ${epoch}`);
  }

  private stepDown(reason: string): void {
    this.effects.push({ kind: "stepDown", reason });
  }

  // ── time ───────────────────────────────────────────────────────────────────────────────────────────────────

  private tick(at: number): void {
    const { pool, leader } = this.config;
    this.effects.push({ kind: "sendBeat", beat: { pool, epoch: this.epoch, leader, number: ++this.beatNumber } });
    if (!this.leading) {
      for (const engine of this.missing) this.ask(engine, at);
      this.leadWhenGathered(at);
      return;
    }
    const { suspected, lost } = this.liveness.tick(at);
    for (const engine of suspected) {
      this.feed({ kind: "engineSuspected", at, engine: engineId(engine), suspected: true });
      this.view.touchEngine(engine);
      this.log("warn", { engine }, "engine is silent");
    }
    for (const engine of lost) this.lose(engine, "silence", at);
    this.feed({ kind: "timePassed", at });
    this.spans?.tick();
    this.effects.push({ kind: "sendStatus", status: this.status.view(this.core, this.infos, this.stateOf, at) });
  }

  private readonly stateOf = (engine: string) => this.liveness.stateOf(engine);

  private outcomesUsed(share: number, at: number): void {
    const admitsNew = share < this.config.outcomesShareMax;
    if (this.status.setReason(admitsNew ? undefined : "outcomes stream nearly full")) {
      this.log("warn", { share, dispatching: admitsNew }, "outcomes stream");
    }
    this.feed({ kind: "timePassed", at, admitsNew });
  }

  // ── control ────────────────────────────────────────────────────────────────────────────────────────────────

  private controlled(tenant: string, control: Control, token: number, at: number): void {
    // No answer yet: the caller repeats its request, and by then this leader acts (design §2, Cancel).
    if (!this.leading) return;
    for (const input of this.control.inputsOf(tenant, control, at)) this.feed(input);
    if (control.op === "program.end") this.spans?.programEnded(tenant, control.program_id, at);
    this.control.answer(tenant, control, token);
  }

  private programStored(key: string, result: "stored" | "refused" | "unknown"): void {
    if (result === "refused") {
      this.stepDown("a state write was refused: a newer epoch exists");
      return;
    }
    const { waiters, effects } = this.programs.stored(key, result === "stored");
    this.effects.push(...effects);
    for (const token of waiters) this.control.stored(token);
  }

  // ── the core ───────────────────────────────────────────────────────────────────────────────────────────────

  private feed(input: Input): void {
    this.inputs?.fed(input);
    const commands = this.core.apply(input);
    this.inputs?.answered(commands);
    for (const command of commands) this.carry(command, input.at);
  }

  private carry(command: Command, at: number): void {
    switch (command.kind) {
      case "sendPlan":
        this.sendPlan(command.plan, at);
        break;
      case "writeMarker":
        this.spans?.superseded(command, at);
        this.records.writeMarker(command);
        break;
      case "writeOutcome":
        this.records.writeOutcome(command);
        break;
      case "deadLetter":
        this.records.keepDead(command.call, `engine crashed ${command.crashes} times under this call`);
        break;
      case "ack":
        this.acked(command.call, command.seq, at);
        break;
      case "saveEntry":
        this.effects.push(...this.programs.save(command.entry));
        break;
      case "wakeAt":
        // A deadline or a promotion is seen by the next tick; a plan is wanted as soon as the events at hand are read.
        if (command.at > at || this.wakeAsked) break;
        this.wakeAsked = true;
        this.effects.push({ kind: "after", ms: 0, event: { kind: "wake" } });
        break;
    }
  }

  private sendPlan(plan: EnginePlan, at: number): void {
    this.spans?.planned(plan, this.infos.get(plan.engine)?.batchCallsMax ?? 0, at);
    const wire = toWirePlan(plan, this.config.pool, this.epoch, this.calls, this.spans?.onWire(at));
    this.effects.push({ kind: "sendPlan", plan: wire });
  }

  private acked(key: CallKey, seq: number, at: number): void {
    const known = this.calls.get(key);
    this.calls.delete(key);
    this.spans?.acked(known, at);
    this.status.ended();
    this.effects.push({ kind: "ack", seq, bodyObject: known?.bodyObject });
  }

  private log(level: "info" | "warn", fields: Record<string, unknown>, text: string): void {
    this.effects.push({ kind: "log", level, fields, text });
  }
}
