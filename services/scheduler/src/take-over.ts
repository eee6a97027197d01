/**
 * What a new leader reads before it acts, in the order of design §4: consumers of lower epochs end first, then the own
 * consumer is made, then the records are read; so whatever an old leader still does is refused or comes again.
 */
import { callId, engineId, programId, type SavedEntry } from "@autellix/core";
import {
  type Bus,
  type CallKey,
  callKey,
  decode,
  keys,
  type RecordHead,
  readAllHeads,
  readKey,
  readKeys,
} from "@autellix/protocol";
import { z } from "zod";
import type { TakeOver } from "./events.ts";

const millis = z.number();
const savedSchema = z.object({
  program: z.string(),
  serviceMs: millis,
  waitingMs: millis,
  attainedMs: millis,
  endedCalls: z.number(),
  endedAt: millis.nullish(),
  pin: z.string().nullish(),
  lastArrivalAt: millis,
  lastCompletionAt: millis.nullish(),
  charged: z.array(z.string()),
});

/** @returns undefined when the bytes are no entry: it is dropped, which costs a program its past, never a call. */
export function parseSaved(bytes: Uint8Array): SavedEntry | undefined {
  const parsed = savedSchema.safeParse(decoded(bytes));
  if (!parsed.success) return undefined;
  const { program, charged, pin, endedAt, lastCompletionAt, ...sums } = parsed.data;
  return {
    ...sums,
    program: programId(program),
    charged: charged.map(callId),
    pin: pin == null ? undefined : engineId(pin),
    endedAt: endedAt ?? undefined,
    lastCompletionAt: lastCompletionAt ?? undefined,
  };
}

function decoded(bytes: Uint8Array): unknown {
  try {
    return decode(bytes);
  } catch {
    return undefined; // counted as dropped by the caller
  }
}

/** @throws when NATS does not answer: a leader without its records must not lead. */
export async function readTakeOver(bus: Bus, pool: string, epoch: number): Promise<TakeOver & { dropped: number }> {
  const [heads, programs, engines] = await Promise.all([
    readAllHeads(bus, pool),
    readKeys(bus, keys.programsOfPool(pool)),
    readKeys(bus, keys.enginesOfPool(pool)),
  ]);
  const records = new Map<CallKey, { seq: number; head: RecordHead }>();
  for (const { tenant, callId, seq, head } of heads) records.set(callKey(tenant, callId), { seq, head });
  const entries = programs.map((entry) => parseSaved(entry.bytes));
  return {
    epoch,
    records,
    programs: entries.filter((entry) => entry !== undefined),
    engines: engines.map((entry) => entry.key.split(".").at(-1) ?? ""),
    dropped: entries.filter((entry) => entry === undefined).length,
  };
}

/**
 * The leader's clock: monotonic, with the stream's zero. Measured once per epoch, by the write of the epoch.
 *
 * @param sentAt monotonic time at which the epoch was written, ms.
 * @returns what is added to the monotonic clock; undefined when a higher epoch exists already.
 */
export async function clockOffset(bus: Bus, pool: string, epoch: number, sentAt: number): Promise<number | undefined> {
  const entry = await readKey(bus, keys.epoch(pool));
  return entry?.seq === epoch ? entry.storedAtMs - sentAt : undefined;
}
