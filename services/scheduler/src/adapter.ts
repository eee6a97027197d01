/**
 * Carries out what leadership and machine decide, over NATS. One loop: receive → react → carry out. It decides
 * nothing: every answer becomes an event. The parts that talk to one stream each are beside it (`*-io.ts`).
 */
import { channel } from "node:diagnostics_channel";
import {
  AutellixError,
  agentMessageSchema,
  ask,
  type Bus,
  beatSchema,
  callsToRead,
  consumeCalls,
  decode,
  deleteKey,
  deleteOlderConsumers,
  encode,
  ensurePool,
  keys,
  lastSeqOfKey,
  listen,
  readKey,
  reportSchema,
  send,
  subjects,
  validate,
  writeKey,
} from "@autellix/protocol";
import { addBusMetrics, type Logger, type Metrics, type SpanSink } from "@autellix/runtime";
import { z } from "zod";
import { CallsIo } from "./calls-io.ts";
import { ControlIo } from "./control-io.ts";
import { coreConfig } from "./core-config.ts";
import type { Effect, Event, MachineConfig, TakeOver } from "./events.ts";
import { InputLogFile } from "./input-log.ts";
import { type Io, pause } from "./io.ts";
import { Leadership, type LeadershipConfig, type LeadershipEffect, type LeadershipEvent } from "./leadership.ts";
import { SchedulerMachine, TICK_MS } from "./machine.ts";
import { SchedulerMetrics } from "./metrics.ts";
import { allSinks, InputRecorder } from "./recorder.ts";
import { RecordsIo } from "./records-io.ts";
import { StateIo } from "./state-io.ts";
import { clockOffset, readTakeOver } from "./take-over.ts";
import { ViewIo } from "./view-io.ts";

const LEADERSHIP_TICK_MS = 500;
const OUTCOMES_POLL_MS = 5_000;
const STOP_FLUSH_MS = 1_000;

/** Hears how long each planning took, in ms: for benches, which measure with and without metrics. */
const planned = channel("autellix.planned");

const leaseSchema = z.object({ leader: z.string() });

export interface SchedulerOptions {
  bus: Bus;
  machine: MachineConfig;
  leadership: LeadershipConfig;
  replicas: number;
  /** Where to record what the core is fed, and how many bytes of it; not recorded when absent. */
  inputLog?: { file: string; bytesMax: number };
  /** Where it is counted what this scheduler does, if it is. */
  metrics?: Metrics | undefined;
  /** Where spans go; nothing is traced without it. */
  spans?: SpanSink | undefined;
  log: Logger;
  /** Ends the process: another leads, or something broke. The supervisor starts it again, as a standby. */
  fail: (error: unknown) => void;
}

