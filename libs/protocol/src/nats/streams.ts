/**
 * The streams, bucket and object store as data, and how they are made to exist (design §3).
 */
import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { errors as natsErrors } from "@nats-io/transport-node";
import { AutellixError } from "../errors.ts";
import {
  BODIES_STORE_BYTES_MAX,
  BODY_OBJECT_AGE_MAX_MS,
  CALLS_STREAM_BYTES_MAX,
  CALLS_STREAM_MSGS_MAX,
  DEAD_AGE_MAX_MS,
  DEAD_STREAM_BYTES_MAX,
  OUTCOME_AGE_MAX_MS,
  OUTCOMES_STREAM_BYTES_MAX,
} from "../limits.ts";
import { BODIES_STORE, CALLS_STREAM, DEAD_STREAM, keys, OUTCOMES_STREAM, POOLS_BUCKET, subjects } from "../subjects.ts";
import type { Bus } from "./bus.ts";
import { readKey, readKeys, writeKey } from "./state.ts";

const NANOS_PER_MS = 1_000_000;
/** JetStream refuses these when another client changes the stream at the same time. */
const UPDATE_TRIES_MAX = 20;
const UPDATE_PAUSE_MS = 20;
/** Three servers that have just started elect for some seconds, for the cluster and for each stream. */
const MAKE_MS_MAX = 60_000;
const MAKE_PAUSE_MS = 500;
/** "JetStream system temporarily unavailable" and its like; more time brings no server more room. */
const UNAVAILABLE_STATUS = 503;
const INSUFFICIENT_RESOURCES_CODE = 10_023;

export interface StreamOptions {
  /** 1 survives process deaths; 3 with `sync_interval: always` survives power loss too. */
  replicas: number;
}

/** A call leaves it only by an ack. Its subjects are added pool by pool, so that a publish to an unknown pool is refused. */
export const callsStream = {
  name: CALLS_STREAM,
  retention: RetentionPolicy.Workqueue,
  storage: StorageType.File,
  max_msgs_per_subject: 1,
  discard: DiscardPolicy.New,
  // Without it a second publish to an id would replace the first.
  discard_new_per_subject: true,
  max_msgs: CALLS_STREAM_MSGS_MAX,
  max_bytes: CALLS_STREAM_BYTES_MAX,
  allow_direct: true,
  duplicate_window: 2 * 60_000 * NANOS_PER_MS,
} satisfies Partial<StreamConfig>;

export const outcomesStream = {
  name: OUTCOMES_STREAM,
  subjects: ["autellix.outcomes.*.*.*"],
  retention: RetentionPolicy.Limits,
  storage: StorageType.File,
  max_msgs_per_subject: 1,
  max_age: OUTCOME_AGE_MAX_MS * NANOS_PER_MS,
  max_bytes: OUTCOMES_STREAM_BYTES_MAX,
  discard: DiscardPolicy.New,
  allow_direct: true,
} satisfies Partial<StreamConfig>;

export const deadStream = {
  name: DEAD_STREAM,
  subjects: ["autellix.dead.*.*.*"],
  retention: RetentionPolicy.Limits,
  storage: StorageType.File,
  max_msgs_per_subject: 1,
  max_age: DEAD_AGE_MAX_MS * NANOS_PER_MS,
  max_bytes: DEAD_STREAM_BYTES_MAX,
  discard: DiscardPolicy.Old,
  allow_direct: true,
} satisfies Partial<StreamConfig>;

/**
 * Makes streams, bucket and store exist, and the pool's subject part of CALLS. Idempotent, safe in parallel. A stream of
 * a cluster has no leader in its first moments, and nobody answers for it: so all of it is tried again.
 * @throws when the server does not answer for `MAKE_MS_MAX`, or refuses.
 */
export async function ensurePool(bus: Bus, pool: string, options: StreamOptions = { replicas: 1 }): Promise<void> {
  const untilMs = performance.now() + MAKE_MS_MAX;
  for (;;) {
    try {
      return await makePool(bus, pool, options);
    } catch (error) {
      if (performance.now() > untilMs || !isUnanswered(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, MAKE_PAUSE_MS));
    }
  }
}

