/**
 * All that the core knows, and the few moves that every handler shares. Nothing here survives a leader but what
 * `saveEntry` and the records hold: a new leader rebuilds it from CALLS, reports, OUTCOMES and the saved entries.
 */
import { LadderCalibrator } from "./calibration.ts";
import type { Call } from "./call.ts";
import type { Changes } from "./changes.ts";
import type { CoreConfig } from "./config.ts";
import type { CancelCause, Command, FinishedCall, ReportedCall } from "./contract.ts";
import { Deadlines } from "./deadlines.ts";
import { Engine } from "./engine.ts";
import { DueHeap } from "./heap.ts";
import { IdTable } from "./id-table.ts";
import type { CallId, EngineId, Millis } from "./ids.ts";
import { type Ladder, levelOf } from "./ladder.ts";
import { nextCall } from "./policies.ts";
import { byRank, LevelQueues } from "./queues.ts";
import { claim, dropRetained, type Retained, unclaim } from "./retained.ts";
import { awaitPromotion, wantPromotions } from "./starvation.ts";
import { ProcessTable, type ProgramEntry, saved } from "./table.ts";
import { WaitTally } from "./wait-tally.ts";

/**
 * Waiting over service at which a call is promoted, when nobody says otherwise. Others' usual choice, 8, makes a storm
 * of promotions in overload, which is FCFS again; far above 32 nobody is promoted (docs/EVALUATION.md, β).
 */
export const BETA = 32;
/** Service below this counts as this much in the ratio. */
export const BETA_FLOOR_MS = 1_000;
/**
 * Of an engine's places, how many promoted calls may have at a time, when nobody says otherwise. Without a limit all
 * calls starve in deep overload, and all in Q1 is FCFS with lost contexts on top (decision 0038).
 */
export const PROMOTED_SHARE = 0.05;

/** What the scheduler has done since it was made. */
export interface Totals {
  promotions: number;
  demotions: number;
  /** Calls that left a batch unfinished. */
  preemptions: number;
  /** Attempts that a loss, a crash or a take-over began. */
  failovers: number;
}

/** Whether the call has no terminal record yet: heaps drop the others in passing. */
const isOpen = (call: Call): boolean => call.stage !== "ended";

export class State {
  readonly config: CoreConfig;
  readonly beta: number;
  readonly betaFloorMs: Millis;
  readonly promotedShare: number;
  /** Whether calls are promoted at all. */
  readonly promotes: boolean;
  readonly table: ProcessTable;
  /** Un-acked calls. */
  readonly calls = new IdTable<Call>();
  readonly engines = new Map<EngineId, Engine>();
  /** Queued calls that no engine has: there is none, or they are bound late. */
  readonly unbound: LevelQueues;
  /** Deadlines; a call that has ended is skipped when it comes out. */
  readonly deadlines = new Deadlines();
  /** Calls that are promoted when the next batch is formed: they starved already when they came. */
  dueAtOnce: Call[] = [];
  /** When calls below Q1 starve. */
  readonly promotions = new DueHeap<Call>();
  readonly cancelMemory = new Map<CallId, { cause: CancelCause; until: Millis }>();
  /** What agents reported of calls that were not read yet, while gathering. */
  readonly reportedEarly = new Map<CallId, { engine: Engine; reported?: ReportedCall; finished?: FinishedCall }>();
  leading = false;
  /** False while OUTCOMES is nearly full. */
  admitsNew = true;
  /** Engines whose plan is due. */
  readonly planDue = new Set<Engine>();
  readonly totals: Totals = { promotions: 0, demotions: 0, preemptions: 0, failovers: 0 };
  /** Waiting of calls when they were first given to an engine, by the level that they came from. */
  readonly waits: WaitTally[];
  /** Set while somebody watches (views.ts): no decision looks at it. */
  changes: Changes | undefined;

  private readonly fixedLadder: Ladder | undefined;
  private readonly calibrator: LadderCalibrator | undefined;
  private readonly binds: "arrival" | "late";
  private commands: Command[] = [];
  private nextOrder = 0;
  private lastPlanNumber = 0;
  private lastStamp = 0;
  private bindTurn = 0;
  private accepting: Engine[] = [];

