/**
 * Plays a scripted scenario on ideal engines and writes down, line by line, what the core decided: the golden texts
 * are made of it. One step takes 1 ms and serves every call of the batch; programs release their next calls when
 * their parents have ended. In one moment the order is that of the paper's listing as we read it: demote, finish,
 * admit.
 */

import type { Call } from "../src/call.ts";
import {
  type CallId,
  type Command,
  type CoreConfig,
  callId,
  type EngineCapacity,
  type EnginePlan,
  type EngineReport,
  engineId,
  type FinishedCall,
  type Input,
  type LossCause,
  type Millis,
  programId,
  type SavedEntry,
  Scheduler,
} from "../src/index.ts";
import { stateOf } from "./checkers.ts";
import { capacity as smallEngine } from "./config.ts";
import { Scribe } from "./scribe.ts";

/** One call of a story: `needs` steps of service. */
export interface Node {
  call: string;
  needs: number;
  /** Calls that must have ended before it arrives. */
  after?: readonly string[];
  tokens?: number;
  thread?: string;
}

interface Played extends Node {
  program: string;
  served: number;
  /** Of the attempt that runs. */
  servedNow: number;
  arrivedAt: Millis;
}

interface PlayedEngine {
  id: string;
  incarnation: string;
  capacity: EngineCapacity;
  plan: EnginePlan | undefined;
  reports: number;
}

const WINDOWS_MAX = 10_000;

export class Story {
  readonly scheduler: Scheduler;
  private readonly config: CoreConfig;
  private readonly scribe: Scribe;
  private readonly engines = new Map<string, PlayedEngine>();
  /** Arrived and not ended. */
  private readonly active = new Map<string, Played>();
  private readonly programs = new Map<string, { nodes: Map<string, Node>; ended: Set<string>; endedAt: Millis }>();
  private readonly steps = new Map<string, number>();
  private seq = 0;
  private markers = 0;

  constructor(config: CoreConfig) {
    this.config = config;
    this.scheduler = new Scheduler(config);
    this.scribe = new Scribe(this.scheduler, config);
    this.feed({ kind: "leaderStarted", at: 0 });
  }

  get at(): Millis {
    return this.scribe.at;
  }

  /** The calls of each window's batches. */
  get batches(): readonly string[] {
    return this.scribe.batches;
  }

  text(): string {
    return this.scribe.text();
  }

  say(line: string): void {
    this.scribe.say(line);
  }

