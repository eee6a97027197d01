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
/** Fields that came later are optional: entries of the version before are still in the bucket. */
const savedSchema = z.object({
  program: z.string(),
  serviceMs: millis,
  waitingMs: millis,
  attained: z.number().optional(),
  measures: z.literal("tokens").optional(),
  /** The name of `attained` before there were policies that count tokens. */
  attainedMs: millis.optional(),
  pathServiceMs: millis.optional(),
  pathWaitingMs: millis.optional(),
  endedCalls: z.number(),
  endedAt: millis.nullish(),
  cancelled: z.literal(true).nullish(),
  pin: z.string().nullish(),
  engines: z.array(z.string()).default([]),
  arrivedAt: millis.optional(),
  lastArrivalAt: millis,
  lastCompletionAt: millis.nullish(),
  charged: z.array(z.string()),
});

/**
 * What an older entry does not say: its chains are as long as its sums, as on a program without forks, and it arrived
 * when it was last heard of.
 *
 * @returns undefined when the bytes are no entry: it is dropped, which costs a program its past, never a call.
 */
export function parseSaved(bytes: Uint8Array): SavedEntry | undefined {
  const parsed = savedSchema.safeParse(decoded(bytes));
  if (!parsed.success) return undefined;
  const { program, serviceMs, waitingMs, endedCalls, lastArrivalAt, ...rest } = parsed.data;
  return {
    program: programId(program),
    serviceMs,
    waitingMs,
    attained: rest.attained ?? rest.attainedMs ?? serviceMs,
    ...(rest.measures ? { measures: rest.measures } : {}),
    pathServiceMs: rest.pathServiceMs ?? serviceMs,
    pathWaitingMs: rest.pathWaitingMs ?? waitingMs,
    endedCalls,
    endedAt: rest.endedAt ?? undefined,
    ...(rest.cancelled ? { cancelled: true } : {}),
    pin: rest.pin == null ? undefined : engineId(rest.pin),
    engines: rest.engines.map(engineId),
    arrivedAt: rest.arrivedAt ?? lastArrivalAt,
    lastArrivalAt,
    lastCompletionAt: rest.lastCompletionAt ?? undefined,
    charged: rest.charged.map(callId),
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
