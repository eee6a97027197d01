/**
 * What the leader shows of its pool (libs/protocol/src/view.ts): pages on request, changes while somebody watches. When
 * nobody watches it keeps a reference to each agent's last report, and does nothing else.
 */
import {
  type CallView,
  type ChangesView,
  callId,
  type EngineView,
  engineId,
  programId,
  type Scheduler,
} from "@autellix/core";
import {
  type CallKey,
  CHANGES_EVERY_MS,
  type EngineInfo,
  type EngineState,
  type Report,
  type ReportCall,
  VIEW_PAGE_MAX,
  type ViewAsk,
  type ViewCall,
  type ViewChanges,
  type ViewEngine,
  type ViewPage,
  type ViewPool,
  WATCH_MS,
} from "@autellix/protocol";
import type { Effect, MachineConfig, ReplyToken } from "./events.ts";
import type { StatusDesk } from "./status.ts";
import {
  CALL_BYTES,
  CALL_BYTES_MAX,
  callState,
  engineBytes,
  ID_BYTES_MAX,
  isAsked,
  isNews,
  isWorkDone,
  PROGRAM_BYTES,
  PROGRAM_BYTES_MAX,
  splitProgram,
  tenantOf,
  textBytes,
  toEnded,
  toProgram,
} from "./view-wire.ts";

/** Items of a page when its reader names no number: some milliseconds of the leader's time. */
const PAGE_ITEMS = 500;
/** Calls, programs and engines in the changes of one moment; the others come with the next ones. */
const CHANGES_ITEMS_MAX = 300;
/** Bytes of a page or of changes, by estimate: below the smallest message limit that a server may have. */
const BYTES_MAX = 400 * 1024;
/** Calls of each of an engine's lists that are shown. */
const LIST_CALLS_MAX = 500;
/** Pages answered in a second; a reader whose question stays without answer asks again. */
const PAGES_PER_SECOND_MAX = 200;
/** Without a change there is a message once in this time: watchers see that the leader lives. */
const QUIET_MS = 1_000;

interface Heard {
  report: Report;
  /** Its calls, made when they are asked for. */
  calls?: Map<CallKey, ReportCall>;
}

export interface ViewDeskParts {
  config: MachineConfig;
  epoch: number;
  core: Scheduler;
  status: StatusDesk;
  infos: ReadonlyMap<string, EngineInfo>;
  emit: (effect: Effect) => void;
}

export class ViewDesk {
  private readonly parts: ViewDeskParts;
  private readonly stateOf: (engine: string) => EngineState;
  private readonly lastHeard = new Map<string, Heard>();
  /** Undefined while nobody watches. */
  private watchedUntil: number | undefined;
  private number = 0;
  private sentAt = 0;
  private pages = { since: 0, count: 0 };

  /** @param stateOf whether the engine is heard, and stays. */
  constructor(parts: ViewDeskParts, stateOf: (engine: string) => EngineState) {
    this.parts = parts;
    this.stateOf = stateOf;
  }

  heard(report: Report): void {
    const before = this.lastHeard.get(report.engine);
    const heard: Heard = { report };
    this.lastHeard.set(report.engine, heard);
    if (this.watchedUntil !== undefined) this.touchNews(before, heard);
  }

  forget(engine: string): void {
    this.lastHeard.delete(engine);
  }

  /** An engine is silent, or heard again. */
  touchEngine(engine: string): void {
    this.parts.core.views.touchEngine(engineId(engine));
  }

  asked(ask: ViewAsk, token: ReplyToken, at: number): void {
    if (ask.op === "watch") this.watch(at);
    else if (at - this.pages.since >= 1_000) this.pages = { since: at, count: 1 };
    else if (++this.pages.count > PAGES_PER_SECOND_MAX) return;
    const page: ViewPage = { pool: this.pool(), number: this.number, atMs: at };
    if (ask.op === "page") Object.assign(page, this.page(ask, at));
    this.parts.emit({ kind: "answerView", token, page });
  }

  /** Every `CHANGES_EVERY_MS` while somebody watches. */
  due(at: number): void {
    if (this.watchedUntil === undefined) return;
    if (at >= this.watchedUntil) {
      this.watchedUntil = undefined;
      this.parts.core.views.watch(false);
      for (const heard of this.lastHeard.values()) delete heard.calls;
      return;
    }
    this.awaitDue();
    const changes = this.parts.core.views.takeChanges(CHANGES_ITEMS_MAX, at);
    // A gap in the numbers: everybody reads again.
    if (changes.lost) this.number++;
    const messages = this.messages(changes, at);
    if (messages.length === 0 && at - this.sentAt < QUIET_MS) return;
    this.sentAt = at;
    for (const message of messages.length > 0 ? messages : [this.emptyChanges(at)]) {
      message.number = ++this.number;
      this.parts.emit({ kind: "sendChanges", changes: message });
    }
  }

