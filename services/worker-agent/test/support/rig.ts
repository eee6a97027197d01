/** Drives one machine by events, without NATS, engine or clock. */
import {
  type Dispatch,
  type EngineInfo,
  encode,
  type FinishReason,
  type Plan,
  type PlanCall,
  type Report,
  type StoredRecord,
  type TerminalStatus,
} from "@autellix/protocol";
import type { ContextPlace, Effect, FetchedBody, Happening, SteppedCall } from "../../src/events.ts";
import { defaultLimits } from "../../src/limits.ts";
import { AgentMachine } from "../../src/machine.ts";
import type { AgentSetup } from "../../src/state.ts";

export const POOL = "p";
export const ENGINE = "e1";
export const INCARNATION = "inc-1";
export const FRONTEND = "autellix.tokens.f1";
export const INBOX = "_INBOX.reader.1";

export const info: EngineInfo = {
  kind: "simulated",
  models: ["m", "alias"],
  preemption: "recompute",
  batchCallsMax: 4,
  residentCallsMax: 6,
  heldCallsMax: 16,
  kvBlocks: 600,
  blockTokens: 16,
  contextTokensMax: 1_600,
};

const counters = { steps: 1, stepCalls: 1, busyMs: 10, tokens: 1, batchMax: 1 };

type Kind = Effect["kind"];
type Of<K extends Kind> = Extract<Effect, { kind: K }>;

export class Rig {
  readonly machine: AgentMachine;
  atMs = 1_000_000;
  /** Of the last reaction. */
  last: Effect[] = [];
  /** Of all reactions. */
  readonly all: Effect[] = [];
  planNumber = 0;
  epoch = 1;

  constructor(setup: Partial<AgentSetup> = {}) {
    this.machine = new AgentMachine({
      pool: POOL,
      engine: ENGINE,
      incarnation: INCARNATION,
      info,
      limits: defaultLimits,
      ...setup,
    });
    this.happen({ kind: "started" });
    this.atMs += 10;
  }

  happen(happening: Happening, afterMs = 0): Effect[] {
    this.atMs += afterMs;
    this.last = this.machine.react({ ...happening, atMs: this.atMs });
    this.all.push(...this.last);
    return this.last;
  }

  pass(ms: number): Effect[] {
    return this.happen({ kind: "timePassed" }, ms);
  }

  plan(parts: Partial<Plan> = {}): Effect[] {
    this.planNumber++;
    const plan: Plan = {
      pool: POOL,
      engine: ENGINE,
      incarnation: INCARNATION,
      epoch: this.epoch,
      number: this.planNumber,
      reportSeen: 0,
      run: [],
      reserve: [],
      keep: [],
      cancel: [],
      windowSteps: 100,
      ...parts,
    };
    return this.happen({ kind: "planReceived", plan });
  }

  /** The effects of this kind in the last reaction. */
  of<K extends Kind>(kind: K): Of<K>[] {
    return this.last.filter((effect): effect is Of<K> => effect.kind === kind);
  }

  one<K extends Kind>(kind: K): Of<K> {
    const found = this.of(kind);
    const [effect] = found;
    if (effect === undefined || found.length > 1)
      throw new Error(`${found.length} effects ${kind} in the last reaction`);
    return effect;
  }

  reports(effects: Effect[] = this.last): Report[] {
    return effects.flatMap((effect) =>
      effect.kind === "send" && isReport(effect.message) ? [effect.message as Report] : [],
    );
  }

  /** The newest report; made by waiting until the idle one is due. */
  report(): Report {
    this.pass(500);
    const report = this.reports().at(-1);
    if (report === undefined) throw new Error("no report is due");
    return report;
  }

  idOf(call: string): number {
    const fetches = this.all.filter((e): e is Of<"fetch"> => e.kind === "fetch" && `t/${e.address.callId}` === call);
    const id = fetches.at(-1)?.id;
    if (id === undefined) throw new Error(`${call} was never fetched`);
    return id;
  }

  fetched(call: string, body: FetchedBody = chatBody(), outcome: Of2 = { kind: "none" }): Effect[] {
    return this.happen({ kind: "fetched", id: this.idOf(call), body, outcome });
  }

