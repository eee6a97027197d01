/** The surroundings of an agent on a real nats-server: a scheduler that plans by hand, and a frontend. */
import type { Engine } from "@autellix/engines";
import {
  type AgentMessage,
  agentMessageSchema,
  ask,
  type Bus,
  type CallKey,
  decodeAs,
  encode,
  ensurePool,
  frontendMessageSchema,
  gapAnswerSchema,
  type HaveAnswer,
  headers,
  listen,
  type OutcomeBody,
  openBus,
  outcomeBodySchema,
  type Plan,
  type PlanCall,
  publishCall,
  type Report,
  readOutcome,
  type StoredRecord,
  send,
  subjects,
  type TokenItem,
} from "@autellix/protocol";
import { createLogger } from "@autellix/runtime";
import { type RunningAgent, startAgent } from "../../src/agent.ts";
import type { AgentLimits } from "../../src/limits.ts";

export const POOL = "pool";
export const TENANT = "default";

/** Resolves with the first value of `probe` that is not undefined. The test's own time limit ends it. */
export async function eventually<T>(probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function chat(content: string, fields: Record<string, unknown> = {}): Uint8Array {
  return encode({ messages: [{ role: "user", content }], ...fields }, "json");
}

export function outcomeOf(record: StoredRecord): OutcomeBody {
  return decodeAs(outcomeBodySchema, record.body) as OutcomeBody;
}

/** Holds what an agent says, and tells it what to do. */
export class TestScheduler {
  readonly bus: Bus;
  readonly messages: AgentMessage[] = [];
  readonly #numbers = new Map<string, number>();
  epoch = 1;

  constructor(bus: Bus) {
    this.bus = bus;
    listen(bus, subjects.report(POOL), agentMessageSchema, (message) => this.messages.push(message), fail);
  }

  reports(engine: string): Report[] {
    return this.messages.filter((m): m is Report => m.kind === "report" && m.engine === engine);
  }

  /** The newest report of this engine that satisfies a condition. */
  async report(engine: string, is: (report: Report) => boolean): Promise<Report> {
    return await eventually(() => this.reports(engine).findLast(is));
  }

  async accept(callId: string, body: Uint8Array, fields: Record<string, string> = {}): Promise<number> {
    const result = await publishCall(this.bus, { address: { pool: POOL, tenant: TENANT, callId }, body, fields });
    if (result.kind !== "accepted") throw new Error(`not accepted: ${result.kind}`);
    return result.seq;
  }

  async plan(engine: string, parts: Partial<Plan>): Promise<void> {
    const hello = await this.report(engine, () => true);
    const number = (this.#numbers.get(engine) ?? 0) + 1;
    this.#numbers.set(engine, number);
    const plan: Plan = {
      pool: POOL,
      engine,
      incarnation: hello.incarnation,
      epoch: this.epoch,
      number,
      reportSeen: 0,
      run: [],
      reserve: [],
      keep: [],
      cancel: [],
      windowSteps: 16,
      ...parts,
    };
    send(this.bus, subjects.plan(engine), plan);
  }

  async outcome(callId: string): Promise<StoredRecord | undefined> {
    const read = await readOutcome(this.bus, { pool: POOL, tenant: TENANT, callId }, "leader");
    return read.kind === "found" ? read.record : undefined;
  }

  /** Resolves with the terminal record of a call. */
  async ended(callId: string): Promise<StoredRecord> {
    return await eventually(async () => {
      const record = await this.outcome(callId);
      return record?.head.kind === "outcome" ? record : undefined;
    });
  }
}

export interface SeenEnd {
  status: string;
  body: Uint8Array | undefined;
  /** Whether the record was stored when the end came. */
  stored: boolean;
}

/** Collects the tokens of its calls, in order and without gaps, as a frontend does. */
export class TestFrontend {
  readonly reply: string;
  readonly items = new Map<CallKey, TokenItem[]>();
  readonly ends = new Map<CallKey, SeenEnd>();
  readonly #scheduler: TestScheduler;

  constructor(scheduler: TestScheduler, name: string) {
    this.#scheduler = scheduler;
    this.reply = subjects.tokens(name);
    listen(
      scheduler.bus,
      this.reply,
      frontendMessageSchema,
      (message, raw) => {
        if (message.kind === "tokens") {
          for (const item of message.items) this.#take(item);
          return;
        }
        if (message.kind === "end") void this.#end(message.call, message.status, message.body);
        raw.respond(encode(message.kind === "have" ? this.have(message.call) : { ok: true }));
      },
      fail,
    );
  }

  #take(item: TokenItem): void {
    const list = this.items.get(item.call) ?? [];
    if (item.index !== countOf(list)) throw new Error(`${item.call}: token ${item.index} after ${countOf(list)}`);
    this.items.set(item.call, [...list, item]);
  }

  async #end(call: CallKey, status: string, body: Uint8Array | undefined): Promise<void> {
    const record = await this.#scheduler.outcome(call.slice(TENANT.length + 1));
    this.ends.set(call, { status, body, stored: record?.head.kind === "outcome" });
  }

  have(call: CallKey): HaveAnswer {
    const list = this.items.get(call) ?? [];
    return { state: "live", count: countOf(list), ids: list.flatMap((item) => item.ids ?? []) };
  }

  /** Tokens of the call that have come. */
  tokens(call: CallKey): number {
    return countOf(this.items.get(call) ?? []);
  }

  text(call: CallKey): string {
    return (this.items.get(call) ?? []).map((item) => item.text).join("");
  }

  async ended(call: CallKey): Promise<SeenEnd> {
    return await eventually(() => this.ends.get(call));
  }
}

