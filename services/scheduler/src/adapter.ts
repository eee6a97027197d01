/**
 * Carries out what leadership and machine decide, over NATS. One loop: receive → react → carry out. It decides
 * nothing: every answer becomes an event.
 */
import {
  AutellixError,
  ackCall,
  ackSubjectOf,
  agentMessageSchema,
  ask,
  type Bus,
  beatSchema,
  type ControlAnswer,
  callKey,
  callsToRead,
  confirmSchema,
  consumeCalls,
  controlSchema,
  decode,
  decodeAs,
  deleteBody,
  deleteKey,
  deleteOlderConsumers,
  type Encoding,
  encode,
  encodeOutcome,
  encodingOf,
  ensurePool,
  errorBody,
  headers,
  isName,
  keys,
  lastSeqOfKey,
  listen,
  outcomesShareUsed,
  parseCallSubject,
  parseReply,
  readKey,
  readOutcome,
  reportSchema,
  send,
  sendInbox,
  storeDead,
  subjects,
  validate,
  writeKey,
  writeOutcomeRecord,
} from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { z } from "zod";
import type { Effect, Event, MachineConfig, RecordWrite, ReplyToken } from "./events.ts";
import { Leadership, type LeadershipConfig, type LeadershipEffect, type LeadershipEvent } from "./leadership.ts";
import { SchedulerMachine, TICK_MS } from "./machine.ts";
import { clockOffset, readTakeOver } from "./take-over.ts";

const LEADERSHIP_TICK_MS = 500;
const OUTCOMES_POLL_MS = 5_000;
/** Pause before a lost consumer is made again, or an ack repeated. */
const PAUSE_MS = 250;
/** An ack that is not confirmed after so many tries is left: the call comes again and is found ended (S4). */
const ACK_TRIES_MAX = 8;
const END_REPEAT_MS = 1_000;
const END_REPEATS_MAX = 30;
/** Control requests that wait for an answer; the oldest is given up, its caller repeats. */
const CONTROLS_MAX = 10_000;
const STOP_FLUSH_MS = 1_000;

export interface SchedulerOptions {
  bus: Bus;
  machine: MachineConfig;
  leadership: LeadershipConfig;
  replicas: number;
  log: Logger;
  /** Ends the process: another leads, or something broke. The supervisor starts it again, as a standby. */
  fail: (error: unknown) => void;
}

type EffectOf<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

