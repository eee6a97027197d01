/**
 * The last message of each subject under a filter, as they stand now: what a take-over reads.
 */
import { AckPolicy, DeliverPolicy, type JsMsg } from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";

const SNAPSHOT_BATCH_MSGS = 5_000;
const SNAPSHOT_IDLE_NANOS = 60_000 * 1_000_000;

/** @throws when the server does not answer: who needs a snapshot must not go on without it. */
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
    if (info.num_pending === 0) return;
    for await (const message of await consumer.consume({ max_messages: SNAPSHOT_BATCH_MSGS })) {
      handler(message);
      if (message.info.pending === 0) return;
    }
  } finally {
    await consumer.delete();
  }
}
