/**
 * Carries the machine's effects out on NATS and HTTP and turns answers into events. Its loop is `#dispatch`: one event
 * at a time → react → carry out in order.
 */
import {
  AutellixError,
  type Bus,
  type CallKey,
  callKey,
  decodeAs,
  type FrontendMessage,
  frontendMessageSchema,
  isConnected,
  listen,
  outcomeBodySchema,
  send,
  statusSchema,
  subjects,
} from "@autellix/protocol";
import type { Logger, SpanSink } from "@autellix/runtime";
import type { CallTrace } from "./call-trace.ts";
import type { Effect, Event, InquiryResult, ProgramControl, Submission } from "./events.ts";
import type { CallResponse, ResponseEvents } from "./http/response.ts";
import type { Desk } from "./http/server.ts";
import { newId } from "./ids.ts";
import { type Limits, TICK_MS } from "./limits.ts";
import { Machine } from "./machine.ts";
import type { FrontendMetrics, FrontendUse } from "./metrics.ts";
import { watchModels } from "./models.ts";
import { NatsSide } from "./nats.ts";
import type { Outcome } from "./outcome.ts";
import { sendRequestSpan } from "./spans.ts";

type EffectOf<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;
/** Without `atMs`, which the adapter adds. */
type Untimed<E> = E extends { atMs: number } ? Omit<E, "atMs"> : E;

export interface AdapterOptions {
  bus: Bus;
  limits: Limits;
  log: Logger;
  /** Where ended calls are recorded, if they are. */
  trace?: CallTrace | undefined;
  /** Where it is counted what happens, if it is; known before the first call. */
  metrics?: (() => FrontendMetrics | undefined) | undefined;
  /** Where spans go; nothing is traced without it. */
  spans?: SpanSink | undefined;
  /** Something broke that the frontend cannot go on without. */
  fail(error: unknown): void;
}

export class Adapter implements Desk {
  readonly #bus: Bus;
  readonly #log: Logger;
  readonly #trace: CallTrace | undefined;
  readonly #metrics: (() => FrontendMetrics | undefined) | undefined;
  readonly #spans: SpanSink | undefined;
  readonly #fail: (error: unknown) => void;
  readonly #machine: Machine;
  readonly #nats: NatsSide;
  /** New at each start: whoever holds a call of an earlier run finds nobody there (design §2, Frontend gone). */
  readonly #frontend = newId();
  readonly #responses = new Map<CallKey, CallResponse>();
  readonly #inquiries = new Map<number, (result: InquiryResult) => void>();
  readonly #queue: Event[] = [];
  readonly #stops: (() => void)[] = [];
  #dispatching = false;
  #inquiry = 0;
  #stopped = false;

  constructor({ bus, limits, log, trace, metrics, spans, fail }: AdapterOptions) {
    this.#bus = bus;
    this.#trace = trace;
    this.#metrics = metrics;
    this.#spans = spans;
    this.#log = log.child({ frontend: this.#frontend });
    this.#fail = fail;
    this.#machine = new Machine(limits);
    this.#nats = new NatsSide(bus, this.#log, subjects.tokens(this.#frontend));
  }