  opened(call: string, promptTokens = 10, forcedText = "", context: Partial<ContextPlace> = {}): Effect[] {
    const place = { contextTokens: 0, hostTokens: 0, ...context };
    const cachedTokens = place.contextTokens + place.hostTokens;
    const id = this.idOf(call);
    return this.happen({ kind: "opened", id, promptTokens, cachedTokens, forcedText, context: place });
  }

  /** The engine has moved a context; `undefined` tokens: it has not. */
  swapped(call: string, way: "out" | "in", tokens: number | undefined, durationMs = 1): Effect[] {
    const swap = tokens === undefined ? undefined : { tokens, bytes: tokens * 100, durationMs };
    const context = {
      contextTokens: swap && way === "in" ? swap.tokens : 0,
      hostTokens: swap && way === "out" ? swap.tokens : 0,
    };
    if (swap === undefined && way === "out") context.contextTokens = 11;
    return this.happen({ kind: "swapped", id: this.idOf(call), way, swap, context, counters });
  }

  retained(call: string, kept = true, contextTokens = 11): Effect[] {
    return this.happen({ kind: "retained", id: this.idOf(call), kept, context: { contextTokens, hostTokens: 0 } });
  }

  /** The calls that effects of this kind in the last reaction name. */
  callsOf(kind: "park" | "swapOut" | "swapIn" | "evict" | "retain" | "leave" | "close"): string[] {
    return this.of(kind).map(({ id }) => this.nameOf(id));
  }

  /** From a plan that was just sent to a call that can be stepped. */
  ready(...calls: string[]): Effect[] {
    for (const call of calls) this.fetched(call);
    for (const call of calls) this.opened(call);
    return this.last;
  }

  /** Ends the running step: one token for each of these calls. */
  stepped(calls: Record<string, Partial<SteppedCall>>, durationMs = 10): Effect[] {
    const list = Object.entries(calls).map(([call, parts]) => ({
      id: this.idOf(call),
      promptTokens: 10,
      contextTokens: 11,
      completionTokens: 1,
      prefilledTokens: 0,
      cachedTokens: 0,
      preemptible: true,
      tokens: 1,
      ids: [7],
      text: "x",
      ...parts,
    }));
    return this.happen({ kind: "stepped", durationMs, calls: list, counters }, durationMs);
  }

  finish(call: string, finish: FinishReason = "stop"): Effect[] {
    return this.stepped({ [call]: { finish } });
  }

  stored(call: string): Effect[] {
    return this.happen({ kind: "outcomeWritten", id: this.idOf(call), result: { kind: "stored", seq: 9 } });
  }

  /** The calls of the step that the last reaction began. */
  steppedCalls(): string[] | undefined {
    const step = this.of("step")[0];
    return step?.ids.map((id) => this.nameOf(id));
  }

  nameOf(id: number): string {
    const fetch = this.all.find((e): e is Of<"fetch"> => e.kind === "fetch" && e.id === id);
    if (fetch === undefined) throw new Error(`no call ${id}`);
    return `t/${fetch.address.callId}`;
  }
}

type Of2 = Extract<Happening, { kind: "fetched" }>["outcome"];

function isReport(message: unknown): boolean {
  return typeof message === "object" && message !== null && (message as { kind?: string }).kind === "report";
}

export function entry(call: string, dispatch: Partial<Dispatch> = {}, attempt = 1): PlanCall {
  return {
    call,
    attempt,
    dispatch: { seq: 5, fence: 0, program: "prog", reply: FRONTEND, waitedMs: 3, servedMs: 0, ...dispatch },
  };
}

export function chatBody(fields: Record<string, unknown> = {}): FetchedBody {
  const bytes = encode({ messages: [{ role: "user", content: "hi" }], ...fields }, "json");
  return { kind: "found", bytes, encoding: undefined };
}

export function terminal(
  status: TerminalStatus = "completed",
  { attempt = 1, engine = "other", seq = 20 } = {},
): StoredRecord & { head: { kind: "outcome" } } {
  return {
    seq,
    head: { kind: "outcome", status, code: undefined, attempt, epoch: 1, engine },
    body: encode({ call_id: "a", program_id: "prog", status }, "json"),
  };
}

export function marker(seq: number, attempt = 2): StoredRecord {
  return {
    seq,
    head: { kind: "marker", attempt, epoch: 2, engine: "e2", cause: "engine_lost", crashes: 0 },
    body: new Uint8Array(),
  };
}
