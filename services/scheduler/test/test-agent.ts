/** A small agent over the protocol's own messages: it holds what plans name and ends calls when it is told to. */
import {
  askSchema,
  type Bus,
  type EngineInfo,
  encode,
  encodeOutcome,
  type FinishedCall,
  headers,
  listen,
  type Plan,
  planSchema,
  publishCall,
  type ReadResult,
  type RecordHead,
  type Report,
  readOutcome,
  send,
  splitCallKey,
  subjects,
  type TerminalStatus,
  writeOutcomeRecord,
} from "@autellix/protocol";
import { info } from "./bench.ts";

const REPORT_MS = 100;

interface Held {
  attempt: number;
  fence: number;
}

export class TestAgent {
  readonly held = new Map<string, Held>();
  /** Every (call, attempt) that it was ever given. */
  readonly given = new Set<string>();
  readonly #bus: Bus;
  readonly #pool: string;
  readonly engine: string;
  readonly #info: EngineInfo;
  readonly #endsAtOnce: boolean;
  readonly #timer: NodeJS.Timeout;
  readonly #subscriptions: { unsubscribe(): void }[];
  #plan: Plan | undefined;
  #epoch = 0;
  #number = 0;
  #finished: FinishedCall[] = [];
  readonly #errors: unknown[] = [];

  constructor(bus: Bus, pool: string, engine: string, { endsAtOnce = true, batchCallsMax = 2 } = {}) {
    this.#bus = bus;
    this.#pool = pool;
    this.engine = engine;
    this.#endsAtOnce = endsAtOnce;
    this.#info = { ...info, batchCallsMax };
    const onInvalid = (error: unknown) => void this.#errors.push(error);
    this.#subscriptions = [
      listen(bus, subjects.plan(engine), planSchema, (plan) => this.#take(plan), onInvalid),
      listen(
        bus,
        subjects.ask(engine),
        askSchema,
        (question, raw) => {
          if (question.kind !== "report") return;
          this.#epoch = Math.max(this.#epoch, question.epoch);
          raw.respond(encode(this.#report()));
        },
        onInvalid,
      ),
    ];
    this.#timer = setInterval(() => send(bus, subjects.report(pool), this.#report()), REPORT_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    if (this.#errors.length > 0) throw new AggregateError(this.#errors, "the agent met errors");
  }

  #take(plan: Plan): void {
    if (plan.epoch < this.#epoch || (plan.epoch === this.#plan?.epoch && plan.number <= this.#plan.number)) return;
    this.#epoch = plan.epoch;
    this.#plan = plan;
    this.#finished = this.#finished.filter(({ report }) => report > plan.reportSeen);
    const entries = [...plan.run, ...plan.reserve, ...plan.keep];
    for (const { call, attempt, dispatch } of entries) {
      // A plan that was made before an end was read names the call once more.
      if (!dispatch || this.given.has(`${call}#${attempt}`)) continue;
      this.held.set(call, { attempt, fence: dispatch.fence });
      this.given.add(`${call}#${attempt}`);
    }
    for (const { call } of plan.cancel) if (this.held.has(call)) this.#run(this.end(call, "cancelled"));
    if (this.#endsAtOnce) for (const { call } of plan.run) if (this.held.has(call)) this.#run(this.end(call));
  }

  #run(ending: Promise<void>): void {
    ending.catch((error: unknown) => this.#errors.push(error));
  }

  /** Writes the outcome, then reports the end. */
  async end(call: string, status: TerminalStatus = "completed"): Promise<void> {
    const held = this.held.get(call);
    if (!held) throw new Error(`${call} is not held`);
    this.held.delete(call);
    const { tenant, callId } = splitCallKey(call);
    const address = { pool: this.#pool, tenant, callId };
    const code = status === "cancelled" ? "cancelled" : undefined;
    const head: RecordHead = {
      kind: "outcome",
      status,
      code,
      attempt: held.attempt,
      epoch: this.#epoch,
      engine: this.engine,
    };
    const body = encodeOutcome({ call_id: callId, program_id: callId, status }, "json");
    let isFound = false;
    for (;;) {
      const result = await writeOutcomeRecord(this.#bus, address, head, body, held.fence);
      if (result.kind === "stored") break;
      const read = await readOutcome(this.#bus, address, "leader");
      isFound = read.kind === "found" && read.record.head.kind === "outcome";
      if (isFound) break;
      if (result.kind === "refused" && read.kind === "found") return; // superseded: dropped
    }
    this.#finished.push({
      call,
      attempt: held.attempt,
      status,
      found: isFound,
      serviceMs: 5,
      waitingMs: 1,
      promptTokens: 3,
      completionTokens: 4,
      report: this.#number + 1,
    });
    send(this.#bus, subjects.report(this.#pool), this.#report());
  }

  #report(): Report {
    return {
      kind: "report",
      pool: this.#pool,
      engine: this.engine,
      incarnation: "i1",
      number: ++this.#number,
      planEpoch: this.#plan?.epoch ?? 0,
      planNumber: this.#plan?.number ?? 0,
      info: this.#info,
      calls: [...this.held].map(([call, { attempt }]) => ({
        call,
        attempt,
        state: "running",
        serviceMs: 1,
        contextTokens: 7,
        promptTokens: 3,
        completionTokens: 4,
      })),
      finished: this.#finished,
      fenced: [],
      frontendsDead: [],
      counters: { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 },
    };
  }
}

export async function publish(bus: Bus, pool: string, callId: string, fields: Record<string, string> = {}) {
  const body = new TextEncoder().encode('{"messages":[]}');
  return await publishCall(bus, { address: { pool, tenant: "default", callId }, body, fields });
}

/** Publishes a call and returns when it is accepted. */
export async function accept(bus: Bus, pool: string, callId: string, fields = {}): Promise<void> {
  const result = await publish(bus, pool, callId, fields);
  if (result.kind !== "accepted") throw new Error(`${callId} was not accepted: ${result.kind}`);
}

export const programField = (program: string) => ({ [headers.program]: program });

/** The call's terminal record, once there is one. */
export async function outcomeOf(bus: Bus, pool: string, callId: string) {
  return await eventually(async () => {
    const result: ReadResult = await readOutcome(bus, { pool, tenant: "default", callId }, "leader");
    return result.kind === "found" && result.record.head.kind === "outcome" ? result.record : undefined;
  });
}

/** Resolves with the first defined value of `probe`, asked again until then. The test's own time limit ends it. */
export async function eventually<T>(probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