/** No answer, or one of a server that knows no leader to ask. */
function isUnanswered(error: unknown): boolean {
  if (error instanceof JetStreamApiError)
    return error.status === UNAVAILABLE_STATUS && error.code !== INSUFFICIENT_RESOURCES_CODE;
  return error instanceof natsErrors.TimeoutError;
}

async function makePool(bus: Bus, pool: string, { replicas }: StreamOptions): Promise<void> {
  for (const stream of [outcomesStream, deadStream]) await addIfMissing(bus, { ...stream, num_replicas: replicas });
  await new Kvm(bus.js).create(POOLS_BUCKET, { history: 1, replicas, markerTTL: 60_000 });
  await new Objm(bus.js).create(BODIES_STORE, {
    replicas,
    ttl: BODY_OBJECT_AGE_MAX_MS * NANOS_PER_MS,
    max_bytes: BODIES_STORE_BYTES_MAX,
  });
  await addPoolSubject(bus, pool, replicas);
}

async function addIfMissing(bus: Bus, config: Partial<StreamConfig> & { name: string }): Promise<void> {
  if ((await streamConfig(bus, config.name)) !== undefined) return;
  try {
    await bus.jsm.streams.add(config);
  } catch (error) {
    // Somebody else made it meanwhile, with the same or with an operator's settings: both are fine.
    if ((await streamConfig(bus, config.name)) === undefined) throw error;
  }
}

/**
 * JetStream has no conditional update of a stream, so two pools that start together can overwrite each other's list.
 * Hence each writes its key first, and whoever changed the stream goes on until it has seen the stream hold the
 * subject of every key there is: the last one to change it has seen them all.
 */
async function addPoolSubject(bus: Bus, pool: string, replicas: number): Promise<void> {
  if ((await readKey(bus, keys.pool(pool))) === undefined) {
    const written = await writeKey(bus, keys.pool(pool), new Uint8Array());
    if (written.kind !== "stored")
      throw unavailable(`pool ${pool} could not be registered`, written.kind === "unknown" ? written.cause : undefined);
  }
  let lastError: unknown;
  for (let attempt = 0; attempt < UPDATE_TRIES_MAX; attempt++) {
    const pools = (await readKeys(bus, keys.pools)).map(({ key }) => key.slice(keys.pool("").length));
    const wanted = [...new Set([pool, ...pools])].map(subjects.callsOfPool);
    const config = await streamConfig(bus, CALLS_STREAM);
    const missing = wanted.filter((subject) => !config?.subjects.includes(subject));
    if (missing.length === 0) return;
    try {
      if (config === undefined) await bus.jsm.streams.add({ ...callsStream, num_replicas: replicas, subjects: wanted });
      else await bus.jsm.streams.update(CALLS_STREAM, { ...config, subjects: [...config.subjects, ...missing] });
    } catch (error) {
      lastError = error; // most likely somebody else changed the stream at the same time
      await new Promise((resolve) => setTimeout(resolve, UPDATE_PAUSE_MS * (attempt + 1)));
    }
  }
  throw unavailable(`the subject of pool ${pool} could not be added to ${CALLS_STREAM}`, lastError);
}

function unavailable(message: string, cause: unknown): AutellixError {
  return new AutellixError("queue_unavailable", message, { cause });
}

async function streamConfig(bus: Bus, name: string): Promise<StreamConfig | undefined> {
  try {
    return (await bus.jsm.streams.info(name)).config;
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return undefined;
    throw error;
  }
}

/**
 * Whether CALLS takes the pool's calls. Answered by the cluster, also while the stream itself has no leader.
 * @returns true when there is no answer: it is not known then that there is no such pool.
 */
export async function hasPoolSubject(bus: Bus, pool: string): Promise<boolean> {
  try {
    return (await bus.jsm.streams.find(subjects.callsOfPool(pool))) === CALLS_STREAM;
  } catch (error) {
    return !(error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound);
  }
}
