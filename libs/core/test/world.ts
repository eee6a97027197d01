/**
 * A small world around the core: CALLS, OUTCOMES, agents, and a network that loses, repeats and reorders whatever it
 * carries. Everything that happens is an action chosen from outside, so a run is its list of actions.
 */
import type {
  Command,
  CoreConfig,
  EngineCapacity,
  EnginePlan,
  EngineReport,
  Input,
  RecordedPast,
} from "../src/index.ts";
import { callId, engineId, programId, Scheduler } from "../src/index.ts";
import { checkLeaving, checkPlan, stateOf } from "./checkers.ts";
import { Ledger, Observer } from "./observer.ts";
import { WorldAgent } from "./world-agent.ts";

type Message =
  | { kind: "plan"; plan: EnginePlan; epoch: number }
  | { kind: "report"; report: EngineReport; planEpoch: number }
  | { kind: "ack"; call: string }
  | { kind: "write"; epoch: number; command: Extract<Command, { kind: "writeMarker" | "writeOutcome" }> };

interface Stored {
  seq: number;
  program: string;
  arrivedAt: number;
  deadlineAt: number;
  tokens: number;
  thread?: string;
  parents: readonly string[];
}

/** A call as a publisher makes it; `need` is the service after which it ends. */
export interface NewCall {
  need: number;
  tokens: number;
  /** Without it the call has all the time of the world. */
  lifetimeMs?: number;
  thread?: string;
  parents?: readonly string[];
}

export type WorldRecord =
  | { kind: "terminal"; seq: number; past?: RecordedPast }
  | {
      kind: "marker";
      seq: number;
      epoch: number;
      attempt: number;
      crashes: number;
    };

const QUIET_ROUNDS_MAX = 1_000;

export class World {
  at = 0;
  epoch = 0;
  /** CALLS: accepted and not acked. */
  readonly calls = new Map<string, Stored>();
  readonly records = new Map<string, WorldRecord>();
  readonly agents = new Map<string, WorldAgent>();
  readonly network: Message[] = [];
  /** Every marker that was ever stored, `<call>#<attempt>@<seq>`. */
  readonly markers = new Set<string>();
  /** Tokens of calls that have ended, and where: what an agent may retain. */
  readonly endedTokens = new Map<string, number>();
  readonly endedOn = new Map<string, string>();
  /** Calls that a context was kept for before the last input. */
  readonly claimants = new Set<string>();
  /** Program of every call that was accepted. */
  readonly programs = new Map<string, string>();
  scheduler: Scheduler;
  /** What each leader heard, and what it said: for the replay. */
  readonly logs: { inputs: Input[]; commands: string[] }[] = [];
  private readonly config: CoreConfig;
  private readonly losesAcks: boolean;
  private readonly needs = new Map<string, { need: number; tokens: number; arrivedAt: number }>();
  private readonly ledger: Ledger;
  private observer: Observer;
  /** Calls that this leader has read and not acked. */
  private readonly open = new Set<string>();
  private planDue = false;
  private lastPlanNumber = 0;
  private recordSeq = 0;
  private callSeq = 0;
  private incarnations = 0;
  private leading = false;

  /** @param losesAcks an ack is under way like everything else: it may be late or lost, and its call comes again. */
  constructor(config: CoreConfig, losesAcks: boolean) {
    this.losesAcks = losesAcks;
    this.config = config;
    this.ledger = new Ledger(config);
    this.scheduler = new Scheduler(config);
    this.observer = new Observer(this.scheduler, config);
    this.takeOver(() => true);
  }

  needOf(call: string): number {
    return this.needs.get(call)?.need ?? 1;
  }

  arrivedAtOf(call: string): number {
    return this.needs.get(call)?.arrivedAt ?? 0;
  }

  tokensOf(call: string): number {
    return this.needs.get(call)?.tokens ?? 1;
  }

  // ── the core and its commands ──────────────────────────────────────────────────────────────────────────────

  feed(input: Input): void {
    const log = this.logs.at(-1);
    const copy = JSON.stringify(input);
    this.claimants.clear();
    for (const call of stateOf(this.scheduler).calls.values()) if (call.claims) this.claimants.add(call.id);
    this.observer.before(input);
    const commands = this.scheduler.apply(input);
    this.observer.after(input);
    checkLeaving(stateOf(this.scheduler));
    if (input.kind === "callArrived") this.open.add(input.call.id);
    log?.inputs.push(JSON.parse(copy) as Input);
    log?.commands.push(JSON.stringify(commands));
    for (const command of commands) this.carryOut(command);
  }