  /** Listens to NATS. The list of models is read in the background: no pool may have been made yet. */
  async start(): Promise<void> {
    const invalid = (error: AutellixError, { subject }: { subject: string }) =>
      this.#log.warn({ subject, code: error.code, reason: error.message }, "an invalid message was dropped");
    const tokens = subjects.tokens(this.#frontend);
    const subscriptions = [
      listen(this.#bus, tokens, frontendMessageSchema, (message, { reply }) => this.#heard(message, reply), invalid),
      listen(
        this.#bus,
        subjects.statusOfAll,
        statusSchema,
        (status) => this.#now({ kind: "statusSent", status }),
        invalid,
      ),
    ];
    for (const subscription of subscriptions) this.#stops.push(() => subscription.unsubscribe());
    await this.#bus.nc.flush();
    const timer = setInterval(() => this.#now({ kind: "ticked" }), TICK_MS);
    this.#stops.push(() => clearInterval(timer));
    void this.#bus.nc.closed().then((error) => {
      if (this.#stopped) return;
      this.#fail(new AutellixError("queue_unavailable", "the connection to NATS was closed", { cause: error }));
    });
    const models = watchModels(this.#bus, this.#log, (event) => this.#now(event));
    this.#stops.push(() => models.stop());
  }

  /** Ends what is open within `drainMsMax`, then cancels the rest; the bus stays open. */
  async drain(drainMsMax: number, cancelsMsMax: number): Promise<void> {
    this.#now({ kind: "drainStarted" });
    await until(() => this.#machine.openCalls === 0, drainMsMax);
    this.#now({ kind: "drainEnded" });
    await until(() => this.#machine.openCancels === 0, cancelsMsMax);
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stops.splice(0)) stop();
  }

  submit(call: Submission, respond: (events: ResponseEvents) => CallResponse): void {
    const key = callKey(call.tenant, call.callId);
    const response = respond({
      buffered: (bytes) => this.#now({ kind: "buffered", key, bytes }),
      gone: () => this.#now({ kind: "clientGone", key }),
    });
    this.#responses.set(key, response);
    this.#now({ kind: "submitted", call });
  }

  async cancelCall(tenant: string, callId: string): Promise<InquiryResult> {
    return await this.#inquire((inquiry) => ({ kind: "cancelRequested", inquiry, tenant, callId }));
  }

  async program(tenant: string, message: ProgramControl): Promise<InquiryResult> {
    return await this.#inquire((inquiry) => ({ kind: "programRequested", inquiry, tenant, message }));
  }

  /** For people, at a glance. */
  use(): FrontendUse {
    const { openCalls, openCancels, bodiesBytes } = this.#machine;
    return { openCalls, openCancels, bodiesBytes };
  }

  models(): string[] {
    return this.#machine.models();
  }

  unreadyReason(): string | undefined {
    return isConnected(this.#bus) ? this.#machine.unreadyReason(performance.now()) : "NATS is not connected";
  }

  async #inquire(event: (inquiry: number) => Untimed<Event>): Promise<InquiryResult> {
    const inquiry = ++this.#inquiry;
    return await new Promise((resolve) => {
      this.#inquiries.set(inquiry, resolve);
      this.#now(event(inquiry));
    });
  }

  #now(event: Untimed<Event>): void {
    this.#queue.push({ ...event, atMs: performance.now() } as Event);
    if (!this.#dispatching) this.#dispatch();
  }

  /** Effects can cause events (a write that fills a socket): these wait until the effects before them are done. */
  #dispatch(): void {
    this.#dispatching = true;
    try {
      for (let event = this.#queue.shift(); event; event = this.#queue.shift()) {
        for (const effect of this.#machine.react(event)) this.#carryOut(effect);
      }
    } catch (error) {
      this.#queue.length = 0;
      this.#fail(error);
    } finally {
      this.#dispatching = false;
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case "open":
        this.#responses.get(effect.key)?.open();
        break;
      case "text":
        this.#responses.get(effect.key)?.text(effect.text);
        break;
      case "delta":
        this.#responses.get(effect.key)?.delta(effect.delta);
        break;
      case "comment":
        this.#responses.get(effect.key)?.comment();
        break;
      case "finish":
        this.#responses.get(effect.key)?.finish(effect.reason, effect.usage, effect.extension);
        break;
      case "whole":
        this.#responses.get(effect.key)?.whole(effect.completion);
        break;
      case "fail":
        if (effect.refused) this.#metrics?.()?.refused(effect.failure.code);
        this.#responses.get(effect.key)?.fail(effect.failure, effect.cut ?? false);
        this.#responses.delete(effect.key);
        break;
      case "callEnded":
        this.#responses.delete(effect.key);
        this.#log.info({ ...effect.fields, call: effect.key }, "call ended");
        this.#metrics?.()?.callEnded(effect.fields);
        this.#trace?.record(effect.fields, effect.trace);
        if (this.#spans) sendRequestSpan(this.#spans, this.#frontend, effect.fields, effect.trace);
        break;
      case "inquiryEnded":
        this.#inquiries.get(effect.inquiry)?.(effect.result);
        this.#inquiries.delete(effect.inquiry);
        break;
      case "answer":
        this.#answer(effect);
        break;
      case "warn":
        this.#log.warn({ call: effect.key }, effect.message);
        break;
      default:
        this.#askNats(effect);
    }
  }

  #answer({ reply, message }: EffectOf<"answer">): void {
    try {
      send(this.#bus, reply, message);
    } catch (error) {
      // Only the ids of a very long answer can be too large; without them the attempt cannot go on either.
      this.#log.error({ reason: String(error) }, "an answer could not be sent");
    }
  }

  /** Questions to NATS: each answer, or that there was none, is an event. */
  #askNats(effect: EffectOf<"publish" | "askTokens" | "readOutcome" | "cancel" | "control">): void {
    const nats = this.#nats;
    switch (effect.kind) {
      case "publish": {
        const { key } = effect;
        const sentMs = performance.now();
        void nats.publish(effect).then((result) => {
          this.#metrics?.()?.published(result, performance.now() - sentMs);
          this.#now({ kind: "publishAnswered", key, result });
        });
        break;
      }
      case "askTokens": {
        const { key, engine } = effect;
        void nats.askTokens(effect).then((answer) => this.#now({ kind: "gapAnswered", key, engine, answer }));
        break;
      }
      case "readOutcome": {
        const { key, purpose } = effect;
        void nats.readOutcome(effect).then((read) => this.#now({ kind: "outcomeRead", key, purpose, read }));
        break;
      }
      case "cancel": {
        const { key, address } = effect;
        const message = { op: "call.cancel", call_id: address.callId, cause: "client" } as const;
        void nats
          .control(address.pool, address.tenant, message)
          .then((answer) => this.#now({ kind: "cancelAnswered", key, answer }));
        break;
      }
      case "control": {
        const { inquiry, pool, tenant, message } = effect;
        void nats
          .control(pool, tenant, message)
          .then((answer) => this.#now({ kind: "controlAnswered", inquiry, pool, answer }));
        break;
      }
    }
  }

  #heard(message: FrontendMessage, replySubject: string | undefined): void {
    const reply = replySubject === "" ? undefined : replySubject;
    switch (message.kind) {
      case "tokens":
        this.#now(message);
        break;
      case "end":
        this.#now({ kind: "ended", key: message.call, outcome: this.#outcomeIn(message), reply });
        break;
      case "have": {
        const { call: key, engine, epoch, attempt } = message;
        this.#now({ kind: "haveAsked", key, engine, epoch, attempt, reply });
        break;
      }
      case "ping":
        this.#now({ kind: "pinged", reply });
        break;
    }
  }

  /** @returns undefined when it is not in the message: it is read from its record then. */
  #outcomeIn({ call, body }: Extract<FrontendMessage, { kind: "end" }>): Outcome | undefined {
    if (!body) return undefined;
    try {
      return decodeAs(outcomeBodySchema, body);
    } catch (error) {
      this.#log.warn({ call, reason: String(error) }, "the outcome in an end message is invalid: it is read instead");
      return undefined;
    }
  }
}

async function until(condition: () => boolean, msMax: number): Promise<void> {
  const end = performance.now() + msMax;
  while (!condition() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, TICK_MS));
}
