/**
 * Calls in CALLS: published by whoever has one, read headers-only by the leader, body by sequence by agents.
 */
import {
  AckPolicy,
  type ConsumerMessages,
  DeliverPolicy,
  JetStreamApiError,
  type JsMsg,
  type StoredMsg,
} from "@nats-io/jetstream";
import { headers as natsHeaders, RequestError } from "@nats-io/transport-node";
import { AutellixError } from "../errors.ts";
import { PAYLOAD_HEADROOM_BYTES } from "../limits.ts";
import { headers } from "../records.ts";
import { CALLS_STREAM, type CallAddress, subjects } from "../subjects.ts";
import { putBody } from "./bodies.ts";
import type { Bus } from "./bus.ts";
import { isExpectationRefused } from "./outcomes.ts";

export interface PublishedCall {
  address: CallAddress;
  body: Uint8Array;
  /** Header fields by name (`records.headers`). */
  fields: Record<string, string>;
}

/**
 * - `accepted`: it cannot be lost any more.
 * - `exists`: the id is on the queue already; after an unknown answer under the same id that means accepted.
 * - `full`, `unknown_pool`: refused, nothing stored. No stream listens on an unknown pool's subject; for a pool that
 *   exists the same answer means that the stream has no leader just now.
 * - `unknown`: no answer; it may be stored. Repeat under the same id (design §2.1).
 */
export type PublishResult =
  | { kind: "accepted"; seq: number }
  | { kind: "exists" }
  | { kind: "full" }
  | { kind: "unknown_pool" }
  | { kind: "unknown"; cause: unknown };

const STORE_FAILED = 10077;
const DIRECT_GET_RETRY_MS = 200;
const DIRECT_GET_PAUSE_MS = 20;

/** Publishes once. A body above the payload limit goes to the object store first, under a name of its own. */
export async function publishCall(bus: Bus, call: PublishedCall): Promise<PublishResult> {
  const fields = natsHeaders();
  for (const [name, value] of Object.entries(call.fields)) fields.set(name, value);
  let payload = call.body;
  let bodyObject: string | undefined;
  if (payload.length > bus.payloadBytesMax - PAYLOAD_HEADROOM_BYTES) {
    try {
      bodyObject = await putBody(bus, call.body);
    } catch (cause) {
      return { kind: "unknown", cause };
    }
    fields.set(headers.bodyObject, bodyObject);
    fields.set(headers.bodyBytes, String(call.body.length));
    payload = new Uint8Array();
  }
  const { pool, tenant, callId } = call.address;
  try {
    const ack = await bus.js.publish(subjects.call(pool, tenant, callId), payload, {
      headers: fields,
      expect: { lastSubjectSequence: 0 },
    });
    return { kind: "accepted", seq: ack.seq };
  } catch (error) {
    // The object of a refused or repeated publish is left to the store's age limit when the answer is unknown:
    // the first publish may be stored and name it.
    const refused = refusalOf(error);
    return refused ?? { kind: "unknown", cause: error };
  }
}

function refusalOf(error: unknown): PublishResult | undefined {
  if (isExpectationRefused(error)) return { kind: "exists" };
  if (error instanceof JetStreamApiError && error.code === STORE_FAILED) {
    return /per subject/.test(error.message) ? { kind: "exists" } : { kind: "full" };
  }
  // "JetStream not enabled" is the client's word for: no stream listens on this subject.
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof RequestError && cause.isNoResponders()) return { kind: "unknown_pool" };
  return undefined;
}

export interface CallBody {
  address: CallAddress;
  bytes: Uint8Array;
  bodyObject: string | undefined;
  /** `msgpack` when the publisher wants the outcome so. */
  encoding: "msgpack" | "json" | undefined;
}

export type BodyResult = { kind: "found"; call: CallBody } | { kind: "gone" } | { kind: "unknown" };

/** A missing message may be a lagging replica (10 % of gets after an R3 ack): only the leader's answer means gone. */
export async function fetchCall(bus: Bus, address: CallAddress, seq: number): Promise<BodyResult> {
  const until = performance.now() + DIRECT_GET_RETRY_MS;
  for (;;) {
    const direct = await storedAt(() => bus.jsm.direct.getMessage(CALLS_STREAM, { seq }));
    if (direct) return found(address, direct);
    if (performance.now() > until) break;
    await new Promise((resolve) => setTimeout(resolve, DIRECT_GET_PAUSE_MS));
  }
  try {
    const stored = await bus.jsm.streams.getMessage(CALLS_STREAM, { seq });
    return stored ? found(address, stored) : { kind: "gone" };
  } catch (error) {
    return error instanceof JetStreamApiError && error.code === 10037 ? { kind: "gone" } : { kind: "unknown" };
  }
}