export class SchedulerService {
  readonly #options: SchedulerOptions;
  readonly #leadership: Leadership;
  #machine: SchedulerMachine | undefined;
  #clockOffset = 0;
  #epochSentAt = 0;
  #stopped = false;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #subscriptions: { unsubscribe(): void }[] = [];
  readonly #ackSubjects = new Map<number, string>();
  readonly #controls = new Map<ReplyToken, { respond: (bytes: Uint8Array) => void; encoding: Encoding }>();
  #lastToken = 0;
  readonly #inFlight = new Set<Promise<void>>();
  #consuming: { stop(): void } | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#leadership = new Leadership(options.leadership, performance.now());
  }

  /** Resolves when this process is a standby; it leads when the lease lets it. */
  async start(): Promise<void> {
    const { bus, machine, replicas } = this.#options;
    await ensurePool(bus, machine.pool, { replicas });
    this.#listen(subjects.beat(machine.pool), beatSchema, (beat) => {
      this.#lead({ kind: "beat", leader: beat.leader });
      this.receive({ kind: "beat", beat });
    });
    this.#every(LEADERSHIP_TICK_MS, () => this.#lead({ kind: "tick" }));
    this.#lead({ kind: "tick" });
    this.#do(this.#followConnection());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    this.#consuming?.stop();
    const { bus, machine } = this.#options;
    if (this.#machine)
      for (const effect of this.#machine.react({ kind: "flushPrograms" }, this.#at())) this.#carryOut(effect);
    await Promise.race([Promise.allSettled(this.#inFlight), pause(STOP_FLUSH_MS)]);
    const seq = this.#leadership.ownLeaseSeq;
    // Given back, the next leader need not wait; refused or lost, it waits a little.
    if (seq !== undefined) await deleteKey(bus, keys.lease(machine.pool), { seq });
  }

  // ── leadership ─────────────────────────────────────────────────────────────────────────────────────────────

  #lead(event: LeadershipEvent): void {
    if (this.#stopped) return;
    for (const effect of this.#leadership.react(event, performance.now())) this.#carryOutLeadership(effect);
  }

  #carryOutLeadership(effect: LeadershipEffect): void {
    switch (effect.kind) {
      case "readLease":
        this.#do(this.#readLease());
        break;
      case "writeLease":
        this.#do(this.#writeLease(effect.expect));
        break;
      case "writeEpoch":
        this.#do(this.#writeEpoch(effect.leaseSeq));
        break;
      case "lead":
        this.#do(this.#takeOver(effect.epoch));
        break;
      case "stepDown":
        this.#stepDown(effect.reason);
        break;
    }
  }

  async #readLease(): Promise<void> {
    const { bus, machine } = this.#options;
    const key = keys.lease(machine.pool);
    try {
      const entry = await readKey(bus, key);
      const leader = entry && validate(leaseSchema, decode(entry.bytes)).leader;
      this.#lead({ kind: "leaseRead", lease: { seq: entry?.seq ?? (await lastSeqOfKey(bus, key)), leader } });
    } catch (error) {
      this.#options.log.debug({ err: error }, "lease not read");
      this.#lead({ kind: "leaseRead", lease: undefined });
    }
  }

  async #writeLease(expect: number): Promise<void> {
    const { bus, machine, leadership } = this.#options;
    const sentAt = performance.now();
    const bytes = encode({ leader: leadership.leader });
    const result = await writeKey(bus, keys.lease(machine.pool), bytes, { seq: expect });
    this.#lead({ kind: "leaseWritten", result, sentAt });
  }

  async #writeEpoch(leaseSeq: number): Promise<void> {
    const { bus, machine, leadership } = this.#options;
    this.#epochSentAt = performance.now();
    const expect = { seq: leaseSeq, key: keys.lease(machine.pool) };
    const result = await writeKey(bus, keys.epoch(machine.pool), encode({ leader: leadership.leader }), expect);
    this.#lead({ kind: "epochWritten", result });
  }

  async #takeOver(epoch: number): Promise<void> {
    const { bus, machine: config, log } = this.#options;
    const offset = await clockOffset(bus, config.pool, epoch, this.#epochSentAt);
    if (offset === undefined) return this.#stepDown("a higher epoch exists");
    this.#clockOffset = offset;
    await deleteOlderConsumers(bus, config.pool, epoch);
    const messages = await consumeCalls(bus, config.pool, epoch);
    const toRead = await callsToRead(bus, config.pool, epoch);
    const takeOver = await readTakeOver(bus, config.pool, epoch);
    if (takeOver.dropped > 0) log.warn({ epoch, dropped: takeOver.dropped }, "unreadable program entries were dropped");
    log.info({ epoch, calls: toRead, records: takeOver.records.size, engines: takeOver.engines.length }, "taking over");

    this.#machine = new SchedulerMachine(config, takeOver, this.#at());
    for (const effect of this.#machine.start()) this.#carryOut(effect);
    this.#listen(subjects.report(config.pool), agentMessageSchema, (message) =>
      this.receive({ kind: "agent", message }),
    );
    this.#listenControl();
    this.#every(TICK_MS, () => this.receive({ kind: "tick" }));
    this.#every(OUTCOMES_POLL_MS, () => this.#do(this.#pollOutcomes()));
    this.#do(this.#consume(messages, toRead, epoch));
  }

  #stepDown(reason: string): void {
    this.#options.fail(new AutellixError("queue_unavailable", `no longer the leader: ${reason}`));
  }

  // ── the loop: receive → react → carry out ──────────────────────────────────────────────────────────────────

  receive(event: Event): void {
    if (!this.#machine || this.#stopped) return;
    for (const effect of this.#machine.react(event, this.#at())) this.#carryOut(effect);
  }

  #carryOut(effect: Effect): void {
    const { bus, machine, log } = this.#options;
    switch (effect.kind) {
      case "sendPlan":
        // Without the lease no plan leaves; a plan that is not applied is sent again.
        if (this.#leadership.mayPlan(performance.now())) send(bus, subjects.plan(effect.plan.engine), effect.plan);
        break;
      case "sendStatus":
        send(bus, subjects.status(machine.pool), effect.status);
        break;
      case "sendBeat":
        send(bus, subjects.beat(machine.pool), effect.beat);
        break;
      case "askReport":
        this.#do(this.#askReport(effect));
        break;
      case "write":
        this.#do(this.#write(effect.write));
        break;
      case "read":
        this.#do(this.#read(effect.write));
        break;
      case "storeDead":
        this.#do(this.#storeDead(effect));
        break;
      case "sendEnd":
        this.#do(this.#sendEnd(effect));
        break;
      case "ack":
        this.#do(this.#ack(effect));
        break;
      case "storeProgram":
        this.#do(this.#storeProgram(effect));
        break;
      case "storeEngine":
        this.#do(
          this.#writeState(writeKey(bus, keys.engine(machine.pool, effect.engine), encode({}), this.#epochFence())),
        );
        break;
      case "dropEngine":
        this.#do(this.#writeState(deleteKey(bus, keys.engine(machine.pool, effect.engine), this.#epochFence())));
        break;
      case "storeModels":
        for (const model of effect.models) this.#do(this.#storeModel(model));
        break;
      case "lookUpOutcome":
        this.#do(this.#lookUpOutcome(effect));
        break;
      case "answer":
        this.#answer(effect.token, effect.answer);
        break;
      case "after":
        if (effect.ms === 0) setImmediate(() => this.receive(effect.event));
        else setTimeout(() => this.receive(effect.event), effect.ms);
        break;
      case "log":
        log[effect.level](effect.fields, effect.text);
        break;
      case "stepDown":
        this.#stepDown(effect.reason);
        break;
    }
  }

  /** The leader's clock, see `clockOffset`. */
  #at(): number {
    return performance.now() + this.#clockOffset;
  }

  // ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────

  async #consume(first: Awaited<ReturnType<typeof consumeCalls>>, toRead: number, epoch: number): Promise<void> {
    const { bus, machine, log } = this.#options;
    let messages: typeof first | undefined = first;
    let unread = toRead;
    if (unread === 0) this.receive({ kind: "callsRead" });
    while (!this.#stopped) {
      try {
        messages ??= await consumeCalls(bus, machine.pool, epoch, { fresh: true });
        this.#consuming = messages;
        for await (const message of messages) {
          this.#callRead(message);
          if (--unread === 0) this.receive({ kind: "callsRead" });
        }
      } catch (error) {
        log.warn({ err: error, epoch }, "the calls' consumer ended");
      }
      messages = undefined;
      if (this.#stopped) return;
      await pause(PAUSE_MS);
      await this.#checkEpoch(epoch);
    }
  }

  #callRead(message: Parameters<typeof ackSubjectOf>[0]): void {
    const address = parseCallSubject(message.subject);
    if (!address) return;
    this.#ackSubjects.set(message.seq, ackSubjectOf(message));
    const field = (name: string) => message.headers?.get(name) ?? "";
    const bodyBytes = Number(field("Nats-Msg-Size")) || 0;
    this.receive({
      kind: "call",
      message: { address, seq: message.seq, storedAtMs: message.time.getTime(), bodyBytes, field },
    });
  }

  /** A consumer that was deleted by a higher epoch must not be made again (S5). */
  async #checkEpoch(epoch: number): Promise<void> {
    const { bus, machine, log } = this.#options;
    try {
      const entry = await readKey(bus, keys.epoch(machine.pool));
      if (entry && entry.seq > epoch) this.#stepDown(`epoch ${entry.seq} exists`);
    } catch (error) {
      log.debug({ err: error }, "epoch not read");
    }
  }

  async #ack({ seq, bodyObject }: EffectOf<"ack">): Promise<void> {
    for (let tries = 0; tries < ACK_TRIES_MAX && !this.#stopped; tries++) {
      // Read each time: after a reconnect the call comes again under another ack subject.
      const subject = this.#ackSubjects.get(seq);
      if (subject === undefined) break;
      if (await ackCall(this.#options.bus, subject)) break;
      await pause(PAUSE_MS);
    }
    this.#ackSubjects.delete(seq);
    if (bodyObject) await deleteBody(this.#options.bus, bodyObject);
  }

  // ── records ────────────────────────────────────────────────────────────────────────────────────────────────

  async #write(write: RecordWrite): Promise<void> {
    const { bus } = this.#options;
    const epoch = this.#machine?.epoch ?? 0;
    const result =
      write.kind === "marker"
        ? await writeOutcomeRecord(
            bus,
            write.address,
            {
              kind: "marker",
              attempt: write.attempt,
              epoch,
              engine: "scheduler",
              cause: write.cause,
              crashes: write.crashes,
            },
            new Uint8Array(),
            write.expect,
          )
        : await writeOutcomeRecord(
            bus,
            write.address,
            write.head,
            encodeOutcome(write.body, write.encoding),
            write.expect,
          );
    this.receive({ kind: "wrote", write, result });
  }

  async #read(write: RecordWrite): Promise<void> {
    this.receive({ kind: "read", write, result: await readOutcome(this.#options.bus, write.address, "leader") });
  }

  async #storeDead({ write, seq, reason }: EffectOf<"storeDead">): Promise<void> {
    while (!this.#stopped) {
      try {
        await storeDead(this.#options.bus, write.address, seq, reason);
        this.receive({ kind: "deadStored", write });
        return;
      } catch (error) {
        this.#options.log.warn({ err: error, call: write.call }, "dead letter not stored yet");
        await pause(PAUSE_MS);
      }
    }
  }

  /** To a frontend a request, repeated until confirmed; to an inbox one message, of what this scheduler ended itself. */
  async #sendEnd({ address, reply, status, body, encoding }: EffectOf<"sendEnd">): Promise<void> {
    const { bus } = this.#options;
    const target = parseReply(reply);
    if (!target) return;
    if (target.kind === "inbox") {
      // Who wrote a completed record has sent its end to the inbox; a second one would be a second answer (S2).
      if (body?.error)
        sendInbox(bus, target.subject, errorBody(body.error.code, body.error.message), { [headers.end]: status });
      return;
    }
    const message = { kind: "end", call: callKey(address.tenant, address.callId), pool: address.pool, status };
    const full = body ? { ...message, body: encodeOutcome(body, encoding) } : message;
    for (let tries = 0; tries < END_REPEATS_MAX && !this.#stopped; tries++) {
      if (await ask(bus, reply, full, confirmSchema, END_REPEAT_MS)) return;
      await pause(END_REPEAT_MS / 4);
    }
  }

  async #lookUpOutcome({ address, token }: EffectOf<"lookUpOutcome">): Promise<void> {
    const result = await readOutcome(this.#options.bus, address, "leader");
    const ended = result.kind === "found" && result.record.head.kind === "outcome";
    this.receive({ kind: "outcomeLookedUp", token, ended });
  }

  async #pollOutcomes(): Promise<void> {
    try {
      this.receive({ kind: "outcomesUsed", share: await outcomesShareUsed(this.#options.bus) });
    } catch (error) {
      this.#options.log.debug({ err: error }, "outcomes stream not read");
    }
  }

  // ── state ──────────────────────────────────────────────────────────────────────────────────────────────────

  #epochFence(): { seq: number; key: string } {
    return { seq: this.#machine?.epoch ?? 0, key: keys.epoch(this.#options.machine.pool) };
  }

  async #writeState(writing: ReturnType<typeof writeKey>): Promise<void> {
    const result = await writing;
    if (result.kind === "refused") this.#stepDown("a state write was refused");
    if (result.kind === "unknown") this.#options.log.warn({ err: result.cause }, "a state write had no answer");
  }

  async #storeProgram({ key, entry, ttlMs }: EffectOf<"storeProgram">): Promise<void> {
    const result = await writeKey(this.#options.bus, key, encode(entry), this.#epochFence(), ttlMs);
    this.receive({ kind: "programStored", key, result: result.kind });
  }

  /** Adds the pool to the model's list, whoever writes beside us. */
  async #storeModel(model: string): Promise<void> {
    const { bus, machine } = this.#options;
    const key = keys.model(model);
    for (let tries = 0; tries < ACK_TRIES_MAX && !this.#stopped; tries++) {
      try {
        const entry = await readKey(bus, key);
        const pools = entry ? validate(modelSchema, decode(entry.bytes)).pools : [];
        if (pools.includes(machine.pool)) return;
        const bytes = encode({ model, pools: [...pools, machine.pool].sort() });
        const result = await writeKey(bus, key, bytes, { seq: entry?.seq ?? (await lastSeqOfKey(bus, key)) });
        if (result.kind === "stored") return;
      } catch (error) {
        this.#options.log.warn({ err: error, model }, "model not stored yet");
      }
      await pause(PAUSE_MS);
    }
  }

  // ── agents and control ─────────────────────────────────────────────────────────────────────────────────────

  async #askReport({ engine, epoch }: EffectOf<"askReport">): Promise<void> {
    const report = await ask(this.#options.bus, subjects.ask(engine), { kind: "report", epoch }, reportSchema);
    if (report) this.receive({ kind: "agent", message: report });
  }

  #listenControl(): void {
    const { bus, machine, log } = this.#options;
    const subscription = bus.nc.subscribe(subjects.controlOfPool(machine.pool), {
      callback: (error, message) => {
        if (error) {
          log.warn({ err: error }, "control subscription");
          return;
        }
        const tenant = message.subject.split(".").at(-1) ?? "";
        const encoding = encodingOf(message.data);
        try {
          if (!isName(tenant)) throw new AutellixError("invalid_request", "the tenant in the subject is not valid");
          const control = decodeAs(controlSchema, message.data);
          const token = ++this.#lastToken;
          this.#controls.set(token, { respond: (bytes) => message.respond(bytes), encoding });
          for (const oldest of this.#controls.keys()) {
            if (this.#controls.size <= CONTROLS_MAX) break;
            this.#controls.delete(oldest);
          }
          this.receive({ kind: "control", tenant, control, token });
        } catch (cause) {
          const { code, message: text } = cause instanceof AutellixError ? cause : new AutellixError("internal_error");
          message.respond(encode({ ok: false, error: { code, message: text } } satisfies ControlAnswer, encoding));
        }
      },
    });
    this.#subscriptions.push(subscription);
  }

  #answer(token: ReplyToken, answer: ControlAnswer): void {
    const waiting = this.#controls.get(token);
    this.#controls.delete(token);
    waiting?.respond(encode(answer, waiting.encoding));
  }

  // ── plumbing ───────────────────────────────────────────────────────────────────────────────────────────────

  async #followConnection(): Promise<void> {
    for await (const status of this.#options.bus.nc.status()) {
      // What the server had sent and we had not read would stay hidden until `ack_wait`: consume afresh.
      if (status.type === "reconnect") this.#consuming?.stop();
    }
  }

  #listen<S extends z.ZodType>(subject: string, schema: S, handler: (message: z.output<S>) => void): void {
    const onInvalid = (error: AutellixError) => this.#options.log.warn({ err: error, subject }, "invalid message");
    this.#subscriptions.push(listen(this.#options.bus, subject, schema, handler, onInvalid));
  }

  #every(ms: number, action: () => void): void {
    this.#timers.push(setInterval(action, ms));
  }

  #do(promise: Promise<void>): void {
    const tracked = promise
      .catch((error: unknown) => {
        if (!this.#stopped) this.#options.fail(error);
      })
      .finally(() => this.#inFlight.delete(tracked));
    this.#inFlight.add(tracked);
  }
}

const leaseSchema = z.object({ leader: z.string() });
const modelSchema = z.object({ model: z.string(), pools: z.array(z.string()) });

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