  private watch(at: number): void {
    const isNew = this.watchedUntil === undefined;
    this.watchedUntil = at + WATCH_MS;
    if (!isNew) return;
    this.parts.core.views.watch(true);
    // Changes of before are in nobody's picture: who watched once and comes again sees a gap.
    this.number++;
    this.sentAt = at;
    this.awaitDue();
  }

  private awaitDue(): void {
    this.parts.emit({ kind: "after", ms: CHANGES_EVERY_MS, event: { kind: "viewDue" } });
  }

  /** What a report says that the core does not look at. */
  private touchNews(before: Heard | undefined, heard: Heard): void {
    const { views } = this.parts.core;
    const old = before ? callsOf(before) : new Map<CallKey, ReportCall>();
    for (const call of heard.report.calls) {
      const known = old.get(call.call);
      if (!known || isNews(known, call)) views.touch(callId(call.call));
    }
    const young = callsOf(heard);
    for (const call of old.keys()) if (!young.has(call)) views.touch(callId(call));
    if (!before || isWorkDone(before.report, heard.report)) this.touchEngine(heard.report.engine);
  }

  // ── pages ──────────────────────────────────────────────────────────────────────────────────────────────────

  private page(ask: Extract<ViewAsk, { op: "page" }>, at: number): Partial<ViewPage> {
    const max = Math.min(ask.max ?? PAGE_ITEMS, VIEW_PAGE_MAX);
    switch (ask.what) {
      case "programs":
        return this.programsPage(ask, max, at);
      case "calls":
        return this.callsPage(ask, max, at);
      case "engines":
        return this.enginesPage(ask.from, max);
    }
  }

  private programsPage(ask: Extract<ViewAsk, { op: "page" }>, max: number, at: number): Partial<ViewPage> {
    const { views } = this.parts.core;
    if (ask.tenant !== undefined && ask.program !== undefined) {
      const found = views.program(programId(`${ask.tenant}/${ask.program}`), at);
      return { programs: found ? [toProgram(found)] : [] };
    }
    const { items, next } = views.programs(ask.from, fitting(max, PROGRAM_BYTES_MAX), at);
    const programs = items.map(toProgram).filter((program) => isAsked(ask, program));
    return { programs, ...(next === undefined ? {} : { next }) };
  }

  private callsPage(ask: Extract<ViewAsk, { op: "page" }>, max: number, at: number): Partial<ViewPage> {
    const { views } = this.parts.core;
    const fits = fitting(max, CALL_BYTES_MAX);
    if (ask.tenant !== undefined && ask.program !== undefined && ask.from === undefined) {
      const program = programId(`${ask.tenant}/${ask.program}`);
      // A page of its own; a program with more calls is found among all.
      const ended = views.endedCallsOf(program);
      if (views.threadCount(program) <= fits) {
        return { calls: views.callsOf(program, at).map((c) => this.toCall(c)), ended };
      }
    }
    const { items, next } = views.calls(ask.from, fits, at);
    const calls = items
      .map((call) => this.toCall(call))
      .filter((call) => isAsked(ask, { tenant: tenantOf(call.call), program: call.program }));
    return { calls, ...(next === undefined ? {} : { next }) };
  }

  private enginesPage(from: string | undefined, max: number): Partial<ViewPage> {
    const all = this.parts.core.views.engines().sort((a, b) => (a.engine < b.engine ? -1 : 1));
    const rest = from === undefined ? all : all.filter(({ engine }) => engine > from);
    const engines: ViewEngine[] = [];
    let bytes = 0;
    for (const view of rest) {
      const engine = this.toEngine(view);
      if (!engine) continue;
      bytes += engineBytes(engine);
      if (engines.length > 0 && (engines.length >= max || bytes > BYTES_MAX)) {
        return { engines, next: (engines.at(-1) as ViewEngine).engine };
      }
      engines.push(engine);
    }
    return { engines };
  }

  // ── changes ────────────────────────────────────────────────────────────────────────────────────────────────

  private emptyChanges(at: number): ViewChanges {
    const gone = { programs: [], calls: [], engines: [] };
    return { pool: this.pool(), number: 0, atMs: at, programs: [], calls: [], engines: [], ended: [], gone };
  }

