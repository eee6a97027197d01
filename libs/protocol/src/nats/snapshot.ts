/**
 * The last message of each subject under a filter, as they stand now: what a take-over reads.
 */
import { AckPolicy, type Consumer, type ConsumerMessages, DeliverPolicy, type JsMsg } from "@nats-io/jetstream";
import { AutellixError } from "../errors.ts";
import type { Bus } from "./bus.ts";

const SNAPSHOT_BATCH_MSGS = 5_000;
/** The server removes a consumer that a dead client left behind. */
const SNAPSHOT_IDLE_NANOS = 60_000 * 1_000_000;
/** With no message for so long the server is asked how far it is. */
const SNAPSHOT_CHECK_MS = 1_000;
/** With no message for so long, although there should be some, the snapshot fails. */
const SNAPSHOT_STALL_MS = 5_000;

/** @throws AutellixError `queue_unavailable`, or what the client throws: without a whole snapshot nobody goes on. */
export async function lastPerSubject(
  bus: Bus,
  stream: string,
  filter: string,
  headersOnly: boolean,
  handler: (message: JsMsg) => void,
): Promise<void> {
  const info = await bus.jsm.consumers.add(stream, {
    filter_subject: filter,
    deliver_policy: DeliverPolicy.LastPerSubject,
    ack_policy: AckPolicy.None,
    headers_only: headersOnly,
    mem_storage: true,
    inactive_threshold: SNAPSHOT_IDLE_NANOS,
  });
  const consumer = await bus.js.consumers.get(stream, info.name);
  try {
    if (info.num_pending > 0) await readToEnd(consumer, handler);
  } finally {
    // Best effort: an idle consumer ends by itself, and an error here must not hide the one above.
    await consumer.delete().catch(() => false);
  }
}

async function readToEnd(consumer: Consumer, handler: (message: JsMsg) => void): Promise<void> {
  const messages = await consumer.consume({ max_messages: SNAPSHOT_BATCH_MSGS, abort_on_missing_resource: true });
  const progress = { received: 0, atMs: performance.now(), complete: false };
  const timer = setInterval(() => {
    const silentMs = performance.now() - progress.atMs;
    if (silentMs >= SNAPSHOT_STALL_MS) messages.stop(new AutellixError("queue_unavailable", "the snapshot stalled"));
    else if (silentMs >= SNAPSHOT_CHECK_MS) void stopAtEnd(consumer, messages, progress);
  }, SNAPSHOT_CHECK_MS);
  try {
    for await (const message of messages) {
      progress.atMs = performance.now();
      progress.received++;
      // The server counts what it sends. What was lost with a connection is not sent again.
      if (message.info.deliverySequence !== progress.received) {
        throw new AutellixError("queue_unavailable", "the snapshot has a gap");
      }
      handler(message);
      if (message.info.pending === 0) return;
    }
    if (!progress.complete) throw new AutellixError("queue_unavailable", "the connection closed during a snapshot");
  } finally {
    clearInterval(timer);
  }
}

/** A message that expired or was replaced after the start is announced as pending and never comes. */
async function stopAtEnd(
  consumer: Consumer,
  messages: ConsumerMessages,
  progress: { received: number; complete: boolean },
): Promise<void> {
  try {
    const { num_pending, delivered } = await consumer.info();
    if (num_pending > 0 || delivered.consumer_seq !== progress.received) return;
    progress.complete = true;
    messages.stop();
  } catch {
    // No answer now: the next tick asks again, until the snapshot counts as stalled.
  }
}