  /** Whatever happens inside leaves no line. */
  quietly(play: () => void): void {
    this.scribe.quiet = true;
    play();
    this.scribe.quiet = false;
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────────────────

  join(id: string, over: Partial<EngineCapacity> = {}, incarnation = `${id}.1`): void {
    const capacity = { ...smallEngine, ...over };
    this.engines.set(id, { id, incarnation, capacity, plan: undefined, reports: 0 });
    const room = Object.entries(over).map(([name, value]) => `${name} ${value}`);
    this.scribe.note("joins", [id, ...room].join(", "));
    this.feed({ kind: "engineJoined", at: this.at, engine: engineId(id), incarnation, capacity });
  }

  lose(id: string, cause: LossCause): void {
    this.engines.delete(id);
    this.scribe.note("lost", `${id} (${cause})`);
    this.feed({ kind: "engineLost", at: this.at, engine: engineId(id), cause });
  }

  /** A program that the table knows already, with the service that it had. */
  past(program: string, attained: number, over: Partial<SavedEntry> = {}): void {
    const restored: SavedEntry = {
      program: programId(program),
      serviceMs: attained,
      waitingMs: 0,
      attained,
      pathServiceMs: attained,
      pathWaitingMs: 0,
      endedCalls: 1,
      endedAt: undefined,
      pin: undefined,
      engines: [],
      arrivedAt: this.at,
      lastArrivalAt: this.at,
      lastCompletionAt: this.at,
      charged: [],
      ...over,
    };
    this.scribe.note("known", `${program}: attained ${attained}`);
    this.feed({ kind: "programStarted", at: this.at, program: restored.program, restored });
  }

  /** A program whose roots arrive now, and its other calls when what they follow has ended, in the given order. */
  program(name: string, nodes: readonly Node[]): void {
    const known = new Map(nodes.map((node) => [node.call, node]));
    this.programs.set(name, { nodes: known, ended: new Set(), endedAt: 0 });
    this.steps.set(
      name,
      nodes.reduce((sum, { needs }) => sum + needs, 0),
    );
    this.release(name);
  }

  chain(name: string, needs: readonly number[]): void {
    const nodes = needs.map((need, i) => ({
      call: `${name}${i}`,
      needs: need,
      after: i > 0 ? [`${name}${i - 1}`] : [],
    }));
    this.program(name, nodes);
  }

  /** One call, of the program of its own name unless told otherwise. */
  arrive(
    call: string,
    { program = call, needs = 1_000, ...over }: Partial<Omit<Node, "call">> & { program?: string } = {},
  ) {
    const node: Node = { call, needs, ...over };
    this.active.set(call, { ...node, program, served: 0, servedNow: 0, arrivedAt: this.at });
    this.apply({
      kind: "callArrived",
      at: this.at,
      call: {
        id: callId(call),
        seq: ++this.seq,
        program: programId(program),
        arrivedAt: this.at,
        deadlineAt: this.at + 1e9,
        promptTokens: node.tokens ?? 1,
        ...(node.thread === undefined ? {} : { thread: node.thread }),
        ...(node.after === undefined ? {} : { parents: node.after.map(callId) }),
      },
    });
    const core = this.call(call);
    const where = core?.engine ? ` of ${core.engine.id}` : ", no engine yet";
    this.scribe.note(
      "arrives",
      core ? `${call} of ${program}, inherits ${core.inherited}: Q${core.level + 1}${where}` : call,
    );
  }

  wait(ms: Millis): void {
    this.scribe.at += ms;
    this.feed({ kind: "timePassed", at: this.at });
  }

  plan(): void {
    this.feed({ kind: "planDue", at: this.at });
  }

  /** So many windows: N steps on every engine, its report, and the next plan. */
  run(windows = 1): void {
    for (let i = 0; i < windows; i++) {
      const reports = this.window();
      for (const report of reports) this.feed({ kind: "reported", at: this.at, report });
      const ended = reports.flatMap(({ finished }) => finished.map(({ call }) => String(call)));
      for (const call of ended) this.end(call);
      this.plan();
    }
  }

  runAll(): void {
    for (let windows = 0; this.active.size > 0; windows++) {
      if (windows > WINDOWS_MAX) throw new Error(`${[...this.active.keys()].join(" ")} do not end`);
      this.run();
    }
  }

  // ── what came of it ────────────────────────────────────────────────────────────────────────────────────────

  /** Moment at which the last call of each program ended. */
  finishes(): Record<string, Millis> {
    return Object.fromEntries([...this.programs].map(([name, { endedAt }]) => [name, endedAt]));
  }

  /** Σ over programs of finish − steps: the paper's "total waiting" (Fig. 2). */
  waiting(): number {
    let waiting = 0;
    for (const [name, { endedAt }] of this.programs) waiting += endedAt - (this.steps.get(name) ?? 0);
    return waiting;
  }

  showTable(program: string): void {
    const entry = this.scheduler.program(programId(program));
    if (!entry) throw new Error(`no program ${program}`);
    const { serviceMs, waitingMs, attained, pathServiceMs, pathWaitingMs, endedCalls, pin } = entry;
    const sums = `service ${serviceMs}, waiting ${waitingMs}, attained ${attained}`;
    const paths = `longest chain of service ${pathServiceMs}, of waiting ${pathWaitingMs}`;
    this.scribe.note("table", `${program}: ${sums}, ${paths}, ended calls ${endedCalls}, pin ${pin ?? "none"}`);
  }

  showLadder(): void {
    const levels = this.scheduler.ladder.map(({ lo, hi, quantum }) => `[${lo}, ${hi}) quantum ${quantum}`);
    this.scribe.note("ladder", levels.join(" · ").replaceAll("Infinity", "∞"));
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────

  private release(name: string): void {
    const program = this.programs.get(name);
    if (!program) return;
    for (const [call, node] of program.nodes) {
      if (!(node.after ?? []).every((other) => program.ended.has(other))) continue;
      program.nodes.delete(call);
      this.arrive(call, { ...node, program: name });
    }
  }

  private end(call: string): void {
    const played = this.active.get(call);
    if (!played) return;
    this.active.delete(call);
    const program = this.programs.get(played.program);
    if (!program) return;
    program.ended.add(call);
    program.endedAt = this.at;
    this.release(played.program);
  }

  /** N steps on every engine; what fills a slot inside the window is the plan's reserve. */
  private window(): EngineReport[] {
    const served = new Map<string, string>();
    const finished = new Map<string, FinishedCall[]>([...this.engines.keys()].map((id) => [id, []]));
    for (let step = 0; step < this.config.windowSteps; step++) {
      this.scribe.at++;
      for (const engine of this.engines.values()) {
        for (const call of this.batchOf(engine)) {
          call.served++;
          call.servedNow++;
          served.set(call.call, `${call.call} ${call.served}/${call.needs}`);
          if (call.served === call.needs) finished.get(engine.id)?.push(this.finish(engine, call));
        }
      }
    }
    this.scribe.served(served);
    return [...this.engines.values()].map((engine) => this.report(engine, finished.get(engine.id) ?? []));
  }

  private batchOf({ plan, capacity }: PlayedEngine): Played[] {
    const planned = [...(plan?.run ?? []), ...(plan?.reserve ?? [])].map(({ call }) => this.active.get(call));
    return planned
      .filter((call) => call !== undefined)
      .filter((call) => call.served < call.needs)
      .slice(0, capacity.batchCallsMax);
  }

  private finish(engine: PlayedEngine, call: Played): FinishedCall {
    return {
      call: callId(call.call),
      attempt: attemptOf(engine, call.call),
      status: "completed",
      found: false,
      serviceMs: call.served,
      waitingMs: this.at - call.arrivedAt - call.served,
      contextTokens: (call.tokens ?? 1) + call.served,
    };
  }

  private report(engine: PlayedEngine, finished: FinishedCall[]): EngineReport {
    const { id, incarnation, plan } = engine;
    const held = plan ? [...plan.run, ...plan.reserve, ...plan.keep].map(({ call }) => this.active.get(call)) : [];
    const calls = held.flatMap((call) => {
      if (!call || call.served >= call.needs) return [];
      const contextTokens = (call.tokens ?? 1) + call.served;
      return [
        { call: callId(call.call), attempt: attemptOf(engine, call.call), serviceMs: call.servedNow, contextTokens },
      ];
    });
    const number = ++engine.reports;
    return { engine: engineId(id), incarnation, number, planNumber: plan?.number ?? 0, calls, finished, fenced: [] };
  }

  /** Feeds an input, and writes down what came of it. */
  feed(input: Input): void {
    const levels = new Map([...stateOf(this.scheduler).calls.values()].map((call) => [call, call.level]));
    const commands = this.apply(input);
    for (const [call, before] of levels) this.scribe.moved(call, before);
    for (const command of commands) {
      this.scribe.command(command);
      if (command.kind === "writeMarker") this.storeMarker(command);
    }
  }

  private storeMarker({ call, attempt }: { call: CallId; attempt: number }): void {
    const played = this.active.get(call);
    if (played) played.servedNow = 0;
    this.feed({ kind: "markerWritten", at: this.at, call, attempt, fence: ++this.markers });
  }

  private apply(input: Input): Command[] {
    const commands = this.scheduler.apply(input);
    for (const command of commands) {
      if (command.kind !== "sendPlan") continue;
      const engine = this.engines.get(command.plan.engine);
      if (engine) engine.plan = command.plan;
    }
    return commands;
  }

  private call(id: string): Call | undefined {
    return stateOf(this.scheduler).calls.get(callId(id));
  }
}

function attemptOf({ plan }: PlayedEngine, call: string): number {
  const planned = plan ? [...plan.run, ...plan.reserve, ...plan.keep] : [];
  return planned.find((other) => other.call === call)?.attempt ?? 1;
}
