/** Watches a core while it is fed, and writes down what a page would have been told: a film. */
import type {
  CallView,
  EndedCallView,
  EngineCapacity,
  EngineView,
  Input,
  ProgramView,
  Scheduler,
} from "@autellix/core";
import type { ViewCall, ViewChanges, ViewEnded, ViewEngine, ViewPool, ViewProgram } from "@autellix/protocol/view";
import type { Film, FilmResult } from "../shared/film.ts";
import type { PoolChanges } from "../shared/pool-model.ts";

/** Frames of a film; more would move no smoother. */
export const FRAMES_MAX = 4_000;
/** Changed items of all frames together: about 60 MB of JSON. Above it the film is cut. */
export const FILM_ITEMS_MAX = 250_000;
/** Changes come to a live page ten times a second, too. */
const FRAME_MS_MIN = 50;
/** Calls of an engine's list that a frame shows. */
const LIST_CALLS_MAX = 500;

export interface FilmMakerOptions {
  title: string;
  policy: string;
  /** Length of what is to come, when it is known: frames are spread over it. ms */
  lengthMs: number;
  /** What programs are called on the page. */
  programName: (id: string) => { tenant: string; program: string };
}

interface ShownCall {
  state: ViewCall["state"];
  level: number;
  engine: string | undefined;
}

export class FilmMaker {
  private readonly options: FilmMakerOptions;
  private readonly everyMs: number;
  private readonly capacities = new Map<string, EngineCapacity>();
  private readonly shown = new Map<string, ShownCall>();
  private readonly views = new Map<string, CallView>();
  private readonly engines = new Map<string, EngineView>();
  private readonly results = new Map<string, FilmResult>();
  /** Of each call that has not ended. */
  private readonly programs = new Map<string, string>();
  private readonly frames: PoolChanges[] = [];
  private pool: ViewPool | undefined;
  private fromMs: number | undefined;
  private lastMs = 0;
  private nextMs = 0;
  private items = 0;
  private endedCalls = 0;
  isCut = false;

  constructor(options: FilmMakerOptions) {
    this.options = options;
    this.everyMs = Math.max(FRAME_MS_MIN, options.lengthMs / FRAMES_MAX);
  }

  /** Before the core hears an input: what was true until now is written down when a frame is due. */
  before(input: Input, core: Scheduler): void {
    if (this.fromMs === undefined) {
      this.fromMs = input.at;
      this.nextMs = input.at;
      core.views.watch(true);
    } else if (input.at > this.lastMs && this.lastMs >= this.nextMs) this.take(core);
    this.lastMs = Math.max(this.lastMs, input.at);
    if (input.kind === "engineJoined") this.capacities.set(input.engine, input.capacity);
    if (input.kind === "callArrived") this.arrived(input.call.id, input.call.program, input.at);
    if (input.kind === "reported") for (const { call } of input.report.finished) this.ended(call, input.at);
  }

  /** @throws Error when nothing was heard. */
  end(core: Scheduler): Film {
    if (!this.isCut) this.take(core);
    const { pool, fromMs = 0, frames, isCut } = this;
    if (!pool) throw new Error("the run has no inputs");
    const { title, policy } = this.options;
    const results = [...this.results.values()];
    return { title, policy, fromMs, toMs: frames.at(-1)?.atMs ?? fromMs, pool, frames, results, isCut };
  }

  private take(core: Scheduler): void {
    const at = this.lastMs;
    if (this.isCut) return;
    const changes = core.views.takeChanges(Number.POSITIVE_INFINITY, at);
    const touched = new Set<string>();
    for (const call of changes.calls) {
      this.views.set(call.call, call);
      touched.add(call.call);
    }
    const engines: ViewEngine[] = [];
    for (const engine of changes.engines) {
      const before = this.engines.get(engine.engine);
      for (const list of [before, engine]) for (const id of idsOf(list)) touched.add(id);
      this.engines.set(engine.engine, engine);
      engines.push(this.engineView(engine));
    }
    for (const engine of changes.gone.engines) this.engines.delete(engine);
    const calls = this.calls(touched);
    for (const id of changes.gone.calls) {
      this.views.delete(id);
      this.shown.delete(id);
    }
    const programs = changes.programs.map((program) => this.programView(program));
    const gone: ViewChanges["gone"] = {
      calls: changes.gone.calls.map((id) => this.callKey(id)),
      engines: [...changes.gone.engines],
      programs: changes.gone.programs.map((id) => this.options.programName(id)),
    };
    this.pool = this.poolView(core);
    const ended = changes.ended.map((view) => this.endedView(view));
    this.items += calls.length + programs.length + engines.length + ended.length + gone.calls.length;
    this.frames.push({ pool: this.pool, atMs: at, programs, calls, engines, ended, gone });
    this.nextMs = at + this.everyMs;
    if (this.items > FILM_ITEMS_MAX || this.frames.length > 2 * FRAMES_MAX) this.isCut = true;
  }

