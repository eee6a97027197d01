/**
 * Records in OUTCOMES: read, and written with an expected sequence. Every write has three answers: stored, refused,
 * unknown; who gets the last two reads the subject from the stream's leader before it decides anything (S3, S4).
 */
import { JetStreamApiError, type StoredMsg } from "@nats-io/jetstream";
import { headers as natsHeaders } from "@nats-io/transport-node";
import { AutellixError } from "../errors.ts";
import { PAYLOAD_HEADROOM_BYTES } from "../limits.ts";
import { headFields, parseHead, type RecordHead } from "../records.ts";
import { type CallAddress, OUTCOMES_STREAM, parseCallSubject, subjects } from "../subjects.ts";
import type { Bus } from "./bus.ts";
import { publishExpecting } from "./expecting.ts";
import { lastPerSubject } from "./snapshot.ts";

export interface StoredRecord {
  /** Sequence of the record on its subject: the fence, when it is a marker. */
  seq: number;
  head: RecordHead;
  body: Uint8Array;
  /** The stream's clock when it was written, ms since 1970; set when it was read. */
  storedAtMs?: number;
}

/**
 * - `none`: no record of ours. `seq` is there when the subject holds something else (a stranger wrote to it): it is
 *   then what the next write must expect, instead of 0.
 * - `unknown`: no answer. It decides nothing.
 */
export type ReadResult =
  | { kind: "found"; record: StoredRecord }
  | { kind: "none"; seq?: number }
  | { kind: "unknown"; cause?: unknown };
/** `full`: the stream's limit; nothing was stored, and the same write may go through later. */
export type WriteResult =
  | { kind: "stored"; seq: number }
  | { kind: "refused" }
  | { kind: "full" }
  | { kind: "unknown"; cause?: unknown };

/** JetStream error codes that this file tells apart. */
const WRONG_LAST_SEQUENCE = 10071;
const STORE_FAILED = 10077;

export function isExpectationRefused(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === WRONG_LAST_SEQUENCE;
}

export function isStoreFull(error: unknown): error is JetStreamApiError {
  return error instanceof JetStreamApiError && error.code === STORE_FAILED;
}

/**
 * The call's record. `leader` asks the stream's leader, whose "none" counts; `any` may be answered by a lagging
 * replica: good for a found record, worth nothing for "none".
 */
export async function readOutcome(bus: Bus, address: CallAddress, from: "leader" | "any"): Promise<ReadResult> {
  const subject = subjects.outcome(address.pool, address.tenant, address.callId);
  let stored: StoredMsg | null;
  try {
    stored =
      from === "leader"
        ? await bus.jsm.streams.getMessage(OUTCOMES_STREAM, { last_by_subj: subject })
        : await bus.jsm.direct.getMessage(OUTCOMES_STREAM, { last_by_subj: subject });
  } catch (cause) {
    return { kind: "unknown", cause };
  }
  if (!stored) return { kind: "none" };
  const record = toRecord(stored);
  return record ? { kind: "found", record } : { kind: "none", seq: stored.seq };
}

function toRecord(stored: StoredMsg): StoredRecord | undefined {
  const head = parseHead((name) => stored.header?.get(name) ?? "");
  return head && { seq: stored.seq, head, body: stored.data, storedAtMs: stored.time.getTime() };
}

/**
 * Writes once.
 * @param fence the sequence that the subject must have now; 0 = no record yet.
 * @throws AutellixError `body_too_large` when record and headers exceed the server's payload limit: results above
 * `RESULT_INLINE_BYTES_MAX` belong in the object store.
 */
export async function writeOutcomeRecord(
  bus: Bus,
  address: CallAddress,
  head: RecordHead,
  body: Uint8Array,
  fence: number,
): Promise<WriteResult> {
  if (body.length > bus.payloadBytesMax - PAYLOAD_HEADROOM_BYTES) throw new AutellixError("body_too_large");
  const fields = natsHeaders();
  for (const [name, value] of Object.entries(headFields(head))) fields.set(name, value);
  try {
    const subject = subjects.outcome(address.pool, address.tenant, address.callId);
    const ack = await publishExpecting(bus, subject, body, {
      headers: fields,
      expect: { lastSubjectSequence: fence },
    });
    return { kind: "stored", seq: ack.seq };
  } catch (error) {
    if (isExpectationRefused(error)) return { kind: "refused" };
    if (isStoreFull(error)) return { kind: "full" };
    return { kind: "unknown", cause: error };
  }
}

/**
 * All records of a pool, headers only, last per subject: what a take-over needs (50,000 in 0.33 s).
 * @throws when the server does not answer: a leader without them must not lead.
 */
export async function readAllHeads(
  bus: Bus,
  pool: string,
): Promise<(CallAddress & { seq: number; head: RecordHead })[]> {
  const found: (CallAddress & { seq: number; head: RecordHead })[] = [];
  await lastPerSubject(bus, OUTCOMES_STREAM, subjects.outcomesOfPool(pool), true, (message) => {
    const address = parseCallSubject(message.subject);
    const head = parseHead((name) => message.headers?.get(name) ?? "");
    if (address && head) found.push({ ...address, seq: message.seq, head });
  });
  return found;
}

/** Share of OUTCOMES' byte limit that is in use, 0 … 1. @throws when the server does not answer. */
export async function outcomesShareUsed(bus: Bus): Promise<number> {
  const info = await bus.jsm.streams.info(OUTCOMES_STREAM);
  return info.config.max_bytes > 0 ? info.state.bytes / info.config.max_bytes : 0;
}