  private carryOut(command: Command): void {
    switch (command.kind) {
      case "sendPlan":
        if (!this.leading) throw new Error("a plan left before the leader led");
        if (command.plan.number <= this.lastPlanNumber) throw new Error("plan numbers do not rise");
        this.lastPlanNumber = command.plan.number;
        checkPlan(this, command.plan);
        this.network.push({ kind: "plan", plan: command.plan, epoch: this.epoch });
        break;
      case "writeMarker":
      case "writeOutcome":
        this.network.push({ kind: "write", epoch: this.epoch, command });
        break;
      case "ack":
        if (this.records.get(command.call)?.kind !== "terminal") throw new Error(`S3: ${command.call} has no record`);
        if (!this.open.delete(command.call)) throw new Error(`S1: ${command.call} was acked twice`);
        if (this.losesAcks) this.network.push({ kind: "ack", call: command.call });
        else this.calls.delete(command.call);
        break;
      case "saveEntry":
        this.ledger.save(command.entry);
        break;
      case "wakeAt":
        if (command.at <= this.at) this.planDue = true;
        break;
      case "deadLetter":
        break;
    }
  }

  // ── records ────────────────────────────────────────────────────────────────────────────────────────────────

  private seqOf(call: string): number {
    return this.records.get(call)?.seq ?? 0;
  }

  /** An agent's write of a terminal record. */
  writeTerminal(call: string, fence: number, past: RecordedPast): "stored" | "ended" | "fenced" {
    if (this.records.get(call)?.kind === "terminal") return "ended";
    if (this.seqOf(call) !== fence) return "fenced";
    this.records.set(call, { kind: "terminal", seq: ++this.recordSeq, past });
    return "stored";
  }

  /** A scheduler's write, and how its machine decides a refusal: by reading. */
  private write({ epoch, command }: Extract<Message, { kind: "write" }>): void {
    const { call, attempt } = command;
    const expect = command.kind === "writeMarker" ? command.expect : command.fence;
    if (this.seqOf(call) === expect && this.records.get(call)?.kind !== "terminal") {
      const seq = ++this.recordSeq;
      if (command.kind === "writeOutcome") this.records.set(call, { kind: "terminal", seq });
      else {
        this.records.set(call, { kind: "marker", seq, epoch, attempt, crashes: command.crashes });
        this.markers.add(`${call}#${attempt}@${seq}`);
      }
    }
    // An old leader's write has happened; its answer finds nobody.
    if (epoch !== this.epoch) return;
    const record = this.records.get(call);
    if (record?.kind === "terminal") {
      const status = command.kind === "writeOutcome" ? command.status : "completed";
      const { past } = record;
      this.feed({ kind: "outcomeSeen", at: this.at, call, status, ...(past ? { past } : {}) });
    } else if (command.kind === "writeOutcome") {
      this.network.push({ kind: "write", epoch, command: { ...command, fence: this.seqOf(call) } });
    } else if (record?.epoch === epoch && record.attempt === attempt) {
      this.feed({ kind: "markerWritten", at: this.at, call, attempt, fence: record.seq });
    } else {
      this.feed({ kind: "markerRefused", at: this.at, call, attempt, lastSeq: this.seqOf(call) });
    }
  }

  // ── actions ────────────────────────────────────────────────────────────────────────────────────────────────

  /** @returns the id of the new call. */
  arrive(program: string, { need, tokens, lifetimeMs = 1e9, thread, parents = [] }: NewCall): string {
    const id = `t/c${++this.callSeq}`;
    this.needs.set(id, { need, tokens, arrivedAt: this.at });
    this.programs.set(id, program);
    const branch = thread === undefined ? {} : { thread };
    const deadlineAt = this.at + lifetimeMs;
    const stored = { seq: this.callSeq, program, arrivedAt: this.at, deadlineAt, tokens, parents, ...branch };
    this.calls.set(id, stored);
    this.read(id, stored);
    return id;
  }

  /** The queue shows an un-acked call once more: this leader may know it, or have acked it in vain. */
  redeliver(index: number): void {
    const [id, stored] = [...this.calls][index % Math.max(1, this.calls.size)] ?? [];
    if (id !== undefined && stored !== undefined) this.read(id, stored);
  }

  private read(id: string, { seq, program, arrivedAt, deadlineAt, tokens, thread, parents }: Stored): void {
    const record = this.records.get(id);
    const call = {
      id: callId(id),
      seq,
      program: programId(program),
      arrivedAt,
      deadlineAt,
      promptTokens: tokens,
      parents: parents.map(callId),
      ...(thread === undefined ? {} : { thread }),
    };
    this.feed({ kind: "callArrived", at: this.at, call, ...(record && !this.leading ? { record } : {}) });
  }

