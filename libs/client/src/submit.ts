/**
 * A call put on the queue over NATS, without a frontend: published to the pool's subject, read from an inbox.
 *
 * An inbox is not asked and not waited for, so a message to it can be lost; the outcome record is the guarantee
 * (design §2.7). Hence two rules here: who hears nothing reads the record, and when the text that arrived is not the
 * text of the record, the reader is told to start over and gets the record's.
 */
import { randomUUID } from "node:crypto";
import {
  AutellixError,
  type Bus,
  CALL_LIFETIME_MAX_MS,
  type CallAddress,
  type ChatCompletion,
  DEFAULT_TENANT,
  decode,
  decodeAs,
  encode,
  getBody,
  headers,
  isErrorCode,
  isValidAddress,
  outcomeBodySchema,
  readOutcome,
} from "@autellix/protocol";
import { askLeader, busOf } from "./connection-bus.ts";
import { currentContext, type Home, parentsAmong } from "./context.ts";
import { EventBuffer } from "./event-buffer.ts";
import { publishUntilKnown } from "./publish.ts";
import type { QueueConnection } from "./queue.ts";
import type { CallBody, CallOutcome, Chunk, Delta } from "./types.ts";

export interface SubmitOptions {
  pool: string;
  /** Default: `default`. */
  tenant?: string;
  /** `[A-Za-z0-9_-]{1,64}`. Default: a random one. A second call of the same id is never run. */
  callId?: string;
  body: CallBody;
  /** Program, thread and parents. Default: those of the `program()` around it; else the call is its own program. */
  program?: string;
  thread?: string;
  parents?: string[];
  /** The call expires when it has not ended so many ms after it was accepted. */
  deadlineMs?: number;
  /** Aborting it cancels the call. */
  signal?: AbortSignal;
}

/**
 * `chunk`: `delta` is what it adds to the answer, `text` the content in it, `chunk` the whole message where one came.
 * `restart`: a later attempt starts over; drop all chunks so far.
 */
export type SubmitEvent =
  | { kind: "chunk"; text: string; delta: Delta; logprobs?: unknown; chunk?: Chunk }
  | { kind: "restart" };

/**
 * The call's chunks, once, in order. Iterating throws when the call does not complete, and leaving the loop early
 * cancels it.
 */
export interface Submission extends AsyncIterable<SubmitEvent> {
  readonly callId: string;
  /** How the call ended, whatever the status. @throws when it was refused, or no answer could be had. */
  result(): Promise<CallOutcome>;
  /** Cancels the call and waits for its end. @throws AutellixError `queue_unavailable` when nobody answers for 30 s. */
  cancel(): Promise<void>;
}

/** Silence after which the outcome is read, and the most it backs off to (design §2.7). */
const SILENCE_MS = 2_000;
const SILENCE_MS_MAX = 30_000;
const CANCEL_PAUSE_MS = 250;
const CANCEL_MS_MAX = 30_000;
const END_PROGRAM_TRIES_MAX = 5;

/** Errors come from `result()` and from iterating: a refused call, a lost connection, a call that failed. */
export function submit(connection: QueueConnection, options: SubmitOptions): Submission {
  return new RunningSubmission(busOf(connection), options);
}

type RecordBody = ReturnType<typeof outcomeBodySchema.parse>;

class RunningSubmission implements Submission {
  readonly callId: string;
  readonly #bus: Bus;
  readonly #address: CallAddress;
  readonly #events = new EventBuffer();
  readonly #result: Promise<CallOutcome>;
  readonly #resolve: (outcome: CallOutcome) => void;
  readonly #reject: (error: unknown) => void;
  #ended = false;
  #silenceMs = SILENCE_MS;
  #watch: NodeJS.Timeout | undefined;
  #startedAtMs = performance.now();
  #closeInbox = () => {};
  #follow = () => {};

  constructor(bus: Bus, options: SubmitOptions) {
    this.#bus = bus;
    this.callId = options.callId ?? randomUUID();
    this.#address = { pool: options.pool, tenant: options.tenant ?? DEFAULT_TENANT, callId: this.callId };
    const { promise, resolve, reject } = withResolvers<CallOutcome>();
    this.#result = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    promise.catch(() => {}); // told by result() or by iterating, whichever is used
    this.#start(options).catch((error: unknown) => this.#fail(error));
  }