  /** Only those that look different now: a running call's service changes with each report, and nobody sees that. */
  private calls(touched: ReadonlySet<string>): ViewCall[] {
    const states = new Map<string, ViewCall["state"]>();
    for (const { run, reserve, keep } of this.engines.values()) {
      for (const id of run) states.set(id, "running");
      for (const id of reserve) if (!states.has(id)) states.set(id, "starting");
      for (const { call, tier } of keep)
        states.set(call, tier === "host" ? "swapped" : tier === "none" ? "evicted" : "parked");
    }
    const calls: ViewCall[] = [];
    for (const id of touched) {
      const view = this.views.get(id);
      if (!view) continue;
      const state = stateOf(view, states.get(id));
      const known = this.shown.get(id);
      if (known && known.state === state && known.level === view.level && known.engine === view.engine) continue;
      this.shown.set(id, { state, level: view.level, engine: view.engine });
      calls.push(this.callView(view, state));
    }
    return calls;
  }

  private callKey(id: string): string {
    return id.includes("/") ? id : `sim/${id}`;
  }

  private callView(view: CallView, state: ViewCall["state"]): ViewCall {
    return {
      call: this.callKey(view.call),
      program: this.options.programName(view.program).program,
      ...(view.thread === undefined ? {} : { thread: view.thread }),
      state,
      level: view.level,
      ...(view.engine === undefined ? {} : { engine: view.engine }),
      attempt: view.attempt,
      arrivedAtMs: view.arrivedAt,
      waitingMs: view.waitingMs,
      serviceMs: view.serviceMs,
      promptTokens: view.contextTokens,
      completionTokens: 0,
    };
  }

  private endedView(view: EndedCallView): ViewEnded {
    const { call, program, thread, engine, arrivedAt, endedAt, ...rest } = view;
    return {
      call: this.callKey(call),
      program: this.options.programName(program).program,
      ...(thread === undefined ? {} : { thread }),
      ...(engine === undefined ? {} : { engine }),
      arrivedAtMs: arrivedAt,
      endedAtMs: endedAt,
      ...rest,
    };
  }

  private programView(view: ProgramView): ViewProgram {
    return {
      ...this.options.programName(view.program),
      state: view.endedAt === undefined ? "open" : "ended",
      serviceMs: view.serviceMs,
      waitingMs: view.waitingMs,
      attained: view.attained,
      level: view.level,
      calls: view.calls,
      startedAtMs: view.arrivedAt,
      lastAtMs: view.lastUseAt,
      ...(view.pin === undefined ? {} : { pin: view.pin }),
    };
  }

  private engineView(view: EngineView): ViewEngine {
    const capacity = this.capacities.get(view.engine);
    const keys = (ids: readonly string[]) => ids.slice(0, LIST_CALLS_MAX).map((id) => this.callKey(id));
    const { batchCallsMax = 1, residentCallsMax = 1, heldCallsMax = 1, kvBlocks = 1 } = capacity ?? {};
    return {
      engine: view.engine,
      incarnation: view.incarnation,
      state: "up",
      info: {
        kind: "simulated",
        models: ["recorded"],
        preemption: capacity?.preemption ?? "none",
        batchCallsMax,
        residentCallsMax,
        heldCallsMax,
        kvBlocks,
        blockTokens: capacity?.blockTokens ?? 1,
        contextTokensMax: 1,
      },
      run: keys(view.run),
      reserve: keys(view.reserve),
      keep: view.keep.slice(0, LIST_CALLS_MAX).map(({ call, tier }) => ({ call: this.callKey(call), tier })),
      retained: view.retained.slice(0, LIST_CALLS_MAX).map(({ call, tier }) => ({ call: this.callKey(call), tier })),
      counters: { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 },
    };
  }

  private poolView(core: Scheduler): ViewPool {
    const { queued, running, programs } = core.counts();
    const { demotions, promotions, preemptions, failovers } = core.totals;
    return {
      pool: "replay",
      epoch: 1,
      leader: "replay",
      policy: this.options.policy,
      waitingByLevel: core.views.waitingByLevel(),
      ...(core.measures === "time" ? {} : { measures: core.measures }),
      levelBoundsMs: core.ladder.slice(0, -1).map(({ hi }) => hi),
      queuedCalls: queued,
      runningCalls: running,
      queuedCallsMax: queued,
      programs,
      endsPerSecond: 0,
      dispatching: true,
      totals: { demotions, promotions, preemptions, failovers, ended: this.endedCalls },
    };
  }

  private arrived(call: string, id: string, at: number): void {
    this.programs.set(call, id);
    const { program } = this.options.programName(id);
    const known = this.results.get(id);
    if (known) {
      known.calls++;
      delete known.endedAtMs;
    } else this.results.set(id, { program, arrivedAtMs: at, calls: 1 });
  }

  /** A program ends with the last of its calls so far. */
  private ended(id: string, at: number): void {
    this.endedCalls++;
    const result = this.results.get(this.programs.get(id) ?? "");
    this.programs.delete(id);
    if (result) result.endedAtMs = at;
  }
}

function idsOf(engine: EngineView | undefined): string[] {
  if (!engine) return [];
  return [...engine.run, ...engine.reserve, ...engine.keep.map(({ call }) => call)];
}

/** @param listed by the list of the plan that it is in. */
function stateOf({ stage, planned }: CallView, listed: ViewCall["state"] | undefined): ViewCall["state"] {
  if (stage === "settling" || stage === "closing" || stage === "ended") return "ending";
  if (stage !== "queued") return "waiting";
  if (listed !== undefined) return listed;
  return planned ? "starting" : "waiting";
}
