/**
 * Keys of the bucket `autellix_pools`: epoch, lease, engines, programs, models. Written raw, because only a raw
 * publish can expect the sequence of *another* key (S5) and carry a TTL; only a write's own answer decides, a read
 * may come from a lagging replica.
 */
import { type KV, Kvm } from "@nats-io/kv";
import { type MsgHdrs, headers as natsHeaders } from "@nats-io/transport-node";
import { keySubject, POOLS_BUCKET, POOLS_STREAM } from "../subjects.ts";
import type { Bus } from "./bus.ts";
import { publishExpecting } from "./expecting.ts";
import { isExpectationRefused } from "./outcomes.ts";
import { lastPerSubject } from "./snapshot.ts";

/** Longer than any read-then-write of a client, so that its expectation still meets the marker. */
const DELETE_MARKER_TTL = "1h";

export interface KeyEntry {
  key: string;
  bytes: Uint8Array;
  /** Sequence of the entry; for `epoch.<pool>` it is the epoch. */
  seq: number;
  /** The stream's clock when it was written, ms since 1970. */
  storedAtMs: number;
}

export type KeyWriteResult =
  | { kind: "stored"; seq: number }
  | { kind: "refused" }
  | { kind: "unknown"; cause?: unknown };

export interface Expectation {
  seq: number;
  /** The key whose last sequence is meant; the written key itself by default. */
  key?: string;
}

/** @param ttlMs the entry ends by itself after this time; never, when undefined. */
export async function writeKey(
  bus: Bus,
  key: string,
  bytes: Uint8Array,
  expect?: Expectation,
  ttlMs?: number,
): Promise<KeyWriteResult> {
  const ttl = ttlMs === undefined ? undefined : `${Math.max(1, Math.ceil(ttlMs / 1_000))}s`;
  return await put(bus, key, bytes, expect, { remove: false, ttl });
}

/**
 * Deletes with a marker, as the KV client does. The marker expires: ended programs would otherwise leave one each for
 * ever, and a take-over reads them all.
 */
export async function deleteKey(bus: Bus, key: string, expect?: Expectation): Promise<KeyWriteResult> {
  return await put(bus, key, new Uint8Array(), expect, { remove: true, ttl: DELETE_MARKER_TTL });
}

async function put(
  bus: Bus,
  key: string,
  bytes: Uint8Array,
  expect: Expectation | undefined,
  { remove, ttl }: { remove: boolean; ttl: string | undefined },
): Promise<KeyWriteResult> {
  const fields = natsHeaders();
  if (remove) fields.set("KV-Operation", "DEL");
  const expectation = expect && {
    lastSubjectSequence: expect.seq,
    ...(expect.key ? { lastSubjectSequenceSubject: keySubject(expect.key) } : {}),
  };
  try {
    const ack = await publishExpecting(bus, keySubject(key), bytes, {
      headers: fields,
      ...(ttl ? { ttl } : {}),
      ...(expectation ? { expect: expectation } : {}),
    });
    return { kind: "stored", seq: ack.seq };
  } catch (error) {
    return isExpectationRefused(error) ? { kind: "refused" } : { kind: "unknown", cause: error };
  }
}

/** From the stream's leader. @returns undefined when the key is absent or deleted. @throws when there is no answer. */
export async function readKey(bus: Bus, key: string): Promise<KeyEntry | undefined> {
  const stored = await bus.jsm.streams.getMessage(POOLS_STREAM, { last_by_subj: keySubject(key) });
  if (!stored || isDeleted(stored.header)) return undefined;
  return { key, bytes: stored.data, seq: stored.seq, storedAtMs: stored.time.getTime() };
}

/** The last sequence of a key, deleted or not; 0 when it was never written. What an expectation must name. */
export async function lastSeqOfKey(bus: Bus, key: string): Promise<number> {
  return (await bus.jsm.streams.getMessage(POOLS_STREAM, { last_by_subj: keySubject(key) }))?.seq ?? 0;
}

/** By a client, or by the server when an entry's time to live was over. */
function isDeleted(fields: MsgHdrs | undefined): boolean {
  return Boolean(fields?.get("KV-Operation") || fields?.get("Nats-Marker-Reason"));
}

async function bucket(bus: Bus): Promise<KV> {
  return await new Kvm(bus.js).open(POOLS_BUCKET);
}

/** All present keys under a filter (`program.<pool>.*.*`). @throws when the server does not answer. */
export async function readKeys(bus: Bus, filter: string): Promise<KeyEntry[]> {
  const entries: KeyEntry[] = [];
  await lastPerSubject(bus, POOLS_STREAM, keySubject(filter), false, (message) => {
    if (isDeleted(message.headers)) return;
    const key = message.subject.slice(keySubject("").length);
    entries.push({ key, bytes: message.data, seq: message.seq, storedAtMs: message.time.getTime() });
  });
  return entries;
}

/** Calls `handler` for each present key and then for each change; `undefined` = deleted. Stops with `stop()`. */
export async function watchKeys(
  bus: Bus,
  filter: string,
  handler: (key: string, bytes: Uint8Array | undefined) => void,
): Promise<{ stop(): void; done: Promise<void> }> {
  const watch = await (await bucket(bus)).watch({ key: filter });
  const done = (async () => {
    for await (const entry of watch) handler(entry.key, entry.operation === "PUT" ? entry.value : undefined);
  })();
  return { stop: () => watch.stop(), done };
}