export class SchedulerService implements Io {
  readonly bus: Bus;
  readonly pool: string;
  readonly log: Logger;
  readonly #options: SchedulerOptions;
  readonly #leadership: Leadership;
  readonly #calls = new CallsIo(this);
  readonly #records = new RecordsIo(this);
  readonly #state = new StateIo(this);
  readonly #control = new ControlIo(this);
  readonly #view = new ViewIo(this);
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #subscriptions: { unsubscribe(): void }[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  readonly #metrics: SchedulerMetrics | undefined;
  #machine: SchedulerMachine | undefined;
  #inputLog: { file: InputLogFile; recorder: InputRecorder } | undefined;
  /** Who held the lease when it was read last, before this process did. */
  #former: TakeOver["former"];
  #clockOffset = 0;
  #epochSentAt = 0;
  #stopped = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.bus = options.bus;
    this.pool = options.machine.pool;
    this.log = options.log;
    this.#leadership = new Leadership(options.leadership, performance.now());
    const { metrics, machine } = options;
    if (metrics) addBusMetrics(metrics, this.bus);
    const leading = () => ({
      machine: this.#machine,
      isLeading: this.#leadership.isLeading,
      queuedCallsMax: machine.queuedCallsMax,
    });
    this.#metrics = metrics && new SchedulerMetrics(metrics, this.pool, leading);
  }

  get epoch(): number {
    return this.#machine?.epoch ?? 0;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Resolves when this process is a standby; it leads when the lease lets it. */
  async start(): Promise<void> {
    const { bus, pool } = this;
    await ensurePool(bus, pool, { replicas: this.#options.replicas });
    this.#listen(subjects.beat(pool), beatSchema, (beat) => {
      this.#lead({ kind: "beat", leader: beat.leader });
      this.receive({ kind: "beat", beat });
    });
    this.#every(LEADERSHIP_TICK_MS, () => this.#lead({ kind: "tick" }));
    this.#lead({ kind: "tick" });
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    this.receive({ kind: "flushPrograms" });
    this.#stopped = true;
    this.#calls.stop();
    await Promise.race([Promise.allSettled(this.#inFlight), pause(STOP_FLUSH_MS)]);
    // A disk that hangs must not keep the lease from being given back.
    if (this.#inputLog) await Promise.race([this.#inputLog.file.close("stopped"), pause(STOP_FLUSH_MS)]);
    const seq = this.#leadership.ownLeaseSeq;
    // Given back, the next leader need not wait; refused or lost, it waits a little.
    if (seq !== undefined) await deleteKey(this.bus, keys.lease(this.pool), { seq });
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
        this.stepDown(effect.reason);
        break;
    }
  }

  async #readLease(): Promise<void> {
    const key = keys.lease(this.pool);
    try {
      const entry = await readKey(this.bus, key);
      const leader = entry && validate(leaseSchema, decode(entry.bytes)).leader;
      if (entry && leader !== undefined && leader !== this.#options.leadership.leader)
        this.#former = { leader, renewedAtMs: entry.storedAtMs };
      this.#lead({ kind: "leaseRead", lease: { seq: entry?.seq ?? (await lastSeqOfKey(this.bus, key)), leader } });
    } catch (error) {
      this.log.debug({ err: error }, "lease not read");
      this.#lead({ kind: "leaseRead", lease: undefined });
    }
  }

  async #writeLease(expect: number): Promise<void> {
    const sentAt = performance.now();
    const bytes = encode({ leader: this.#options.leadership.leader });
    const result = await writeKey(this.bus, keys.lease(this.pool), bytes, { seq: expect });
    this.#lead({ kind: "leaseWritten", result, sentAt });
  }

  async #writeEpoch(leaseSeq: number): Promise<void> {
    this.#metrics?.takeOverBegan();
    this.#epochSentAt = performance.now();
    const bytes = encode({ leader: this.#options.leadership.leader });
    const result = await writeKey(this.bus, keys.epoch(this.pool), bytes, {
      seq: leaseSeq,
      key: keys.lease(this.pool),
    });
    this.#lead({ kind: "epochWritten", result });
  }

  async #takeOver(epoch: number): Promise<void> {
    const { bus, pool, log } = this;
    const offset = await clockOffset(bus, pool, epoch, this.#epochSentAt);
    if (offset === undefined) {
      this.stepDown("a higher epoch exists");
      return;
    }
    this.#clockOffset = offset;
    await deleteOlderConsumers(bus, pool, epoch);
    const messages = await consumeCalls(bus, pool, epoch);
    const toRead = await callsToRead(bus, pool, epoch);
    const takeOver = await readTakeOver(bus, pool, epoch);
    if (takeOver.dropped > 0) log.warn({ epoch, dropped: takeOver.dropped }, "unreadable program entries were dropped");
    log.info({ epoch, calls: toRead, records: takeOver.records.size, engines: takeOver.engines.length }, "taking over");

    this.#inputLog = this.#record(epoch);
    const inputs = allSinks(this.#inputLog?.recorder, this.#metrics);
    const found = { ...takeOver, former: this.#former };
    this.#machine = new SchedulerMachine(this.#options.machine, found, this.#at(), inputs);
    for (const effect of this.#machine.start()) this.#carryOut(effect);
    this.#listen(subjects.report(pool), agentMessageSchema, (message) => this.receive({ kind: "agent", message }));
    this.#subscriptions.push(this.#control.listen(), this.#view.listen());
    this.#every(TICK_MS, () => this.receive({ kind: "tick" }));
    this.#every(OUTCOMES_POLL_MS, () => this.#do(this.#records.pollUse()));
    this.#do(this.#calls.run(messages, toRead));
  }

  stepDown(reason: string): void {
    if (!this.#stopped) this.#fail(new AutellixError("queue_unavailable", `no longer the leader: ${reason}`));
  }

  #record(epoch: number): { file: InputLogFile; recorder: InputRecorder } | undefined {
    const { inputLog, machine } = this.#options;
    if (!inputLog) return undefined;
    const { pool, log } = this;
    const file = new InputLogFile({ ...inputLog, pool, epoch, log });
    return { file, recorder: new InputRecorder(pool, epoch, coreConfig(machine), (line) => file.write(line)) };
  }

  /** Ends the process; the input log is whole before, with the input at which the core threw, if it did. */
  #fail(error: unknown): void {
    this.#inputLog?.recorder.threw();
    this.#inputLog?.file.closeNow("the process failed");
    this.#options.fail(error);
  }

  // ── the loop: receive → react → carry out ──────────────────────────────────────────────────────────────────

  receive(event: Event): void {
    if (!this.#machine || this.#stopped) return;
    let effects: Effect[];
    const startedMs = performance.now();
    try {
      effects = this.#machine.react(event, startedMs + this.#clockOffset);
    } catch (error) {
      // A broken invariant: nothing that this machine says after it can be trusted. The next leader rebuilds its state.
      this.#fail(error);
      return;
    }
    const tookMs = performance.now() - startedMs;
    for (const effect of effects) this.#carryOut(effect);
    this.#metrics?.received(event, tookMs);
    if (event.kind === "wake" && planned.hasSubscribers) planned.publish(tookMs);
  }

  #carryOut(effect: Effect): void {
    const { bus, pool, log } = this;
    switch (effect.kind) {
      case "sendPlan":
        // Without the lease no plan leaves; a plan that is not applied is sent again.
        if (this.#leadership.mayPlan(performance.now())) send(bus, subjects.plan(effect.plan.engine), effect.plan);
        break;
      case "sendStatus":
        send(bus, subjects.status(pool), effect.status);
        break;
      case "sendBeat":
        send(bus, subjects.beat(pool), effect.beat);
        break;
      case "askReport":
        this.#do(this.#askReport(effect.engine, effect.epoch));
        break;
      case "write":
        this.#do(this.#records.write(effect.write));
        break;
      case "read":
        this.#do(this.#records.read(effect.write));
        break;
      case "storeDead":
        this.#do(this.#records.storeDead(effect));
        break;
      case "sendEnd":
        this.#do(this.#records.sendEnd(effect));
        break;
      case "lookUpOutcome":
        this.#do(this.#records.lookUp(effect));
        break;
      case "ack":
        this.#do(this.#calls.ack(effect.seq, effect.bodyObject));
        break;
      case "storeProgram":
        this.#do(this.#state.storeProgram(effect));
        break;
      case "storeEngine":
        this.#do(this.#state.storeEngine(effect.engine));
        break;
      case "dropEngine":
        this.#do(this.#state.dropEngine(effect.engine));
        break;
      case "storeModels":
        for (const model of effect.models) this.#do(this.#state.storeModel(model));
        break;
      case "answer":
        this.#control.answer(effect.token, effect.answer);
        break;
      case "answerView":
        this.#view.answer(effect.token, effect.page);
        break;
      case "sendChanges":
        send(bus, subjects.events(pool), effect.changes);
        break;
      case "after":
        if (effect.ms === 0) setImmediate(() => this.receive(effect.event));
        else setTimeout(() => this.receive(effect.event), effect.ms);
        break;
      case "sendSpans":
        this.#options.spans?.send(effect.spans);
        break;
      case "log":
        log[effect.level](effect.fields, effect.text);
        break;
      case "stepDown":
        this.stepDown(effect.reason);
        break;
    }
  }

  /** The leader's clock, see `clockOffset`. */
  #at(): number {
    return performance.now() + this.#clockOffset;
  }

  async #askReport(engine: string, epoch: number): Promise<void> {
    const report = await ask(this.bus, subjects.ask(engine), { kind: "report", epoch }, reportSchema);
    if (report) this.receive({ kind: "agent", message: report });
  }

  // ── plumbing ───────────────────────────────────────────────────────────────────────────────────────────────

  #listen<S extends z.ZodType>(subject: string, schema: S, handler: (message: z.output<S>) => void): void {
    const onInvalid = (error: AutellixError) => this.log.warn({ err: error, subject }, "invalid message");
    this.#subscriptions.push(listen(this.bus, subject, schema, handler, onInvalid));
  }

  #every(ms: number, action: () => void): void {
    this.#timers.push(setInterval(action, ms));
  }

  #do(promise: Promise<void>): void {
    const tracked: Promise<void> = promise
      .catch((error: unknown) => {
        if (!this.#stopped) this.#fail(error);
      })
      .finally(() => this.#inFlight.delete(tracked));
    this.#inFlight.add(tracked);
  }
}
