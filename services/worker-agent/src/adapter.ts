/**
 * Carries the machine's effects out, on NATS and on the engine, and turns what comes back into events. One loop:
 * something happens → `receive` → the machine reacts → its effects are carried out.
 */
import type { Engine } from "@autellix/engines";
import {
  type AutellixError,
  ask,
  askSchema,
  type Bus,
  confirmSchema,
  haveAnswerSchema,
  headers,
  listen,
  planSchema,
  putBody,
  readOutcome,
  send,
  sendInbox,
  subjects,
  writeOutcomeRecord,
} from "@autellix/protocol";
import type { Logger, SpanSink } from "@autellix/runtime";
import { fetchBody } from "./engine-calls.ts";
import { EngineDriver } from "./engine-driver.ts";
import type { Effect, Happening } from "./events.ts";
import { END_REPEAT_MS, HAVE_MS_MAX, PING_MS } from "./limits.ts";
import { AgentMachine, type AgentUse } from "./machine.ts";
import type { AgentMetrics } from "./metrics.ts";
import type { AgentSetup } from "./state.ts";

type EffectOf<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

export interface AdapterOptions {
  bus: Bus;
  engine: Engine;
  setup: AgentSetup;
  metrics?: AgentMetrics | undefined;
  /** Where spans go, when `setup` says that they can be sent. */
  spans?: SpanSink | undefined;
  log: Logger;
  /** Ends the process: the engine or the machine is broken. */
  fail: (error: unknown) => void;
}

export class AgentAdapter {
  readonly #options: AdapterOptions;
  readonly #machine: AgentMachine;
  readonly #engine: EngineDriver;
  #timer: NodeJS.Timeout | undefined;
  readonly #subscriptions: { unsubscribe(): void }[] = [];
  readonly #drained = Promise.withResolvers<void>();
  #failed = false;
  #stopped = false;