  /** One message, or some where ids are so long that one would be too large. */
  private messages(changes: ChangesView, at: number): ViewChanges[] {
    const messages: ViewChanges[] = [];
    let bytes = Number.POSITIVE_INFINITY;
    const room = (itemBytes: number): ViewChanges => {
      bytes += itemBytes;
      if (bytes > BYTES_MAX) {
        messages.push(this.emptyChanges(at));
        bytes = itemBytes;
      }
      return messages.at(-1) as ViewChanges;
    };
    for (const view of changes.engines) {
      const engine = this.toEngine(view);
      if (engine) room(engineBytes(engine)).engines.push(engine);
    }
    for (const engine of changes.gone.engines) room(ID_BYTES_MAX).gone.engines.push(engine);
    for (const view of changes.calls) {
      const call = this.toCall(view);
      room(CALL_BYTES + textBytes(call.program) + textBytes(call.thread ?? "")).calls.push(call);
    }
    for (const view of changes.ended) {
      const ended = toEnded(view);
      room(CALL_BYTES + textBytes(ended.program) + textBytes(ended.thread ?? "")).ended?.push(ended);
    }
    for (const call of changes.gone.calls) room(ID_BYTES_MAX).gone.calls.push(call);
    for (const view of changes.programs) room(PROGRAM_BYTES + textBytes(view.program)).programs.push(toProgram(view));
    for (const id of changes.gone.programs) room(ID_BYTES_MAX + textBytes(id)).gone.programs.push(splitProgram(id));
    return messages;
  }

  // ── from the core's words to the wire's ────────────────────────────────────────────────────────────────────

  private pool(): ViewPool {
    const { config, epoch, core, status } = this.parts;
    const { queued, running, programs } = core.counts();
    const { last } = status;
    const { demotions, promotions, preemptions, failovers } = core.totals;
    const [first, ...others] = core.ladder;
    return {
      pool: config.pool,
      epoch,
      leader: config.leader,
      policy: config.policy,
      waitingByLevel: core.views.waitingByLevel(),
      ...(core.measures === "time" ? {} : { measures: core.measures }),
      levelBoundsMs: first && others.length > 0 ? [first, ...others.slice(0, -1)].map(({ hi }) => hi) : [],
      queuedCalls: queued,
      runningCalls: running,
      queuedCallsMax: config.queuedCallsMax,
      programs,
      endsPerSecond: last?.endsPerSecond ?? 0,
      dispatching: last?.dispatching ?? true,
      ...(last?.reason === undefined ? {} : { reason: last.reason }),
      totals: { demotions, promotions, preemptions, failovers, ended: status.endedCalls },
    };
  }

  private toCall(view: CallView): ViewCall {
    const reported = view.planned && view.engine !== undefined ? this.reportedOf(view.engine, view.call) : undefined;
    const current = reported?.attempt === view.attempt ? reported : undefined;
    return {
      call: view.call,
      program: splitProgram(view.program).program,
      ...(view.thread === undefined ? {} : { thread: view.thread }),
      state: callState(view, current),
      level: view.level,
      ...(view.engine === undefined ? {} : { engine: view.engine }),
      attempt: view.attempt,
      arrivedAtMs: view.arrivedAt,
      waitingMs: view.waitingMs,
      serviceMs: view.serviceMs,
      promptTokens: current && current.promptTokens > 0 ? current.promptTokens : view.contextTokens,
      completionTokens: current?.completionTokens ?? 0,
    };
  }

  private reportedOf(engine: string, call: CallKey): ReportCall | undefined {
    const heard = this.lastHeard.get(engine);
    return heard && callsOf(heard).get(call);
  }

  /** @returns undefined for one that joined without saying what it is, which no agent does. */
  private toEngine(view: EngineView): ViewEngine | undefined {
    const info = this.parts.infos.get(view.engine);
    const report = this.lastHeard.get(view.engine)?.report;
    if (!info || !report) return undefined;
    return {
      engine: view.engine,
      incarnation: view.incarnation,
      state: this.stateOf(view.engine),
      info,
      run: view.run.slice(0, LIST_CALLS_MAX),
      reserve: view.reserve.slice(0, LIST_CALLS_MAX),
      keep: view.keep.slice(0, LIST_CALLS_MAX),
      retained: view.retained.slice(0, LIST_CALLS_MAX).map(({ call, tier }) => ({ call, tier })),
      counters: report.counters,
      ...(report.kv ? { kv: report.kv } : {}),
    };
  }
}

/** How many items of such a size may be in a page. */
function fitting(max: number, itemBytesMax: number): number {
  return Math.max(1, Math.min(max, Math.floor(BYTES_MAX / itemBytesMax)));
}

function callsOf(heard: Heard): Map<CallKey, ReportCall> {
  heard.calls ??= new Map(heard.report.calls.map((call) => [call.call, call]));
  return heard.calls;
}
