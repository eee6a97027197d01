/**
 * Calls in CALLS: published by whoever has one, body read by sequence by agents, acked by the leader that read them.
 */
import type { JsMsg, StoredMsg } from "@nats-io/jetstream";
import { type MsgHdrs, headers as natsHeaders, RequestError } from "@nats-io/transport-node";
import { AutellixError } from "../errors.ts";
import { BODY_BYTES_MAX, PAYLOAD_HEADROOM_BYTES } from "../limits.ts";
import { headers } from "../records.ts";
import { CALLS_STREAM, type CallAddress, subjects } from "../subjects.ts";
import { deleteBody, putBody } from "./bodies.ts";
import { type Bus, REQUEST_TIMEOUT_MS } from "./bus.ts";
import { publishExpecting } from "./expecting.ts";
import { isExpectationRefused, isStoreFull } from "./outcomes.ts";

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

/** `: ` and CR LF around each header. */
const HEADER_EXTRA_BYTES = 4;
/** Headers that this file and the client add: body reference, expectations. */
const HEADERS_OWN_BYTES_MAX = 1_024;
const DEAD_REASON_CHARS_MAX = 500;
const DIRECT_GET_RETRY_MS = 200;
const DIRECT_GET_PAUSE_MS = 20;

/**
 * Publishes once. A body above the payload limit goes to the object store first, under a name of its own.
 * @throws AutellixError `body_too_large` above `BODY_BYTES_MAX`; `invalid_request` when the header fields hold a line
 * break or are larger than `PAYLOAD_HEADROOM_BYTES`. Nothing is stored then.
 */
export async function publishCall(bus: Bus, call: PublishedCall): Promise<PublishResult> {
  if (call.body.length > BODY_BYTES_MAX) throw new AutellixError("body_too_large");
  const fields = headersOf(call.fields);
  let payload = call.body;
  let bodyObject: string | undefined;
  if (payload.length > bus.payloadBytesMax - PAYLOAD_HEADROOM_BYTES) {
    try {
      bodyObject = await putBody(bus, call.address.tenant, call.body);
    } catch (cause) {
      return { kind: "unknown", cause };
    }
    fields.set(headers.bodyObject, bodyObject);
    fields.set(headers.bodyBytes, String(call.body.length));
    payload = new Uint8Array();
  }
  const { pool, tenant, callId } = call.address;
  try {
    const ack = await publishExpecting(bus, subjects.call(pool, tenant, callId), payload, {
      headers: fields,
      expect: { lastSubjectSequence: 0 },
    });
    return { kind: "accepted", seq: ack.seq };
  } catch (error) {
    const refused = refusalOf(error);
    // Only after a definite refusal is the object surely named by nothing; otherwise the store's age limit ends it.
    if (refused && bodyObject) await deleteBody(bus, bodyObject);
    return refused ?? { kind: "unknown", cause: error };
  }
}

function headersOf(fields: Record<string, string>): MsgHdrs {
  const made = natsHeaders();
  let bytes = 0;
  for (const [name, value] of Object.entries(fields)) {
    if (/[\r\n]/.test(value)) throw new AutellixError("invalid_request", `${name} must not contain a line break`);
    made.set(name, value);
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value) + HEADER_EXTRA_BYTES;
  }
  if (bytes > PAYLOAD_HEADROOM_BYTES - HEADERS_OWN_BYTES_MAX) {
    throw new AutellixError("invalid_request", `the headers are larger than ${PAYLOAD_HEADROOM_BYTES} bytes`);
  }
  return made;
}

function refusalOf(error: unknown): PublishResult | undefined {
  if (isExpectationRefused(error)) return { kind: "exists" };
  if (isStoreFull(error)) return /per subject/.test(error.message) ? { kind: "exists" } : { kind: "full" };
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

export type BodyResult = { kind: "found"; call: CallBody } | { kind: "gone" } | { kind: "unknown"; cause?: unknown };

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
  } catch (cause) {
    return { kind: "unknown", cause };
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

/** Last sequence of CALLS, from the stream's leader. */
export async function callsLastSeq(bus: Bus): Promise<number> {
  return (await bus.jsm.streams.info(CALLS_STREAM)).state.last_seq;
}

/**
 * Acks once: the client sends nothing for a second ack of the same message, so who must be able to repeat it uses
 * `ackCall`.
 * @returns true when the server confirmed; false = unknown, or acked through this message before.
 */
export async function confirmAck(message: JsMsg): Promise<boolean> {
  try {
    return await message.ackAck();
  } catch {
    return false; // S4: an ack is no record; the outcome is
  }
}

/** What a leader keeps of a message to ack it later: a string instead of the message. */
export function ackSubjectOf(message: JsMsg): string {
  const reply = (message as JsMsg & { reply?: unknown }).reply;
  if (typeof reply !== "string" || !reply.startsWith("$JS.ACK.")) throw new Error("the message cannot be acked");
  return reply;
}

const ACK = new TextEncoder().encode("+ACK");

/**
 * Acks by subject; may be repeated, also for a message that is acked.
 * @returns true when the server confirmed; false = unknown, or the consumer is gone. The call comes again with the next
 * consumer and is found ended (S4).
 */
export async function ackCall(bus: Bus, ackSubject: string): Promise<boolean> {
  try {
    await bus.nc.request(ackSubject, ACK, { timeout: REQUEST_TIMEOUT_MS });
    return true;
  } catch {
    return false; // S4: an ack is no record; the outcome is
  }
}

/**
 * Keeps a poison call: copies the undecoded body to DEAD. Idempotent (one per subject). A call that is no longer in
 * CALLS leaves a letter without a body.
 * @throws AutellixError `queue_unavailable` when it could not be read or stored; the caller repeats.
 */
export async function storeDead(bus: Bus, address: CallAddress, seq: number, reason: string): Promise<void> {
  try {
    const stored = await bus.jsm.streams.getMessage(CALLS_STREAM, { seq });
    const fields = natsHeaders();
    for (const name of stored?.header?.keys() ?? []) {
      if (!name.startsWith("Nats-")) fields.set(name, stored?.header?.get(name) ?? "");
    }
    fields.set(headers.cause, reason.replace(/\s+/g, " ").slice(0, DEAD_REASON_CHARS_MAX));
    let payload = stored?.data ?? new Uint8Array();
    // Its publisher may have used the whole payload limit; with the reason it would not fit any more.
    if (payload.length > bus.payloadBytesMax - PAYLOAD_HEADROOM_BYTES) {
      fields.set(headers.bodyObject, await putBody(bus, address.tenant, payload));
      fields.set(headers.bodyBytes, String(payload.length));
      payload = new Uint8Array();
    }
    await bus.js.publish(subjects.dead(address.pool, address.tenant, address.callId), payload, { headers: fields });
  } catch (cause) {
    throw new AutellixError("queue_unavailable", "the dead letter could not be stored", { cause });
  }
}