  constructor(options: AdapterOptions) {
    this.#options = options;
    this.#machine = new AgentMachine(options.setup);
    this.#engine = new EngineDriver(
      options.engine,
      (happening) => this.receive(happening),
      (error) => this.#fail(error),
    );
  }

  start(): void {
    const { bus, setup, log } = this.#options;
    const refused = (error: AutellixError) => log.warn({ code: error.code }, "invalid message refused");
    this.#subscriptions.push(
      listen(
        bus,
        subjects.plan(setup.engine),
        planSchema,
        (plan) => this.receive({ kind: "planReceived", plan }),
        refused,
      ),
      listen(
        bus,
        subjects.ask(setup.engine),
        askSchema,
        (question, raw) => {
          if (raw.reply) this.receive({ kind: "asked", ask: question, replyTo: raw.reply });
        },
        refused,
      ),
    );
    this.#do(this.#followConnection());
    this.receive({ kind: "started" });
  }

  /**
   * Ends what has begun, and says goodbye to the scheduler.
   * @param withinMs how long begun calls may go on; default: the machine's limit.
   */
  async stop(withinMs?: number): Promise<void> {
    this.receive({ kind: "drainAsked", ...(withinMs === undefined ? {} : { withinMs }) });
    await this.#drained.promise;
    this.#stopped = true;
    clearTimeout(this.#timer);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    // An engine that failed may never answer.
    if (!this.#failed) await this.#engine.closeAll();
  }

  /** For people, at a glance. */
  use(): AgentUse {
    return this.#machine.use();
  }

  /** The loop. */
  receive(happening: Happening): void {
    if (this.#failed) return;
    if (happening.kind === "stepped") this.#options.metrics?.stepped(happening.durationMs, happening.calls.length);
    try {
      const event = { ...happening, atMs: performance.timeOrigin + performance.now() };
      for (const effect of this.#machine.react(event)) this.#carryOut(effect);
    } catch (error) {
      this.#fail(error);
    }
  }

  #carryOut(effect: Effect): void {
    const { bus, log } = this.#options;
    switch (effect.kind) {
      case "send":
        send(bus, effect.subject, effect.message);
        return;
      case "sendInbox":
        sendInbox(bus, effect.subject, effect.message, effect.end === undefined ? {} : { [headers.end]: effect.end });
        return;
      case "fetch":
        this.#do(this.#fetch(effect));
        return;
      case "askHave":
        this.#do(this.#askHave(effect));
        return;
      case "open":
      case "step":
      case "park":
      case "swapOut":
      case "swapIn":
      case "evict":
      case "retain":
      case "leave":
      case "close":
        this.#engine.carryOut(effect);
        return;
      case "hung":
        this.#fail(new Error(`the engine has not answered for ${effect.afterMs} ms`));
        return;
      case "storeResult":
        this.#do(this.#storeResult(effect));
        return;
      case "writeOutcome":
        this.#do(this.#writeOutcome(effect));
        return;
      case "readOutcome":
        this.#do(this.#readOutcome(effect));
        return;
      case "requestEnd":
        this.#do(this.#requestEnd(effect));
        return;
      case "ping":
        this.#do(this.#ping(effect));
        return;
      case "wake":
        this.#wakeAt(effect.atMs);
        return;
      case "sendSpans":
        this.#options.spans?.send(effect.spans);
        return;
      case "log":
        log[effect.level](effect.fields, effect.msg);
        return;
      case "drained":
        this.#drained.resolve();
    }
  }

  #wakeAt(atMs: number): void {
    clearTimeout(this.#timer);
    const delayMs = Math.max(0, atMs - (performance.timeOrigin + performance.now()));
    this.#timer = setTimeout(() => this.receive({ kind: "timePassed" }), Math.ceil(delayMs));
  }

  // ── NATS ─────────────────────────────────────────────────────────────────────────────────────────────────────

  async #fetch({ id, address, seq, bodyObject }: EffectOf<"fetch">): Promise<void> {
    const { bus } = this.#options;
    const [body, outcome] = await Promise.all([
      fetchBody(bus, address, seq, bodyObject),
      readOutcome(bus, address, "any"),
    ]);
    this.receive({ kind: "fetched", id, body, outcome });
  }

  async #askHave({ id, frontend, call, epoch, attempt }: EffectOf<"askHave">): Promise<void> {
    const { bus, setup } = this.#options;
    const question = { kind: "have", call, engine: setup.engine, epoch, attempt };
    const answer = await ask(bus, subjects.tokens(frontend), question, haveAnswerSchema, HAVE_MS_MAX);
    this.receive({ kind: "haveAnswered", id, answer });
  }

  async #storeResult({ id, tenant, bytes }: EffectOf<"storeResult">): Promise<void> {
    let name: string | undefined;
    try {
      name = await putBody(this.#options.bus, tenant, bytes);
    } catch (error) {
      this.#options.log.warn({ err: error }, "a large result could not be stored");
    }
    this.receive({ kind: "resultStored", id, name });
  }

  async #writeOutcome({ id, address, head, body, fence }: EffectOf<"writeOutcome">): Promise<void> {
    const result = await writeOutcomeRecord(this.#options.bus, address, head, body, fence);
    this.#options.metrics?.outcomeWritten(head, result);
    this.receive({ kind: "outcomeWritten", id, result });
  }

  async #readOutcome({ id, address }: EffectOf<"readOutcome">): Promise<void> {
    this.receive({ kind: "outcomeRead", id, result: await readOutcome(this.#options.bus, address, "leader") });
  }

  async #requestEnd({ id, frontend, call, status, body }: EffectOf<"requestEnd">): Promise<void> {
    const { bus, setup } = this.#options;
    const message = { kind: "end", call, pool: setup.pool, status, ...(body ? { body } : {}) };
    const answer = await ask(bus, subjects.tokens(frontend), message, confirmSchema, END_REPEAT_MS);
    this.receive({ kind: "endAnswered", id, confirmed: answer !== undefined });
  }

  async #ping({ frontend }: EffectOf<"ping">): Promise<void> {
    const { bus } = this.#options;
    const answer = await ask(bus, subjects.tokens(frontend), { kind: "ping" }, confirmSchema, PING_MS - 100);
    this.receive({ kind: "pingAnswered", frontend, answered: answer !== undefined });
  }

  async #followConnection(): Promise<void> {
    for await (const status of this.#options.bus.nc.status()) {
      if (this.#stopped) return;
      if (status.type === "disconnect") this.receive({ kind: "connectionChanged", connected: false });
      if (status.type === "reconnect") this.receive({ kind: "connectionChanged", connected: true });
    }
  }

  // ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────

  #do(promise: Promise<void>): void {
    promise.catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#drained.resolve();
    this.#options.fail(error);
  }
}
