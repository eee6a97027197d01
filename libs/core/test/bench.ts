/** A scheduler on a bench: inputs by short names, and what came out of them. Calls are `t/<name>`. */
import {
  type ArrivedCall,
  type CallRecord,
  type CancelCause,
  type Command,
  type CoreConfig,
  callId,
  type EngineCapacity,
  type EnginePlan,
  engineId,
  type FinishedCall,
  type Input,
  type LossCause,
  type Millis,
  type PlannedCall,
  policies,
  programId,
  type RecordedPast,
  Scheduler,
  type TerminalStatus,
} from "../src/index.ts";
import { capacity, coreConfig } from "./config.ts";

export interface Reported {
  /** Service by call. */
  calls?: Record<string, number>;
  /** Attempt by call, 1 by default; for `calls`, `finished` and `fenced`. */
  attempts?: Record<string, number>;
  contextTokens?: number;
  /** Calls that cannot be stopped. */
  unstoppable?: string[];
  finished?: Record<string, Partial<FinishedCall>>;
  fenced?: string[];
  draining?: boolean;
  /** Of the last plan sent to the engine by default. */
  planNumber?: number;
  incarnation?: string;
  number?: number;
}

export class Bench {
  readonly scheduler: Scheduler;
  at: Millis = 0;
  /** Last plan by engine. */
  readonly plans = new Map<string, EnginePlan>();
  private readonly incarnations = new Map<string, string>();
  private readonly reports = new Map<string, number>();
  private seq = 0;

  /** Leads at once, unless `gathering`. */
  constructor(over: Partial<CoreConfig> = {}, { gathering = false } = {}) {
    this.scheduler = new Scheduler(coreConfig(over.policy ?? policies.plas, over.ladder, over));
    if (!gathering) this.feed({ kind: "leaderStarted", at: 0 });
  }

  feed(input: Input): Command[] {
    const commands = this.scheduler.apply(input);
    for (const command of commands) {
      if (command.kind === "sendPlan") this.plans.set(command.plan.engine, command.plan);
    }
    return commands;
  }

  lead(): Command[] {
    return this.feed({ kind: "leaderStarted", at: this.at });
  }

  arrive(
    name: string,
    {
      record,
      program = name,
      ...over
    }: Partial<Omit<ArrivedCall, "program">> & { record?: CallRecord; program?: string } = {},
  ): Command[] {
    const call: ArrivedCall = {
      id: callId(`t/${name}`),
      seq: ++this.seq,
      program: programId(`t/${program}`),
      arrivedAt: this.at,
      deadlineAt: this.at + 1e9,
      promptTokens: 10,
      ...over,
    };
    return this.feed({ kind: "callArrived", at: this.at, call, ...(record ? { record } : {}) });
  }

  join(engine: string, over: Partial<EngineCapacity> = {}, incarnation = "i1"): Command[] {
    this.incarnations.set(engine, incarnation);
    this.reports.set(`${engine}/${incarnation}`, this.reports.get(`${engine}/${incarnation}`) ?? 0);
    return this.feed({
      kind: "engineJoined",
      at: this.at,
      engine: engineId(engine),
      incarnation,
      capacity: { ...capacity, ...over },
    });
  }

  lose(engine: string, cause: LossCause): Command[] {
    return this.feed({ kind: "engineLost", at: this.at, engine: engineId(engine), cause });
  }

  suspect(engine: string, suspected: boolean): Command[] {
    return this.feed({ kind: "engineSuspected", at: this.at, engine: engineId(engine), suspected });
  }

  /** Feeds `planDue`. @returns the plans that were sent. */
  plan(): Record<string, EnginePlan> {
    const plans: Record<string, EnginePlan> = {};
    for (const command of this.feed({ kind: "planDue", at: this.at })) {
      if (command.kind === "sendPlan") plans[command.plan.engine] = command.plan;
    }
    return plans;
  }

  /** Plans, and has each engine report that it holds what it was given, with the service that it had. */
  run(): Record<string, EnginePlan> {
    const plans = this.plan();
    for (const [engine, plan] of Object.entries(plans)) {
      const planned = [...plan.run, ...plan.reserve, ...plan.keep];
      const calls = Object.fromEntries(planned.map((p) => [nameOf(p), 0]));
      const attempts = Object.fromEntries(planned.map((p) => [nameOf(p), p.attempt]));
      this.report(engine, { calls, attempts });
    }
    return plans;
  }

  report(engine: string, said: Reported = {}): Command[] {
    const incarnation = said.incarnation ?? this.incarnations.get(engine) ?? "i1";
    const key = `${engine}/${incarnation}`;
    const number = said.number ?? (this.reports.get(key) ?? 0) + 1;
    this.reports.set(key, Math.max(number, this.reports.get(key) ?? 0));
    const attempt = (name: string) => said.attempts?.[name] ?? 1;
    const report = {
      engine: engineId(engine),
      incarnation,
      number,
      planNumber: said.planNumber ?? this.plans.get(engine)?.number ?? 0,
      calls: Object.entries(said.calls ?? {}).map(([name, serviceMs]) => ({
        call: callId(`t/${name}`),
        attempt: attempt(name),
        serviceMs,
        contextTokens: said.contextTokens ?? 0,
        ...(said.unstoppable?.includes(name) ? { preemptible: false as const } : {}),
      })),
      finished: Object.entries(said.finished ?? {}).map(([name, over]) => ({
        call: callId(`t/${name}`),
        attempt: attempt(name),
        status: "completed" as const,
        found: false,
        serviceMs: 0,
        waitingMs: 0,
        ...over,
      })),
      fenced: (said.fenced ?? []).map((name) => ({ call: callId(`t/${name}`), attempt: attempt(name) })),
      ...(said.draining === true ? { draining: true } : {}),
    };
    return this.feed({ kind: "reported", at: this.at, report });
  }

  cancel(name: string, cause: CancelCause = "client"): Command[] {
    return this.feed({ kind: "callCancelled", at: this.at, call: callId(`t/${name}`), cause });
  }

  end(program: string, cancel = false): Command[] {
    return this.feed({ kind: "programEnded", at: this.at, program: programId(`t/${program}`), cancel });
  }

  marker(name: string, attempt: number, fence: number): Command[] {
    return this.feed({ kind: "markerWritten", at: this.at, call: callId(`t/${name}`), attempt, fence });
  }

  seen(name: string, status: TerminalStatus, past?: RecordedPast): Command[] {
    return this.feed({
      kind: "outcomeSeen",
      at: this.at,
      call: callId(`t/${name}`),
      status,
      ...(past ? { past } : {}),
    });
  }

  pass(ms: number, admitsNew?: boolean): Command[] {
    this.at += ms;
    return this.feed({ kind: "timePassed", at: this.at, ...(admitsNew === undefined ? {} : { admitsNew }) });
  }

  knows(name: string): boolean {
    return this.scheduler.knows(callId(`t/${name}`));
  }

  program(name: string) {
    return this.scheduler.program(programId(`t/${name}`));
  }
}

export function nameOf(planned: { call: string }): string {
  return planned.call.slice(2);
}

export function names(planned: readonly PlannedCall[] | undefined): string[] {
  return (planned ?? []).map(nameOf);
}

/** Commands of one kind. */
export function only<K extends Command["kind"]>(commands: Command[], kind: K): Extract<Command, { kind: K }>[] {
  return commands.filter((command): command is Extract<Command, { kind: K }> => command.kind === kind);
}
