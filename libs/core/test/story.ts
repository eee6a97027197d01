/**
 * Plays a scripted scenario on ideal engines and writes down, line by line, what the core decided: the golden texts
 * are made of it. One step takes 1 ms and serves every call of the batch; programs release their next calls when
 * their parents have ended. In one moment the order is that of the paper's listing as we read it: demote, finish,
 * admit.
 */

import type { Call } from "../src/call.ts";
import {
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
  type PlannedCall,
  programId,
  type SavedEntry,
  Scheduler,
} from "../src/index.ts";
import { stateOf } from "./checkers.ts";
import { capacity as smallEngine } from "./config.ts";

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
  shown: string;
}

const WINDOWS_MAX = 10_000;

export class Story {
  readonly scheduler: Scheduler;
  at: Millis = 0;
  /** The calls of each window's batches. */
  readonly batches: string[] = [];
  private readonly config: CoreConfig;
  private readonly lines: string[] = [];
  private readonly engines = new Map<string, PlayedEngine>();
  /** Arrived and not ended. */
  private readonly active = new Map<string, Played>();
  private readonly programs = new Map<string, { nodes: Map<string, Node>; ended: Set<string>; endedAt: Millis }>();
  private readonly steps = new Map<string, number>();
  private seq = 0;
  private markers = 0;
  private quiet = false;
  /** The batch of the last line, when that says nothing but who was served. */
  private lastServed: { batch: string; from: Millis } | undefined;

  constructor(config: CoreConfig) {
    this.config = config;
    this.scheduler = new Scheduler(config);
    this.feed({ kind: "leaderStarted", at: 0 });
  }

  text(): string {
    return `${this.lines.join("\n")}\n`;
  }

  say(line: string): void {
    this.lines.push(line);
    this.lastServed = undefined;
  }

  /** Whatever happens inside leaves no line. */
  quietly(play: () => void): void {
    this.quiet = true;
    play();
    this.quiet = false;
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────────────────

  join(id: string, over: Partial<EngineCapacity> = {}, incarnation = `${id}.1`): void {
    const capacity = { ...smallEngine, ...over };
    this.engines.set(id, { id, incarnation, capacity, plan: undefined, reports: 0, shown: "" });
    const room = Object.entries(over).map(([name, value]) => `${name} ${value}`);
    this.note("joins", [id, ...room].join(", "));
    this.feed({ kind: "engineJoined", at: this.at, engine: engineId(id), incarnation, capacity });
  }

  lose(id: string, cause: LossCause): void {
    this.engines.delete(id);
    this.note("lost", `${id} (${cause})`);
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
    this.note("known", `${program}: attained ${attained}`);
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
    this.note("arrives", core ? `${call} of ${program}, inherits ${core.inherited}: Q${core.level + 1}${where}` : call);
  }

  wait(ms: Millis): void {
    this.at += ms;
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
    this.note("table", `${program}: ${sums}, ${paths}, ended calls ${endedCalls}, pin ${pin ?? "none"}`);
  }

  showLadder(): void {
    const levels = this.scheduler.ladder.map(({ lo, hi, quantum }) => `[${lo}, ${hi}) quantum ${quantum}`);
    this.note("ladder", levels.join(" · ").replaceAll("Infinity", "∞"));
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
      this.at++;
      for (const engine of this.engines.values()) {
        for (const call of this.batchOf(engine)) {
          call.served++;
          call.servedNow++;
          served.set(call.call, `${call.call} ${call.served}/${call.needs}`);
          if (call.served === call.needs) finished.get(engine.id)?.push(this.finish(engine, call));
        }
      }
    }
    this.noteServed(served);
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
    for (const [call, before] of levels) this.noteMove(call, before);
    for (const command of commands) this.noteCommand(command);
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

  private noteMove(call: Call, before: number): void {
    if (call.level === before || !call.list) return;
    const [from, to] = [`Q${before + 1}`, `Q${call.level + 1}`];
    if (call.level > before) this.note("demoted", `${call.id} from ${from} to the tail of ${to}`);
    else {
      const thread = this.scheduler.threads(call.program.id, this.at).find((other) => other.call === call.id);
      const own = `its own waiting ${thread?.waitingMs}, service ${thread?.serviceMs}`;
      this.note("promoted", `${call.id} from ${from} to the tail of ${to}: ${own}`);
    }
  }

  private noteCommand(command: Command): void {
    if (command.kind === "sendPlan") this.notePlan(command.plan);
    else if (command.kind === "saveEntry") {
      const { program, serviceMs, waitingMs, attained, charged } = command.entry;
      const last = charged.at(-1);
      if (last === undefined) return;
      this.note("ended", `${last} · ${program}: service ${serviceMs}, waiting ${waitingMs}, attained ${attained}`);
    } else if (command.kind === "writeMarker") {
      const { call, attempt, cause } = command;
      this.note("marker", `${call}, attempt ${attempt} (${cause})`);
      const played = this.active.get(call);
      if (played) played.servedNow = 0;
      this.feed({ kind: "markerWritten", at: this.at, call, attempt, fence: ++this.markers });
    }
  }

  private notePlan(plan: EnginePlan): void {
    const engine = this.engines.get(plan.engine);
    if (!engine) return;
    const lists = [
      `run ${listed(plan.run)}`,
      ...(this.config.reserveCallsMax > 0 ? [`reserve ${listed(plan.reserve)}`] : []),
      ...(plan.keep.length > 0 ? [`keep ${plan.keep.map(({ call, tier }) => `${call} (${tier})`).join(" ")}`] : []),
      ...(plan.retained.length > 0
        ? [`retained ${plan.retained.map(({ call, tier }) => `${call} (${tier})`).join(" ")}`]
        : []),
    ];
    const shown = [...lists, ...this.queues(plan.engine)].join(" | ");
    // The same again, because its agent had not shown that it has it.
    if (shown === engine.shown) return;
    engine.shown = shown;
    this.note(`plan ${plan.engine}`, shown);
  }

  private queues(engine: string): string[] {
    const queues = stateOf(this.scheduler).engines.get(engineId(engine))?.queues;
    return (queues?.levels ?? []).flatMap((level, i) =>
      level.size > 0 ? [`Q${i + 1}: ${[...level].map((call) => call.id).join(" ")}`] : [],
    );
  }

  private noteServed(served: ReadonlyMap<string, string>): void {
    if (served.size === 0) return;
    const batch = [...served.keys()].join(" ");
    this.batches.push(batch);
    const from = this.lastServed?.batch === batch ? this.lastServed.from : this.at - this.config.windowSteps;
    if (this.lastServed?.batch === batch && !this.quiet) this.lines.pop();
    this.note("served", `${[...served.values()].join(", ")} (since ${from})`);
    if (!this.quiet) this.lastServed = { batch, from };
  }

  private note(what: string, text: string): void {
    if (this.quiet) return;
    this.say(`${String(this.at).padStart(5)}  ${what.padEnd(9)} ${text}`);
  }
}

function attemptOf({ plan }: PlayedEngine, call: string): number {
  const planned = plan ? [...plan.run, ...plan.reserve, ...plan.keep] : [];
  return planned.find((other) => other.call === call)?.attempt ?? 1;
}

function listed(planned: readonly PlannedCall[]): string {
  return (
    planned.map(({ call, dispatch }) => `${call}${dispatch?.continues ? `←${dispatch.continues}` : ""}`).join(" ") ||
    "–"
  );
}
