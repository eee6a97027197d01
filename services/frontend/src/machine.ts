/**
 * Everything that a frontend decides: `react(event) → effects`, synchronous, without clock, random or IO. What one
 * call goes through is in `call.ts`; where it goes, in `pools.ts`.
 */
import { type CallKey, callKey } from "@autellix/protocol";
import { Call } from "./call.ts";
import { Cancels } from "./cancels.ts";
import type { Effect, Emit, Event, Failure, Submission } from "./events.ts";
import { Inquiries } from "./inquiries.ts";
import type { Limits } from "./limits.ts";
import { Pools } from "./pools.ts";

export class Machine {
  readonly #limits: Limits;
  readonly #pools: Pools;
  readonly #cancels: Cancels;
  readonly #inquiries: Inquiries;
  readonly #calls = new Map<CallKey, Call>();
  /** Calls whose outcome shall be read, in the order of their wish. */
  readonly #toRead = new Set<Call>();
  readonly #emit: Emit;
  #effects: Effect[] = [];
  #reads = 0;
  #bodiesBytes = 0;
  #draining = false;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#emit = (effect) => {
      this.#effects.push(effect);
    };
    this.#pools = new Pools(limits);
    this.#cancels = new Cancels(limits, this.#emit);
    this.#inquiries = new Inquiries(limits, this.#emit);
  }

  get openCalls(): number {
    return this.#calls.size;
  }

  /** Cancels that are still repeated. */
  get openCancels(): number {
    return this.#cancels.size;
  }

  /** Bodies that the queue has not confirmed. */
  get bodiesBytes(): number {
    return this.#bodiesBytes;
  }

  models(): string[] {
    return this.#pools.models();
  }

  /** @returns why no call can be served now; undefined when one can. */
  unreadyReason(atMs: number): string | undefined {
    return this.#draining ? "the frontend is stopping" : this.#pools.unreadyReason(atMs);
  }

  react(event: Event): Effect[] {
    this.#effects = [];
    this.#dispatch(event);
    return this.#effects;
  }

  #dispatch(event: Event): void {
    switch (event.kind) {
      case "submitted":
        this.#submitted(event.call, event.atMs);
        break;
      case "clientGone":
        this.#with(event.key, event.atMs, (call) => call.clientGone(event.atMs));
        break;
      case "buffered":
        this.#with(event.key, event.atMs, (call) => call.buffered(event.bytes, event.atMs));
        break;
      case "cancelRequested":
        this.#cancelRequested(event);
        break;
      case "programRequested":
        this.#inquiries.start(event.inquiry, event.tenant, event.message, this.#pools.names(), event.atMs);
        break;
      case "tokens":
        for (const { call: key, ...item } of event.items) {
          const piece = { engine: event.engine, epoch: event.epoch, ...item };
          this.#with(key, event.atMs, (call) => call.tokens(piece, event.atMs));
        }
        break;
      case "ended":
        this.#cancels.stop(event.key);
        this.#with(event.key, event.atMs, (call) => call.ended(event.outcome, event.atMs));
        // Confirmed whatever it was: for an unknown call nobody waits any more.
        this.#answer(event.reply, { ok: true });
        break;
      case "haveAsked":
        this.#haveAsked(event);
        break;
      case "pinged":
        this.#answer(event.reply, { ok: true });
        break;
      case "statusSent":
        this.#pools.statusSent(event.status, event.atMs);
        break;
      case "modelSeen":
        this.#pools.modelSeen(event.model, event.pools);
        break;
      case "modelsRead":
        this.#pools.modelsRead();
        break;
      case "publishAnswered":
        this.#with(event.key, event.atMs, (call) =>
          call.publishAnswered(event.result, this.#pools.retryAfterS(call.address.pool), event.atMs),
        );
        break;
      case "gapAnswered":
        this.#with(event.key, event.atMs, (call) => call.gapAnswered(event.engine, event.answer, event.atMs));
        break;
      case "outcomeRead":
        this.#outcomeRead(event);
        break;
      case "cancelAnswered":
        this.#cancels.answered(event.key, event.answer);
        break;
      case "controlAnswered": {
        const pending = this.#inquiries.answered(event.inquiry, event.pool, event.answer);
        if (pending) this.#cancels.start(pending, event.atMs);
        break;
      }
      case "ticked":
        this.#ticked(event.atMs);
        break;
      case "drainStarted":
        this.#draining = true;
        break;
      case "drainEnded":
        this.#drainEnded(event.atMs);
        break;
    }
  }

  #submitted(submission: Submission, atMs: number): void {
    const key = callKey(submission.tenant, submission.callId);
    const pool = this.#admit(submission, atMs);
    if (typeof pool !== "string") {
      this.#emit({ kind: "fail", key, failure: pool, refused: true });
      return;
    }
    const call = new Call(submission, pool, atMs, this.#limits, this.#emit);
    this.#calls.set(key, call);
    this.#bodiesBytes += call.bodyBytes;
  }

  /** @returns the pool, or why the call is refused before anything is stored. */
  #admit({ callId, tenant, model, program, body }: Submission, atMs: number): string | Failure {
    if (this.#draining) return { code: "queue_unavailable", message: "this frontend is stopping; try again" };
    const pool = this.#pools.choose(model, tenant, program, callId);
    if (typeof pool !== "string") return pool;
    const tooManyBytes = this.#bodiesBytes + body.length > this.#limits.bodiesBytesMax && this.#bodiesBytes > 0;
    if (this.#calls.size >= this.#limits.openCallsMax || tooManyBytes) {
      const message = "this frontend has too many open calls; try again later";
      return { code: "queue_full", message, retryAfterS: this.#pools.retryAfterS(pool) };
    }
    return this.#pools.admit(pool, atMs) ?? pool;
  }

  /** Lets `step` act on the call, if it is open, and carries out what it came to. */
  #with(key: CallKey, atMs: number, step: (call: Call) => void): void {
    const call = this.#calls.get(key);
    if (call) this.#step(call, atMs, step);
  }

  #step(call: Call, atMs: number, step: (call: Call) => void): void {
    const bodyBytes = call.bodyBytes;
    step(call);
    this.#bodiesBytes -= bodyBytes - (call.end ? 0 : call.bodyBytes);
    if (call.end) {
      this.#calls.delete(call.key);
      this.#toRead.delete(call);
      this.#emit({ kind: "callEnded", key: call.key, fields: call.end.fields, trace: call.end.trace });
      if (call.end.cancel) this.#cancels.start(call.address, atMs);
    } else if (call.readWanted) {
      this.#toRead.add(call);
      this.#startReads();
    }
  }

  #startReads(): void {
    for (const call of this.#toRead) {
      if (this.#reads >= this.#limits.outcomeReadsMax) return;
      this.#toRead.delete(call);
      call.readStarted();
      this.#reads++;
      this.#emit({ kind: "readOutcome", key: call.key, address: call.address, purpose: "call" });
    }
  }

  #outcomeRead({ key, read, purpose, atMs }: Extract<Event, { kind: "outcomeRead" }>): void {
    if (purpose === "cancel") {
      this.#cancels.outcomeRead(key, read);
      return;
    }
    this.#reads--;
    this.#with(key, atMs, (call) => call.outcomeRead(read, atMs));
    this.#startReads();
  }

  #haveAsked({ key, engine, attempt, epoch, reply, atMs }: Extract<Event, { kind: "haveAsked" }>): void {
    if (!this.#calls.has(key)) this.#answer(reply, { state: "gone" });
    this.#with(key, atMs, (call) => {
      const have = call.have(engine, attempt, epoch);
      if (have) this.#answer(reply, have);
    });
  }

  #cancelRequested({ inquiry, tenant, callId, atMs }: Extract<Event, { kind: "cancelRequested" }>): void {
    const key = callKey(tenant, callId);
    if (!this.#calls.has(key)) {
      const message = { op: "call.cancel", call_id: callId, cause: "client" } as const;
      this.#inquiries.start(inquiry, tenant, message, this.#pools.names(), atMs);
      return;
    }
    this.#with(key, atMs, (call) => call.fail({ code: "cancelled", message: "the call was cancelled" }, atMs, true));
    this.#emit({ kind: "inquiryEnded", inquiry, result: { kind: "call", state: "pending" } });
  }

  #ticked(atMs: number): void {
    for (const call of this.#calls.values()) this.#step(call, atMs, () => call.tick(atMs));
    this.#cancels.tick(atMs);
    this.#inquiries.tick(atMs);
  }

  #drainEnded(atMs: number): void {
    const failure: Failure = { code: "queue_unavailable", message: "the frontend is stopping; the call was cancelled" };
    for (const call of this.#calls.values()) this.#step(call, atMs, () => call.fail(failure, atMs, true));
  }

  #answer(reply: string | undefined, message: Extract<Effect, { kind: "answer" }>["message"]): void {
    if (reply) this.#emit({ kind: "answer", reply, message });
  }
}