async function storedAt(get: () => Promise<StoredMsg | null>): Promise<StoredMsg | null> {
  try {
    return await get();
  } catch {
    return null; // the leader is asked next; only its answer counts
  }
}

function found(address: CallAddress, stored: StoredMsg): BodyResult {
  const field = (name: string) => stored.header?.get(name) || undefined;
  const encoding = field(headers.encoding);
  return {
    kind: "found",
    call: {
      address,
      bytes: stored.data,
      bodyObject: field(headers.bodyObject),
      encoding: encoding === "msgpack" || encoding === "json" ? encoding : undefined,
    },
  };
}

/** Name of the leader's consumer: a stale ack to an older epoch's name finds nobody (S5). */
export function consumerName(pool: string, epoch: number): string {
  return `leader-${pool}-${epoch}`;
}

/** Deletes the consumers of lower epochs, which also ends the old leader's `consume`. */
export async function deleteOlderConsumers(bus: Bus, pool: string, epoch: number): Promise<void> {
  const prefix = `leader-${pool}-`;
  for await (const info of bus.jsm.consumers.list(CALLS_STREAM)) {
    if (!info.name.startsWith(prefix) || !/^\d+$/.test(info.name.slice(prefix.length))) continue;
    if (Number(info.name.slice(prefix.length)) >= epoch) continue;
    try {
      await bus.jsm.consumers.delete(CALLS_STREAM, info.name);
    } catch (error) {
      if (!(error instanceof JetStreamApiError && error.code === 10014)) throw error; // gone already
    }
  }
}

/** `ack_wait` must never redeliver by itself: leases are ours (100,000 expiring at once are a storm). */
const ACK_WAIT_NANOS = 24 * 3_600 * 1_000_000_000;

/**
 * The leader's headers-only view of everything un-acked in its pool, oldest first. A scheduler never holds a prompt.
 * Ends when a leader of a higher epoch deletes the consumer.
 */
export async function consumeCalls(bus: Bus, pool: string, epoch: number): Promise<ConsumerMessages> {
  const name = consumerName(pool, epoch);
  await bus.jsm.consumers.add(CALLS_STREAM, {
    durable_name: name,
    filter_subject: subjects.callsOfPool(pool),
    deliver_policy: DeliverPolicy.All,
    ack_policy: AckPolicy.Explicit,
    ack_wait: ACK_WAIT_NANOS,
    max_ack_pending: -1,
    headers_only: true,
  });
  const consumer = await bus.js.consumers.get(CALLS_STREAM, name);
  return await consumer.consume({ max_messages: 2_000, abort_on_missing_resource: true });
}

/** Last sequence of CALLS, from the stream's leader. */
export async function callsLastSeq(bus: Bus): Promise<number> {
  return (await bus.jsm.streams.info(CALLS_STREAM)).state.last_seq;
}

/** @returns true when the server confirmed the ack; false = unknown: the call comes again and is found ended. */
export async function confirmAck(message: JsMsg): Promise<boolean> {
  try {
    return await message.ackAck();
  } catch {
    return false; // S4: an ack is no record; the outcome is
  }
}

/**
 * Keeps a poison call: copies the undecoded body to DEAD. Idempotent (one per subject).
 * @throws AutellixError `queue_unavailable` when it could not be stored; the caller repeats.
 */
export async function storeDead(bus: Bus, address: CallAddress, seq: number, reason: string): Promise<void> {
  const stored = await storedAt(() => bus.jsm.streams.getMessage(CALLS_STREAM, { seq }));
  const fields = natsHeaders();
  for (const name of stored?.header?.keys() ?? [])
    if (!name.startsWith("Nats-")) fields.set(name, stored?.header?.get(name) ?? "");
  fields.set(headers.cause, reason);
  try {
    await bus.js.publish(
      subjects.dead(address.pool, address.tenant, address.callId),
      stored?.data ?? new Uint8Array(),
      { headers: fields },
    );
  } catch (cause) {
    throw new AutellixError("queue_unavailable", "the dead letter could not be stored", { cause });
  }
}