  result(): Promise<CallOutcome> {
    return this.#result;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SubmitEvent, void, undefined> {
    try {
      yield* this.#events;
    } finally {
      if (!this.#ended) await this.cancel();
    }
    const outcome = await this.#result;
    if (outcome.status === "completed") return;
    const code = outcome.error?.code ?? outcome.status;
    throw new AutellixError(isErrorCode(code) ? code : "internal_error", outcome.error?.message);
  }

  async cancel(): Promise<void> {
    const until = performance.now() + CANCEL_MS_MAX;
    while (!this.#ended) {
      if (performance.now() > until) throw new AutellixError("queue_unavailable", "nobody confirmed the cancel");
      await askLeader(this.#bus, this.#address.pool, this.#address.tenant, {
        op: "call.cancel",
        call_id: this.callId,
        cause: "client",
      });
      await this.#readRecord();
      if (!this.#ended) await new Promise((resolve) => setTimeout(resolve, CANCEL_PAUSE_MS));
    }
  }

  async #start(options: SubmitOptions): Promise<void> {
    if (!isValidAddress(this.#address)) throw new AutellixError("bad_call_id");
    this.#checkOpen();
    const fields = await this.#annotate(options);
    options.signal?.throwIfAborted();
    this.#openInbox(fields);
    const onAbort = () => {
      this.cancel().catch((error: unknown) => this.#fail(error));
    };
    options.signal?.addEventListener("abort", onAbort, { once: true });
    this.#result.finally(() => options.signal?.removeEventListener("abort", onAbort)).catch(() => {}); // told by result()

    const call = { address: this.#address, body: encode(options.body, "json"), fields };
    if (!(await publishUntilKnown(this.#bus, call))) {
      await this.cancel(); // it may be stored: nobody would read its answer
      throw new AutellixError("queue_unavailable");
    }
    this.#startedAtMs = performance.now();
    this.#listenOn();
  }

  /** Header fields of the call; inside a program, the program is told to end in this pool too. */
  async #annotate({ program, thread, parents, deadlineMs }: SubmitOptions): Promise<Record<string, string>> {
    const fields: Record<string, string> = {};
    const context = program === undefined ? currentContext() : undefined;
    const heads = context?.thread.heads ?? [];
    const follows = parents ?? parentsAmong(heads);
    if (context) {
      const { pool, tenant } = this.#address;
      await context.program.openAt(`nats ${pool} ${tenant}`, async () =>
        endOverNats(this.#bus, pool, tenant, context.program.id),
      );
      this.#follow = () => context.thread.follow(parents ?? heads, this.callId);
    }
    const named = program ?? context?.program.id;
    const branch = thread ?? context?.thread.id;
    if (named !== undefined) fields[headers.program] = named;
    if (branch !== undefined) fields[headers.thread] = branch;
    if (follows.length > 0) fields[headers.parents] = follows.join(",");
    if (deadlineMs !== undefined) fields[headers.deadlineMs] = String(deadlineMs);
    return fields;
  }

  #openInbox(fields: Record<string, string>): void {
    const inbox = `_INBOX.${randomUUID().replaceAll("-", "")}`;
    fields[headers.reply] = inbox;
    const subscription = this.#bus.nc.subscribe(inbox, {
      callback: (error, message) => {
        if (error) this.#fail(new AutellixError("queue_unavailable", error.message, { cause: error }));
        else this.#receive(message.data, message.headers?.get(headers.end) ?? "");
      },
    });
    this.#closeInbox = () => subscription.unsubscribe();
  }

  #receive(data: Uint8Array, end: string): void {
    if (this.#ended) return;
    this.#silenceMs = SILENCE_MS;
    this.#listenOn();
    const chunk = toChunk(data);
    if (chunk) {
      this.#followOnce();
      if (chunk.restart) this.#events.restart();
      this.#events.push(chunk);
    }
    // The last message says only that the record is there. One that is no chunk counts as lost: the record repairs it.
    if (end !== "") this.#readRecord().catch((error: unknown) => this.#fail(error));
  }

  /** Reads the record after a silence; backs off while there is none. */
  #listenOn(): void {
    clearTimeout(this.#watch);
    if (this.#ended) return;
    this.#watch = setTimeout(() => {
      this.#readRecord()
        .then(() => this.#listenOn())
        .catch((error: unknown) => this.#fail(error));
    }, this.#silenceMs);
    this.#silenceMs = Math.min(SILENCE_MS_MAX, this.#silenceMs * 2);
  }

  #checkOpen(): void {
    const { nc } = this.#bus;
    if (nc.isClosed() || nc.isDraining()) throw new AutellixError("queue_unavailable", "the connection was closed");
  }

  async #readRecord(): Promise<void> {
    this.#checkOpen();
    const read = await readOutcome(this.#bus, this.#address, "leader");
    if (read.kind === "found" && read.record.head.kind === "outcome") {
      await this.#finish(decodeAs(outcomeBodySchema, read.record.body));
      return;
    }
    if (performance.now() - this.#startedAtMs > CALL_LIFETIME_MAX_MS + SILENCE_MS_MAX) {
      throw new AutellixError("result_expired", "the call's lifetime has passed and it has no record");
    }
  }

  async #finish(body: RecordBody): Promise<void> {
    const response = body.response_object
      ? (decode(await getBody(this.#bus, body.response_object)) as ChatCompletion)
      : body.response;
    if (this.#ended) return;
    this.#followOnce();
    if (response) this.#events.settle(response.choices[0].message, response.choices[0].logprobs);
    this.#close();
    this.#resolve({
      callId: this.callId,
      programId: body.program_id,
      status: body.status,
      ...(response ? { response } : {}),
      ...(body.error ? { error: { code: body.error.code, message: body.error.message } } : {}),
      ...(body.usage ? { usage: body.usage } : {}),
      ...(body.timings ? { timings: body.timings } : {}),
    });
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#close();
    this.#reject(error);
  }

  #close(): void {
    this.#ended = true;
    clearTimeout(this.#watch);
    this.#closeInbox();
    this.#events.end();
  }

  #followOnce(): void {
    this.#follow();
    this.#follow = () => {};
  }
}

/** A program that is used over NATS is made by its first call; only its end has to be said. */
function endOverNats(bus: Bus, pool: string, tenant: string, programId: string): Home {
  return {
    end: async (cancel) => {
      for (let attempt = 1; attempt <= END_PROGRAM_TRIES_MAX; attempt++) {
        if (await askLeader(bus, pool, tenant, { op: "program.end", program_id: programId, cancel })) return;
      }
      throw new AutellixError("queue_unavailable", `no leader of pool ${pool} confirmed the program's end`);
    },
  };
}

function toChunk(data: Uint8Array): (Chunk & { restart?: true }) | undefined {
  let value: unknown;
  try {
    value = decode(data);
  } catch {
    return undefined; // said by the caller
  }
  const chunk = value as (Chunk & { restart?: true }) | null;
  return typeof chunk === "object" && chunk !== null && Array.isArray(chunk.choices) ? chunk : undefined;
}

/** `Promise.withResolvers` is newer than Node 20. */
function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  return { promise, resolve, reject };
}