  constructor(config: CoreConfig) {
    const { policy, ladder, beta = BETA, betaFloorMs = BETA_FLOOR_MS, promotedShare = PROMOTED_SHARE } = config;
    this.config = config;
    this.beta = beta;
    this.betaFloorMs = betaFloorMs;
    this.promotedShare = promotedShare;
    this.promotes = policy.starvation !== "none" && Number.isFinite(beta);
    const chosen = policy.ladder === "configured" ? ladder : policy.ladder;
    if ("first" in chosen) this.calibrator = new LadderCalibrator(chosen);
    else this.fixedLadder = chosen;
    this.binds = config.binding ?? "arrival";
    this.table = new ProcessTable(config.programIdleMaxMs);
    this.unbound = new LevelQueues(this.ladder.length);
    this.waits = this.ladder.map(() => new WaitTally());
  }

  /** The ladder in force: the policy's own, the configured one, or what was learned. */
  get ladder(): Ladder {
    return (this.fixedLadder ?? this.calibrator?.ladder) as Ladder;
  }

  emit(command: Command): void {
    this.commands.push(command);
  }

  takeCommands(): Command[] {
    const commands = this.commands;
    this.commands = [];
    return commands;
  }

  /** Plan numbers rise over all engines of the epoch, so that one that comes back accepts its next plan (S5). */
  takePlanNumber(): number {
    return ++this.lastPlanNumber;
  }

  /** Marks the calls of one batch, or of one report. */
  takeStamp(): number {
    return ++this.lastStamp;
  }

  takeOrder(): number {
    return this.nextOrder++;
  }

  /** Asks for a plan of this engine at the next `planDue`; many changes of one moment make one plan. */
  wantPlan(engine: Engine): void {
    this.planDue.add(engine);
  }

  /** Asks for a plan of each engine whose batch is not full. */
  wantFreePlaces(): void {
    for (const engine of this.engines.values())
      if (engine.run.length < engine.capacity.batchCallsMax) this.wantPlan(engine);
  }

  addEngine(id: EngineId, incarnation: string, capacity: Engine["capacity"]): Engine {
    const engine = new Engine(id, incarnation, capacity, this.ladder.length);
    this.engines.set(id, engine);
    this.changes?.engine(engine);
    this.enginesChanged();
    return engine;
  }

  /** Its programs' pins and contexts go with it, so that one that comes back under its name starts afresh. */
  removeEngine(engine: Engine): void {
    this.engines.delete(engine.id);
    this.planDue.delete(engine);
    engine.retained.clear();
    this.changes?.engine(engine);
    for (const entry of this.table.all()) if (entry.pin === engine.id) entry.pin = undefined;
    this.enginesChanged();
  }

  /** Pins of a former leader's table whose engines have left since. */
  dropPins(): void {
    for (const entry of this.table.all()) {
      if (entry.pin !== undefined && !this.engines.has(entry.pin)) entry.pin = undefined;
    }
  }

  /** After an engine joined, left, or was heard of again. Calls go to the ones that are heard, if there are any. */
  enginesChanged(): void {
    const engines = [...this.engines.values()];
    const heard = engines.filter((engine) => engine.accepting);
    this.accepting = heard.length > 0 ? heard : engines;
  }

  // ── queues ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Queues a call at the tail of its level, on the engine that the balancer gives it. */
  enqueue(call: Call, at: Millis): void {
    call.order = this.takeOrder();
    this.requeue(call, at);
  }

  /** Queues a call where its enqueue number belongs: a new one, or one that comes back from a marker. */
  requeue(call: Call, at: Millis): void {
    call.stage = "queued";
    this.moveTo(call, this.bind(call));
    this.insert(call);
    awaitPromotion(this, call, at);
    this.changes?.call(call);
    this.queued(call);
  }

  /** Into the list of its level; a call that has not started claims the context that it will go on from. */
  insert(call: Call): void {
    this.queuesOf(call).at(call.level).insert(call);
    claim(call);
  }

  /** Queues calls that no engine has any more, each at its old place. */
  requeueAll(calls: Call[]): void {
    const engines = new Set<Engine>();
    for (const call of calls.sort(byRank)) {
      call.stage = "queued";
      this.moveTo(call, this.bind(call));
      if (!call.engine) continue;
      call.engine.incomingCalls++;
      engines.add(call.engine);
    }
    for (const call of calls) {
      this.insert(call);
      this.changes?.call(call);
    }
    for (const engine of engines) {
      engine.incomingCalls = 0;
      this.wantPlan(engine);
    }
    if (this.unbound.size > 0) for (const engine of this.engines.values()) this.wantPlan(engine);
  }

