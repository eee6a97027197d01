/**
 * The leader's consumer of CALLS: headers only, everything un-acked of its pool, without a gap.
 */
import {
  AckPolicy,
  type ConsumerInfo,
  type ConsumerMessages,
  DeliverPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JsMsg,
} from "@nats-io/jetstream";
import { AutellixError } from "../errors.ts";
import { CALLS_STREAM, subjects } from "../subjects.ts";
import { type Bus, onConnectionLost } from "./bus.ts";

/** Headers that the client holds before the leader has taken them. */
const CONSUME_MSGS_MAX = 2_000;
/** `ack_wait` must never redeliver by itself: leases are ours (100,000 expiring at once are a storm). */
const ACK_WAIT_NANOS = 24 * 3_600 * 1_000_000_000;
/** Between two looks at what the server has delivered, ms: twice so long a lost delivery stays hidden. */
const LOOK_MS = 2_000;

/** Name of the leader's consumer: a stale ack to an older epoch's name finds nobody (S5). */
export function consumerName(pool: string, epoch: number): string {
  return `leader-${pool}-${epoch}`;
}

/** Deletes the consumers of lower epochs, which also ends the old leader's `consumeCalls`. */
export async function deleteOlderConsumers(bus: Bus, pool: string, epoch: number): Promise<void> {
  const prefix = `leader-${pool}-`;
  const older: string[] = [];
  // First the whole list, then the deletions: it comes in pages by offset, which a deletion would shift.
  for await (const info of bus.jsm.consumers.list(CALLS_STREAM)) {
    const number = info.name.startsWith(prefix) ? info.name.slice(prefix.length) : "";
    if (/^\d+$/.test(number) && Number(number) < epoch) older.push(info.name);
  }
  for (const name of older) await deleteConsumer(bus, name);
}

async function deleteConsumer(bus: Bus, name: string): Promise<void> {
  try {
    await bus.jsm.consumers.delete(CALLS_STREAM, name);
  } catch (error) {
    const gone = error instanceof JetStreamApiError && error.code === JetStreamApiCodes.ConsumerNotFound;
    if (!gone) throw error;
  }
}

/** Calls that a consumer which has just been made will deliver: what a take-over reads before it leads. */
export async function callsToRead(bus: Bus, pool: string, epoch: number): Promise<number> {
  const info = await bus.jsm.consumers.info(CALLS_STREAM, consumerName(pool, epoch));
  return info.num_pending + info.num_ack_pending;
}

/** Messages of CALLS as the leader reads them; one reader. */
export interface CallMessages extends AsyncIterable<JsMsg> {
  stop(): void;
}

/**
 * The leader's headers-only view of everything un-acked in its pool, oldest first. A scheduler never holds a prompt.
 * Ends with an error when a leader of a higher epoch deletes the consumer, and whenever a delivery may have been lost:
 * at each loss of the connection, at a gap, and when the server has something to read and nothing comes. What the server
 * has delivered and the client has not received would stay hidden until `ack_wait`.
 * @param fresh deletes the consumer first, so that everything un-acked comes again from the oldest: for a leader that
 * goes on after such an end.
 * @throws when the consumer cannot be made: no answer, or an older epoch's is still there.
 */
export async function consumeCalls(
  bus: Bus,
  pool: string,
  epoch: number,
  { fresh = false }: { fresh?: boolean } = {},
): Promise<CallMessages> {
  const name = consumerName(pool, epoch);
  if (fresh) await deleteConsumer(bus, name);
  const made = await bus.jsm.consumers.add(CALLS_STREAM, {
    durable_name: name,
    filter_subject: subjects.callsOfPool(pool),
    deliver_policy: DeliverPolicy.All,
    ack_policy: AckPolicy.Explicit,
    ack_wait: ACK_WAIT_NANOS,
    max_ack_pending: -1,
    headers_only: true,
  });
  const consumer = await bus.js.consumers.get(CALLS_STREAM, name);
  const messages = await consumer.consume({ max_messages: CONSUME_MSGS_MAX, abort_on_missing_resource: true });
  return new WholeMessages(bus, messages, made);
}

/**
 * Messages of which none is missing. A server that leads the consumer and dies may have told the others that a message
 * is delivered, which was still on its way through it: no connection of the client is lost then, and the consumer's next
 * leader never delivers that message again. Deliveries are numbered, so a later one shows the gap; for the last one, and
 * for a request to deliver that died with the server, the consumer is looked at.
 */
class WholeMessages implements CallMessages {
  readonly #bus: Bus;
  readonly #messages: ConsumerMessages;
  readonly #name: string;
  /** Number of the last delivery that was read. */
  #read: number;
  /** `#read` at the last look, when the server had something that had not been read. */
  #readAtLook: number | undefined;

  constructor(bus: Bus, messages: ConsumerMessages, { name, delivered }: ConsumerInfo) {
    this.#bus = bus;
    this.#messages = messages;
    this.#name = name;
    this.#read = delivered.consumer_seq;
    const forget = onConnectionLost(bus, () => messages.stop(lost("the connection was lost while calls were read")));
    const timer = setInterval(() => void this.#look(), LOOK_MS).unref();
    void messages.closed().then(() => {
      forget();
      clearInterval(timer);
    });
  }

  stop(): void {
    this.#messages.stop();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JsMsg> {
    for await (const message of this.#messages) {
      const { deliverySequence } = message.info;
      if (deliverySequence > this.#read + 1) throw lost(`calls were lost before delivery ${deliverySequence}`);
      this.#read = Math.max(this.#read, deliverySequence);
      yield message;
    }
  }

  /** Something that waited at the last look and does not come is lost, or the request to deliver it is. */
  async #look(): Promise<void> {
    let info: ConsumerInfo;
    try {
      info = await this.#bus.jsm.consumers.info(CALLS_STREAM, this.#name);
    } catch {
      return; // nobody leads the consumer now, or it is deleted, which the client says: the next look tells
    }
    const isHeldHere = this.#messages.getReceived() > this.#messages.getProcessed();
    const isWaiting = info.num_pending > 0 || info.delivered.consumer_seq > this.#read;
    if (isHeldHere || !isWaiting) this.#readAtLook = undefined;
    else if (this.#readAtLook === this.#read)
      this.#messages.stop(lost(`calls do not come after delivery ${this.#read}`));
    else this.#readAtLook = this.#read;
  }
}

function lost(reason: string): AutellixError {
  return new AutellixError("queue_unavailable", reason);
}
