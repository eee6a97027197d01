/** A scheduler's machine on a bench: events by short names, effects by kind. */

import { doublingLadder } from "@autellix/core";
import { type AgentMessage, type EngineInfo, headers, type Report } from "@autellix/protocol";
import type { CallMessage, Effect, Event, MachineConfig, RecordWrite, TakeOver } from "../src/events.ts";
import { SchedulerMachine } from "../src/machine.ts";
import type { InputSink } from "../src/recorder.ts";

export const machineConfig: MachineConfig = {
  pool: "p",
  leader: "me",
  policy: "plas",
  ladder: doublingLadder(1_000, 4),
  balancer: "least-used",
  windowSteps: 8,
  reserveCallsMax: 0,
  attemptsCrashedMax: 3,
  programIdleMaxMs: 3_600_000,
  queuedCallsMax: 100,
  callLifetimeMaxMs: 3_600_000,
  cancelMemoryMs: 60_000,
  cancelMemoryMax: 100,
  planResendMs: 1_000,
  agentSuspectMs: 2_000,
  agentLostMs: 6_000,
  outcomesShareMax: 0.8,
};

export const info: EngineInfo = {
  kind: "simulated",
  models: ["tiny"],
  preemption: "swap",
  batchCallsMax: 2,
  residentCallsMax: 4,
  heldCallsMax: 8,
  kvBlocks: 1_000,
  blockTokens: 16,
  contextTokensMax: 4_096,
};

export function callMessage(
  callId: string,
  fields: Record<string, string> = {},
  over: Partial<Pick<CallMessage, "seq" | "storedAtMs" | "bodyBytes">> = {},
): CallMessage {
  return {
    address: { pool: "p", tenant: "default", callId },
    seq: 1,
    storedAtMs: 1_000,
    bodyBytes: 100,
    field: (name) => fields[name] ?? "",
    ...over,
  };
}

export function report(engine: string, number: number, over: Partial<Report> = {}): Report {
  return {
    kind: "report",
    pool: "p",
    engine,
    incarnation: "i1",
    number,
    planEpoch: 0,
    planNumber: 0,
    calls: [],
    finished: [],
    fenced: [],
    frontendsDead: [],
    counters: { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 },
    ...over,
  };
}

export const held = (call: string, attempt = 1): Report["calls"][number] => ({
  call: `default/${call}`,
  attempt,
  state: "running",
  serviceMs: 1,
  contextTokens: 10,
  promptTokens: 5,
  completionTokens: 5,
});

export const ended = (call: string, over: Partial<Report["finished"][number]> = {}): Report["finished"][number] => ({
  call: `default/${call}`,
  attempt: 1,
  status: "completed",
  found: false,
  serviceMs: 10,
  waitingMs: 2,
  promptTokens: 5,
  completionTokens: 5,
  report: 1,
  ...over,
});

const FEEDS_MAX = 1_000;

export class MachineBench {
  readonly machine: SchedulerMachine;
  at = 1_000;
  /** Everything that came out, but `after`. */
  readonly effects: Effect[] = [];
  /** Events that the machine asked for at a later time. */
  readonly later: { ms: number; event: Event }[] = [];
  private seq = 0;

  constructor(takeOver: Partial<TakeOver> = {}, over: Partial<MachineConfig> = {}, inputs?: InputSink) {
    const full: TakeOver = { epoch: 7, records: new Map(), programs: [], engines: [], ...takeOver };
    this.machine = new SchedulerMachine({ ...machineConfig, ...over }, full, this.at, inputs);
    this.take(this.machine.start());
  }

  /** Leads over nothing. */
  static leading(over: Partial<MachineConfig> = {}): MachineBench {
    const bench = new MachineBench({}, over);
    bench.react({ kind: "callsRead" });
    return bench;
  }

  /** @returns what this event, and those that it asked for at once, gave. */
  react(event: Event): Effect[] {
    const from = this.effects.length;
    const due: Event[] = [event];
    for (let fed = 0; due.length > 0; fed++) {
      if (fed > FEEDS_MAX) throw new Error("the machine feeds itself for ever");
      const next = due.shift();
      if (next) due.push(...this.take(this.machine.react(next, this.at)));
    }
    return this.effects.slice(from);
  }

  private take(effects: Effect[]): Event[] {
    const due: Event[] = [];
    for (const effect of effects) {
      if (effect.kind !== "after") this.effects.push(effect);
      else if (effect.ms === 0) due.push(effect.event);
      else this.later.push(effect);
    }
    return due;
  }

  call(callId: string, fields: Record<string, string> = {}): Effect[] {
    return this.react({ kind: "call", message: callMessage(callId, fields, { seq: ++this.seq, storedAtMs: this.at }) });
  }

  agent(message: AgentMessage): Effect[] {
    return this.react({ kind: "agent", message });
  }

  join(engine: string, over: Partial<Report> = {}): Effect[] {
    return this.agent(report(engine, 1, { info, ...over }));
  }

  /** Time passes in ticks; the own beat comes back unless the scheduler is cut off. */
  pass(ms: number, { hearsItself = true } = {}): Effect[] {
    const from = this.effects.length;
    for (let left = ms; left > 0; left -= 250) {
      this.at += 250;
      if (hearsItself) this.react({ kind: "beat", beat: { pool: "p", epoch: 7, leader: "me", number: 1 } });
      this.react({ kind: "tick" });
    }
    return this.effects.slice(from);
  }

  /** Confirms the writes among `effects`. */
  confirm(effects: Effect[], seq = 50): Effect[] {
    return writes(effects).flatMap((write) => this.react({ kind: "wrote", write, result: { kind: "stored", seq } }));
  }
}

export function of<K extends Effect["kind"]>(effects: Effect[], kind: K): Extract<Effect, { kind: K }>[] {
  return effects.filter((effect): effect is Extract<Effect, { kind: K }> => effect.kind === kind);
}

export function writes(effects: Effect[]): RecordWrite[] {
  return of(effects, "write").map(({ write }) => write);
}

export const frontendReply = { [headers.reply]: "autellix.tokens.f1" };