  /** A call has a new place: the plans that it can change are due. */
  queued(call: Call): void {
    const { reserveCallsMax } = this.config;
    if (call.engine) {
      if (call.engine.wants(call, reserveCallsMax)) this.wantPlan(call.engine);
      return;
    }
    for (const engine of this.accepting) if (engine.wants(call, reserveCallsMax)) this.wantPlan(engine);
  }

  queuesOf(call: Call): LevelQueues {
    return call.engine ? call.engine.queues : this.unbound;
  }

  /** Binds a call that is in no queue to an engine, or to none. */
  moveTo(call: Call, engine: Engine | undefined): void {
    if (call.engine === engine) return;
    const from = this.queuesOf(call);
    call.engine = engine;
    // What is a place of one engine here may be one of the whole pool there.
    if (from.handOver(call, this.queuesOf(call))) wantPromotions(this);
  }

  /** The call will be in no queue any more. */
  forget(call: Call): void {
    if (this.queuesOf(call).forget(call)) wantPromotions(this);
  }

  /** Takes a call out of whatever queue it is in. */
  unqueue(call: Call): void {
    call.list?.remove(call);
    unclaim(call);
  }

  /** How many calls that no engine has yet this one may take: all engines shall have the same number, or what they can run. */
  lateTakesMax(engine: Engine): number {
    const [first] = this.unbound;
    if (first === undefined) return 0;
    let calls = this.unbound.size;
    let othersRoom = 0;
    for (const other of this.accepting) {
      calls += other.queues.size;
      if (other !== engine) othersRoom += other.roomFor(first, this.config.reserveCallsMax);
    }
    const share = Math.ceil(calls / this.accepting.length) - engine.queues.size;
    return Math.max(0, share, this.unbound.size - othersRoom);
  }

  private bind(call: Call): Engine | undefined {
    if (this.accepting.length === 0 || this.binds === "late") return undefined;
    return this.config.balancer.bind(call, this.accepting, this.bindTurn++);
  }

  // ── ends ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** A terminal record is stored: the call leaves the core and CALLS. */
  settle(call: Call): void {
    this.unqueue(call);
    this.forget(call);
    call.engine?.forget(call);
    if (call.engine) this.wantPlan(call.engine);
    call.program.removeThread(call);
    if (call.program.endedAt !== undefined) this.dropRetained(call.program);
    this.table.dropAlone(call.program);
    this.calls.delete(call);
    call.stage = "ended";
    this.changes?.call(call);
    this.deadlines.remove(call);
    this.emit({ kind: "ack", call: call.id, seq: call.seq });
  }

  awaitDeadline(call: Call): void {
    this.deadlines.add(call);
  }

  awaitPromotionAt(dueAt: Millis, call: Call): void {
    call.promotionAwaited = true;
    this.promotions.push(dueAt, call);
    this.promotions.tidy(isOpen);
  }

  /** Completed: the ladder learns from its service, in the policy's unit, and its context may be kept. */
  completed(call: Call, service: number, at: Millis): void {
    this.calibrator?.learn(service);
    const { engine, program } = call;
    if (!engine?.capacity.retains || program.alone) return;
    const context: Retained = {
      call: call.id,
      engine,
      program,
      thread: call.thread,
      blocks: engine.blocksOf(call.contextTokens, 0),
      ...(this.config.policy.keeps === "next-to-run" ? this.nextPlace(program, at) : { level: 0, rank: 0 }),
      order: this.takeOrder(),
      tier: "engine",
    };
    engine.retained.add(context);
    if (program.endedAt !== undefined) this.dropRetained(program);
  }

  /** The level that a call would enter which the program sent now, and its place there. */
  nextPlace(program: ProgramEntry, at: Millis): Pick<Call, "level" | "rank"> {
    const { policy } = this.config;
    const call = nextCall(program.id, at);
    return {
      level: levelOf(this.ladder, policy.inherits(program, call, at)),
      rank: policy.ranks?.(program, call) ?? 0,
    };
  }

  /** No call of the program comes any more: it was ended, or is forgotten. */
  closeProgram(entry: ProgramEntry): void {
    this.changes?.program(entry);
    this.dropRetained(entry);
  }

  private dropRetained(entry: ProgramEntry): void {
    for (const engine of dropRetained(entry)) this.wantPlan(engine);
  }

  save(entry: ProgramEntry): void {
    if (!entry.alone) this.emit({ kind: "saveEntry", entry: saved(entry, this.config.policy.measures) });
  }
}