function countOf(items: readonly TokenItem[]): number {
  return items.reduce((sum, item) => sum + item.count, 0);
}

function fail(error: Error): void {
  throw error;
}

export async function gap(bus: Bus, engine: string, call: CallKey, from: number) {
  return await ask(bus, subjects.ask(engine), { kind: "tokens", call, from }, gapAnswerSchema);
}

export interface TestAgent extends RunningAgent {
  /** What the agent says when it cannot go on. */
  failure: Promise<unknown>;
}

export interface Stage {
  bus: Bus;
  scheduler: TestScheduler;
  frontend: TestFrontend;
  /** Starts an agent on a connection of its own; `stop` leaves nothing of it. */
  agent(engineId: string, engine: Engine, limits?: Partial<AgentLimits>): Promise<TestAgent>;
  /** Publishes a call and makes its entry for a plan. */
  call(callId: string, body: Uint8Array, options?: CallOptions): Promise<PlanCall>;
  close(): Promise<void>;
}

interface CallOptions {
  reply?: string;
  fields?: Record<string, string>;
}

export async function openStage(url: string): Promise<Stage> {
  const bus = await openBus({ url, name: "stage" });
  await ensurePool(bus, POOL);
  const scheduler = new TestScheduler(bus);
  const frontend = new TestFrontend(scheduler, "front");
  const closing: (() => Promise<void>)[] = [];
  return {
    bus,
    scheduler,
    frontend,
    async agent(engineId, engine, limits = {}) {
      const own = await openBus({ url, name: engineId });
      const failed = Promise.withResolvers<unknown>();
      const agent = startAgent({
        bus: own,
        engine,
        pool: POOL,
        engineId,
        limits: { drainMsMax: 50, ...limits },
        log: createLogger({ service: "worker-agent", level: "silent" }),
        fail: failed.resolve,
      });
      let stopped = false;
      const stop = async () => {
        if (stopped) return;
        stopped = true;
        await agent.stop();
        await own.nc.drain();
        await engine.shutdown();
      };
      closing.push(stop);
      return {
        get incarnation() {
          return agent.incarnation;
        },
        unreadyReason: () => agent.unreadyReason(),
        stop,
        failure: failed.promise,
      };
    },
    async call(callId, body, { reply = frontend.reply, fields = {} } = {}) {
      const seq = await scheduler.accept(callId, body, { ...fields, [headers.reply]: reply });
      const dispatch = { seq, fence: 0, program: "program", reply, waitedMs: 0, servedMs: 0 };
      return { call: `${TENANT}/${callId}`, attempt: 1, dispatch };
    },
    async close() {
      for (const close of closing) await close();
      await bus.nc.close();
    },
  };
}
