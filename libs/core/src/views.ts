/**
 * What the scheduler shows of itself, to be read between two inputs. Nothing here changes a decision. Pages cost what
 * they hold and a part of the table; changes are gathered only while somebody watches.
 */
import { type Call, type Stage, waitedMs } from "./call.ts";
import { Changes, type EndedCallView } from "./changes.ts";
import type { RetainedContext, Tier } from "./contract.ts";
import type { Engine } from "./engine.ts";
import type { IdTable } from "./id-table.ts";
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";
import type { LevelQueues } from "./queues.ts";
import type { State } from "./state.ts";
import type { ProgramEntry } from "./table.ts";

/** A call that is not acked. */
export interface CallView {
  call: CallId;
  program: ProgramId;
  thread: string | undefined;
  stage: Stage;
  /** 0 = Q1. */
  level: number;
  /** It is bound to this engine, or held by its agent. */
  engine: EngineId | undefined;
  /** It is in a plan of this attempt. */
  planned: boolean;
  attempt: number;
  arrivedAt: Millis;
  /** Earlier attempts included. */
  waitingMs: Millis;
  serviceMs: Millis;
  /** Of the prompt and the answer, estimated until its agent has counted. */
  contextTokens: number;
}

export interface ProgramView {
  program: ProgramId;
  endedAt: Millis | undefined;
  serviceMs: Millis;
  waitingMs: Millis;
  attained: number;
  /** The level that a call without parents would enter now. */
  level: number;
  /** `running`: in the batch of a plan. */
  calls: { waiting: number; running: number; ended: number };
  arrivedAt: Millis;
  lastUseAt: Millis;
  pin: EngineId | undefined;
}

/** The plan in force. */
export interface EngineView {
  engine: EngineId;
  incarnation: string;
  run: readonly CallId[];
  reserve: readonly CallId[];
  keep: readonly { call: CallId; tier: Tier }[];
  retained: readonly RetainedContext[];
}

export interface Page<T> {
  items: T[];
  /** Where the next page begins; undefined when this is the last. */
  next: string | undefined;
}

/** What changed since the last look, at most as many items of each kind as were asked for; the others come next. */
export interface ChangesView {
  calls: CallView[];
  programs: ProgramView[];
  engines: EngineView[];
  gone: { calls: CallId[]; programs: ProgramId[]; engines: EngineId[] };
  /** Never after the look that says that the call is gone. */
  ended: EndedCallView[];
  /** Some changes were forgotten: everything must be read again. */
  lost: boolean;
}

export class Views {
  private readonly state: State;

  constructor(state: State) {
    this.state = state;
  }

  /** Gathers changes from here on, or no longer. */
  watch(on: boolean): void {
    if (on) this.state.changes ??= new Changes();
    else this.state.changes = undefined;
  }

  /** A report said something new of the call, which is nothing to the core. */
  touch(id: CallId): void {
    const call = this.state.calls.get(id);
    if (call) this.state.changes?.call(call);
  }

  touchEngine(id: EngineId): void {
    const engine = this.state.engines.get(id);
    if (engine) this.state.changes?.engine(engine);
  }

  takeChanges(itemsMax: number, at: Millis): ChangesView {
    const { state } = this;
    const gone: ChangesView["gone"] = { calls: [], programs: [], engines: [] };
    const view: ChangesView = { calls: [], programs: [], engines: [], gone, ended: [], lost: false };
    const { changes } = state;
    if (!changes) return view;
    changes.settle();
    view.lost = changes.lost;
    changes.lost = false;
    view.ended = changes.takeEnded(itemsMax);
    const running = this.runningCalls();
    for (const call of takeSome(changes.calls, itemsMax)) {
      if (state.calls.get(call.id) === call) view.calls.push(this.callView(call, at));
      else if (!state.calls.has(call.id)) {
        gone.calls.push(call.id);
        view.ended.push(...changes.takeEndOf(call.id));
      }
    }
    for (const entry of takeSome(changes.programs, itemsMax)) {
      if (state.table.get(entry.id) === entry) view.programs.push(this.programView(entry, running, at));
      else if (!state.table.get(entry.id)) gone.programs.push(entry.id);
    }
    for (const engine of takeSome(changes.engines, itemsMax)) {
      if (state.engines.get(engine.id) === engine) view.engines.push(this.engineView(engine));
      else if (!state.engines.has(engine.id)) gone.engines.push(engine.id);
    }
    return view;
  }

  /** @param from `next` of the page before. */
  calls(from: string | undefined, max: number, at: Millis): Page<CallView> {
    return pageOf(this.state.calls, from, max, (call) => this.callView(call, at));
  }

