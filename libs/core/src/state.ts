/**
 * All that the core knows, and the few moves that every handler shares. Nothing here survives a leader but what
 * `saveEntry` and the records hold: a new leader rebuilds it from CALLS, reports, OUTCOMES and the saved entries.
 */
import type { Balancer } from "./balancers.ts";
import type { Call } from "./call.ts";
import type { CancelCause, Command, FinishedCall, ReportedCall } from "./contract.ts";
import { Engine } from "./engine.ts";
import { DueHeap } from "./heap.ts";
import type { CallId, EngineId, Millis } from "./ids.ts";
import type { Ladder } from "./ladder.ts";
import type { Policy } from "./policies.ts";
import { byRank, LevelQueues } from "./queues.ts";
import { ProcessTable, type ProgramEntry, saved } from "./table.ts";

export interface CoreConfig {
  policy: Policy;
  /** For policies that move calls between levels. */
  ladder: Ladder;
  balancer: Balancer;
  /** N of multi-step scheduling: decode steps between two plans. */
  windowSteps: number;
  /** Over-provisioned calls per engine, which fill a vacancy inside the window (paper §4.4). */
  reserveCallsMax: number;
  /** Crashes that one call may be charged with before it is dead. */
  attemptsCrashedMax: number;
  /** A program without calls is forgotten after this time. */
  programIdleMaxMs: Millis;
  /** A cancel can overtake its call: it is remembered so long, and so many are. */
  cancelMemoryMs: Millis;
  cancelMemoryMax: number;
  /** A plan that its agent has not applied after this time is sent again. */
  planResendMs: Millis;
}

/** Ended calls that the deadline heap may hold beyond its live ones. */
const DEADLINES_SLACK = 1024;

export class State {
  readonly config: CoreConfig;
  /** The ladder in force: the policy's own, or the configured one. */
  readonly ladder: Ladder;
  readonly table = new ProcessTable();
  /** Un-acked calls, in the order they were read. */
  readonly calls = new Map<CallId, Call>();
  readonly engines = new Map<EngineId, Engine>();
  /** Queued calls that no engine has, because there is none. */
  readonly unbound: LevelQueues;
  /** Deadlines; a call that has ended is skipped when it comes out. */
  readonly deadlines = new DueHeap<Call>();
  readonly cancelMemory = new Map<CallId, { cause: CancelCause; until: Millis }>();
  /** What agents reported of calls that were not read yet, while gathering. */
  readonly reportedEarly = new Map<CallId, { engine: Engine; reported?: ReportedCall; finished?: FinishedCall }>();
  leading = false;
  /** False while OUTCOMES is nearly full. */
  admitsNew = true;
  /** Engines whose plan is due. */
  readonly planDue = new Set<Engine>();

  private commands: Command[] = [];
  private nextOrder = 0;
  private lastPlanNumber = 0;
  private bindTurn = 0;

  constructor(config: CoreConfig) {
    this.config = config;
    this.ladder = config.policy.ladder === "configured" ? config.ladder : config.policy.ladder;
    this.unbound = new LevelQueues(this.ladder.length);
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

  takeOrder(): number {
    return this.nextOrder++;
  }

  /** Asks for a plan of this engine at the next `planDue`; many changes of one moment make one plan. */
  wantPlan(engine: Engine): void {
    this.planDue.add(engine);
  }

  newEngine(id: EngineId, incarnation: string, capacity: Engine["capacity"]): Engine {
    const engine = new Engine(id, incarnation, capacity, this.ladder.length);
    this.engines.set(id, engine);
    return engine;
  }

  // ── queues ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Queues a call at the tail of its level, on the engine that the balancer gives it. */
  enqueue(call: Call): void {
    call.order = this.takeOrder();
    this.place(call, (queues) => queues.at(call.level).push(call));
  }

  /** Queues a call where its enqueue number belongs: it comes back from a marker. */
  requeue(call: Call): void {
    this.place(call, (queues) => queues.at(call.level).restore(call));
  }

  /** Queues calls that no engine has any more, each at its old place, in one pass per engine and level. */
  requeueAll(calls: Call[]): void {
    const lists = new Map<Engine | undefined, Call[]>();
    for (const call of calls.sort(byRank)) {
      call.stage = "queued";
      call.engine = this.bind(call);
      if (call.engine) call.engine.incomingCalls++;
      const list = lists.get(call.engine);
      if (list) list.push(call);
      else lists.set(call.engine, [call]);
    }
    for (const [engine, bound] of lists) {
      const queues = engine ? engine.queues : this.unbound;
      for (let i = 0; i < queues.levels.length; i++) queues.at(i).merge(bound.filter((call) => call.level === i));
      if (!engine) continue;
      engine.incomingCalls = 0;
      this.wantPlan(engine);
    }
  }

  /** Takes a call out of whatever queue it is in. */
  unqueue(call: Call): void {
    call.list?.remove(call);
  }

  private place(call: Call, put: (queues: LevelQueues) => void): void {
    call.stage = "queued";
    call.engine = this.bind(call);
    put(call.engine ? call.engine.queues : this.unbound);
    if (call.engine?.wants(call, this.config.reserveCallsMax)) this.wantPlan(call.engine);
  }

  private bind(call: Call): Engine | undefined {
    if (this.engines.size === 0) return undefined;
    const engines = [...this.engines.values()];
    const accepting = engines.filter((engine) => engine.accepting);
    return this.config.balancer.bind(call, accepting.length > 0 ? accepting : engines, this.bindTurn++);
  }

  // ── ends ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** A terminal record is stored: the call leaves the core and CALLS. */
  settle(call: Call): void {
    this.unqueue(call);
    call.engine?.started.delete(call);
    if (call.engine) this.wantPlan(call.engine);
    call.program.threads.delete(call);
    this.table.dropAlone(call.program);
    this.calls.delete(call.id);
    this.emit({ kind: "ack", call: call.id, seq: call.seq });
    this.sweepDeadlines();
  }

  /** Ended calls leave the heap when they are most of it: amortised O(1) per call. */
  private sweepDeadlines(): void {
    if (this.deadlines.size <= 2 * this.calls.size + DEADLINES_SLACK) return;
    this.deadlines.retain((call) => this.calls.get(call.id) === call);
  }

  save(entry: ProgramEntry): void {
    if (!entry.alone) this.emit({ kind: "saveEntry", entry: saved(entry) });
  }
}
