/**
 * A pool for tests of the frontend: takes calls from the real queue and says, on the real subjects, what a scheduler
 * and an agent say. Each test decides when and what.
 */
import {
  type AnswerDelta,
  type Ask,
  ask,
  askSchema,
  type Bus,
  type CallAddress,
  type Control,
  type ControlAnswer,
  callKey,
  confirmAck,
  confirmSchema,
  consumeCalls,
  controlSchema,
  decode,
  encode,
  ensurePool,
  fetchCall,
  type GapAnswer,
  getBody,
  haveAnswerSchema,
  headers,
  keys,
  listen,
  openBus,
  parseCallSubject,
  putBody,
  RESULT_INLINE_BYTES_MAX,
  type Status,
  send,
  subjects,
  writeKey,
  writeOutcomeRecord,
} from "@autellix/protocol";
import type { Outcome } from "../src/outcome.ts";
import { completed, idsOf, statusOf } from "./driver.ts";

type JsMsg = Parameters<typeof confirmAck>[0];

export interface Arrival {
  address: CallAddress;
  key: string;
  reply: string;
  /** The body as it was published. */
  bytes: Uint8Array;
  request: unknown;
  field(name: string): string;
  message: JsMsg;
}

export class TestPool {
  readonly bus: Bus;
  readonly pool: string;
  readonly engine = "e1";
  /** Control requests so far. */
  readonly controls: { control: Control; tenant: string }[] = [];
  readonly asks: Ask[] = [];
  /** How control requests are answered; undefined = not at all. */
  control: (control: Control, tenant: string) => ControlAnswer | undefined = () => ({ ok: true });
  /** How questions to the agent are answered. */
  answer: (ask: Ask) => GapAnswer | undefined = () => ({ state: "unknown" });
  status: Status;
  readonly #arrivals: Arrival[] = [];
  readonly #waiting: ((arrival: Arrival) => void)[] = [];
  readonly #stops: (() => void)[] = [];

  private constructor(bus: Bus, pool: string) {
    this.bus = bus;
    this.pool = pool;
    this.status = statusOf(pool);
  }

  static async start(url: string, pool: string, model = "m"): Promise<TestPool> {
    const bus = await openBus({ url, name: `test-${pool}` });
    const self = new TestPool(bus, pool);
    await ensurePool(bus, pool);
    await writeKey(bus, keys.model(model), encode({ model, pools: [pool] }));
    const invalid = (error: Error) => {
      throw error;
    };
    const subscriptions = [
      listen(
        bus,
        subjects.controlOfPool(pool),
        controlSchema,
        (control, raw) => {
          const tenant = raw.subject.split(".").at(-1) ?? "";
          self.controls.push({ control, tenant });
          const answer = self.control(control, tenant);
          if (answer) raw.respond(encode(answer));
        },
        invalid,
      ),
      listen(
        bus,
        subjects.ask(self.engine),
        askSchema,
        (question, raw) => {
          self.asks.push(question);
          const answer = self.answer(question);
          if (answer) raw.respond(encode(answer));
        },
        invalid,
      ),
    ];
    self.#stops.push(...subscriptions.map((subscription) => () => subscription.unsubscribe()));
    const timer = setInterval(() => send(bus, subjects.status(pool), self.status), 100);
    self.#stops.push(() => clearInterval(timer));
    void self.#follow();
    return self;
  }

  /** The next call, once it is on the queue. */
  async next(): Promise<Arrival> {
    return this.#arrivals.shift() ?? (await new Promise((resolve) => this.#waiting.push(resolve)));
  }

  /** Sends one token a character. */
  tokens({ key, reply }: Arrival, index: number, text: string, attempt = 1): void {
    const item = { call: key, attempt, index, count: text.length, text, ids: idsOf(text) };
    send(this.bus, reply, { kind: "tokens", engine: this.engine, epoch: 1, items: [item] });
  }

  /** Sends one token a delta. */
  deltas({ key, reply }: Arrival, index: number, deltas: readonly AnswerDelta[], attempt = 1): void {
    const text = deltas.map(({ delta }) => (typeof delta.content === "string" ? delta.content : "")).join("");
    const item = { call: key, attempt, index, count: deltas.length, text, deltas };
    send(this.bus, reply, { kind: "tokens", engine: this.engine, epoch: 1, items: [item] });
  }

  async have({ key, reply }: Arrival, attempt: number) {
    const message = { kind: "have", call: key, engine: this.engine, epoch: 1, attempt };
    return await ask(this.bus, reply, message, haveAnswerSchema);
  }

  /** Stores the outcome, acks, and tells the frontend until it confirms. */
  async end(arrival: Arrival, outcome: Outcome): Promise<void> {
    const body = await this.store(arrival, outcome);
    const inline = body.length <= this.bus.payloadBytesMax / 2;
    const message = { kind: "end", call: arrival.key, pool: this.pool, status: outcome.status };
    for (let tries = 0; tries < 50; tries++) {
      const told = inline ? { ...message, body } : message;
      if (await ask(this.bus, arrival.reply, told, confirmSchema, 500)) return;
    }
    if (!this.bus.nc.isClosed()) throw new Error("the end was not confirmed");
  }

  /** Stores the outcome and acks, and tells nobody. */
  async store({ address, message }: Arrival, outcome: Outcome): Promise<Uint8Array> {
    let stored = outcome;
    const { response, ...rest } = outcome;
    if (response && encode(response).length > RESULT_INLINE_BYTES_MAX) {
      stored = { ...rest, response_object: await putBody(this.bus, "default", encode(response)) };
    }
    const head = {
      kind: "outcome",
      status: outcome.status,
      code: undefined,
      attempt: 1,
      epoch: 1,
      engine: "e1",
    } as const;
    const body = encode(stored);
    for (let kind = "unknown"; kind === "unknown"; ) {
      ({ kind } = await writeOutcomeRecord(this.bus, address, head, body, 0));
      if (kind === "full") throw new Error("the outcome was not stored");
    }
    await confirmAck(message);
    return body;
  }

  /** Answers a call whole. */
  async complete(arrival: Arrival, text: string): Promise<void> {
    await this.end(arrival, completed(text, arrival.address.callId));
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops) stop();
    await this.bus.nc.close();
  }

  /** The consumer ends when the connection is lost, and is made again until the pool stops. */
  async #follow(): Promise<void> {
    while (!this.bus.nc.isClosed()) {
      try {
        await this.#consume(await consumeCalls(this.bus, this.pool, 1, { fresh: true }));
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20)); // the next try; what is un-acked comes again
      }
    }
  }

  async #consume(messages: AsyncIterable<JsMsg>): Promise<void> {
    for await (const message of messages) {
      const address = parseCallSubject(message.subject);
      if (!address) throw new Error(`not a call: ${message.subject}`);
      const body = await fetchCall(this.bus, address, message.seq);
      if (body.kind !== "found") throw new Error(`no body: ${body.kind}`);
      const { bodyObject } = body.call;
      const bytes = bodyObject === undefined ? body.call.bytes : await getBody(this.bus, bodyObject);
      const field = (name: string) => message.headers?.get(name) ?? "";
      const arrival: Arrival = {
        address,
        key: callKey(address.tenant, address.callId),
        reply: field(headers.reply),
        bytes,
        request: decode(bytes),
        field,
        message,
      };
      const waiting = this.#waiting.shift();
      if (waiting) waiting(arrival);
      else this.#arrivals.push(arrival);
    }
  }
}