  programs(from: string | undefined, max: number, at: Millis): Page<ProgramView> {
    const running = this.runningCalls();
    return this.state.table.page(from, max, (entry) => this.programView(entry, running, at));
  }

  engines(): EngineView[] {
    return [...this.state.engines.values()].map((engine) => this.engineView(engine));
  }

  program(id: ProgramId, at: Millis): ProgramView | undefined {
    const entry = this.state.table.get(id);
    return entry && this.programView(entry, this.runningCalls(), at);
  }

  /** How many active calls a program has. */
  threadCount(id: ProgramId): number {
    return this.state.table.get(id)?.threadCount ?? 0;
  }

  callsOf(id: ProgramId, at: Millis): CallView[] {
    return [...(this.state.table.get(id)?.threads() ?? [])].map((call) => this.callView(call, at));
  }

  /** Calls in the batches of the last plans, by level. O(batches). */
  runningByLevel(): number[] {
    const running = this.state.ladder.map(() => 0);
    for (const engine of this.state.engines.values()) {
      for (const call of engine.run) {
        if (call.list !== undefined && call.engine === engine) running[call.level] = (running[call.level] ?? 0) + 1;
      }
    }
    return running;
  }

  /** The calls that the program was charged with last, oldest first. */
  endedCallsOf(id: ProgramId): CallId[] {
    return [...(this.state.table.get(id)?.ended?.keys() ?? [])];
  }

  /** Calls in Q1 … QK that are in no batch: costs O(engines · (levels + batch)). */
  waitingByLevel(): number[] {
    const waiting = this.state.ladder.map(() => 0);
    const add = (queues: LevelQueues) => {
      for (const [level, list] of queues.levels.entries()) waiting[level] = (waiting[level] ?? 0) + list.size;
    };
    add(this.state.unbound);
    for (const engine of this.state.engines.values()) {
      add(engine.queues);
      for (const call of engine.run) {
        if (call.list !== undefined && call.engine === engine) waiting[call.level] = (waiting[call.level] ?? 0) - 1;
      }
    }
    return waiting;
  }

  private runningCalls(): ReadonlySet<Call> {
    const running = new Set<Call>();
    for (const engine of this.state.engines.values()) {
      for (const call of engine.run) if (engine.has(call)) running.add(call);
    }
    return running;
  }

  private callView(call: Call, at: Millis): CallView {
    return {
      call: call.id,
      program: call.program.id,
      thread: call.thread,
      stage: call.stage,
      level: call.level,
      engine: call.engine?.id,
      planned: call.planned,
      attempt: call.attempt,
      arrivedAt: call.arrivedAt,
      waitingMs: waitedMs(call, at),
      serviceMs: call.servedMs + call.serviceMs,
      contextTokens: call.contextTokens,
    };
  }

  private programView(entry: ProgramEntry, running: ReadonlySet<Call>, at: Millis): ProgramView {
    let runningCount = 0;
    for (const call of entry.threads()) if (running.has(call)) runningCount++;
    return {
      program: entry.id,
      endedAt: entry.endedAt,
      serviceMs: entry.serviceMs,
      waitingMs: entry.waitingMs,
      attained: entry.attained,
      level: this.state.nextPlace(entry, at).level,
      calls: { waiting: entry.threadCount - runningCount, running: runningCount, ended: entry.endedCalls },
      arrivedAt: entry.arrivedAt,
      lastUseAt: entry.lastUse(),
      pin: entry.pin,
    };
  }

  private engineView(engine: Engine): EngineView {
    const ids = (calls: readonly Call[]) => calls.filter((call) => engine.has(call)).map(({ id }) => id);
    return {
      engine: engine.id,
      incarnation: engine.incarnation,
      run: ids(engine.run),
      reserve: ids(engine.reserve),
      keep: engine.keep.filter((call) => engine.has(call)).map(({ id, tier }) => ({ call: id, tier })),
      retained: engine.retained.list(),
    };
  }
}

/** Takes the first ones out. */
function takeSome<T>(from: Set<T> | Map<T, unknown>, max: number): T[] {
  const taken: T[] = [];
  for (const item of from.keys()) {
    if (taken.length >= max) break;
    taken.push(item);
  }
  for (const item of taken) from.delete(item);
  return taken;
}

function pageOf<T extends { readonly id: string }, V>(
  table: IdTable<T>,
  from: string | undefined,
  max: number,
  view: (item: T) => V,
): Page<V> {
  const { values, next } = table.page(from, max);
  return { items: values.map(view), next };
}