  cancel(index: number): void {
    const id = [...this.calls.keys()][index % Math.max(1, this.calls.size)] ?? "t/unknown";
    this.feed({ kind: "callCancelled", at: this.at, call: callId(id), cause: "client" });
  }

  endProgram(program: string, cancel: boolean): void {
    this.feed({ kind: "programEnded", at: this.at, program: programId(program), cancel });
  }

  /** A new process under this id; an older one is gone, with all that it held. */
  startAgent(id: string, capacity: EngineCapacity): void {
    const agent = new WorldAgent(this, id, `i${++this.incarnations}`, capacity);
    this.agents.set(id, agent);
    this.sendReport(agent);
  }

  endAgent(id: string, cause: "crash" | "exit" | "silence"): void {
    // A silent agent lives on, and is heard again later.
    if (cause !== "silence") this.agents.delete(id);
    this.feed({ kind: "engineLost", at: this.at, engine: engineId(id), cause });
  }

  suspect(id: string, suspected: boolean): void {
    this.feed({ kind: "engineSuspected", at: this.at, engine: engineId(id), suspected });
  }

  admit(admitsNew: boolean): void {
    this.feed({ kind: "timePassed", at: this.at, admitsNew });
  }

  sendReport(agent: WorldAgent): void {
    this.network.push({ kind: "report", ...agent.report() });
  }

  plan(): void {
    this.planDue = false;
    this.feed({ kind: "planDue", at: this.at });
  }

  pass(ms: number): void {
    this.at += ms;
    this.feed({ kind: "timePassed", at: this.at });
  }

  deliver(index: number, copies: number): void {
    const [message] = this.network.splice(index % Math.max(1, this.network.length), 1);
    if (!message) return;
    // Nothing that is written is lost: a write is repeated until it is answered.
    const times = message.kind === "write" ? Math.max(1, copies) : copies;
    for (let i = 0; i < times; i++) this.carry(message);
  }

  private carry(message: Message): void {
    if (message.kind === "write") this.write(message);
    else if (message.kind === "ack") this.calls.delete(message.call);
    else if (message.kind === "plan") this.agents.get(message.plan.engine)?.receive(message.plan, message.epoch);
    else this.hear(message.report, message.planEpoch);
  }

  private hear(report: EngineReport, planEpoch: number): void {
    const agent = this.agents.get(report.engine);
    // A report of an incarnation that is gone makes nobody join: the machine asks, and only the living answer.
    if (agent?.incarnation === report.incarnation) {
      const { incarnation, capacity } = agent;
      this.feed({ kind: "engineJoined", at: this.at, engine: report.engine, incarnation, capacity });
    }
    const planNumber = planEpoch === this.epoch ? report.planNumber : 0;
    this.feed({ kind: "reported", at: this.at, report: { ...report, planNumber } });
  }

  /** Another leader: what the old one has sent is still on its way. */
  takeOver(answers: (agent: WorldAgent) => boolean): void {
    this.epoch++;
    this.leading = false;
    this.lastPlanNumber = 0;
    this.planDue = false;
    this.scheduler = new Scheduler(this.config);
    this.observer = new Observer(this.scheduler, this.config);
    this.open.clear();
    this.logs.push({ inputs: [], commands: [] });
    for (const entry of this.ledger.saved()) {
      this.feed({ kind: "programStarted", at: this.at, program: entry.program, restored: entry });
    }
    for (const [id, stored] of this.calls) this.read(id, stored);
    for (const agent of this.agents.values()) {
      if (!answers(agent)) continue;
      agent.epoch = this.epoch;
      const { report, planEpoch } = agent.report();
      this.hear(report, planEpoch);
    }
    this.leading = true;
    this.feed({ kind: "leaderStarted", at: this.at });
  }

  /** No arrivals and no faults any more: everything must end (S11). */
  drain(capacity: EngineCapacity): void {
    for (let round = 0; this.calls.size > 0 || this.scheduler.counts().queued > 0; round++) {
      if (round > QUIET_ROUNDS_MAX) throw new Error(`S11: ${[...this.calls.keys()].join(" ")} do not end`);
      if (this.agents.size === 0) this.startAgent("e0", capacity);
      for (const [id, stored] of [...this.calls]) if (!this.scheduler.knows(callId(id))) this.read(id, stored);
      while (this.network.length > 0) this.deliver(0, 1);
      if (this.planDue) this.plan();
      while (this.network.length > 0) this.deliver(0, 1);
      for (const agent of this.agents.values()) {
        agent.step(5);
        this.sendReport(agent);
        if (agent.draining && agent.held.size === 0) this.endAgent(agent.id, "exit");
      }
      this.pass(250);
    }
  }
}
