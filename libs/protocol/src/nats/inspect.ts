/** What an operator's check reads of NATS: servers, streams and their settings, without the limits of `openBus`. */
import {
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  type StreamConfig,
} from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { z } from "zod";
import { BODIES_STORE, CALLS_STREAM, DEAD_STREAM, OUTCOMES_STREAM, POOLS_STREAM, subjects } from "../subjects.ts";
import { connectUntil, JETSTREAM_TIMEOUT_MS } from "./connect.ts";
import { callsStream, deadStream, outcomesStream } from "./streams.ts";

/** One server of the cluster, as it says itself. */
export interface ServerSeen {
  name: string;
  version: string;
  hasJetStream: boolean;
  /** Its clock, Unix ms, and when by ours it was asked and heard. */
  atMs: number;
  askedAtMs: number;
  heardAtMs: number;
}

export interface ConnectedServer {
  version: string;
  hasJetStream: boolean;
  payloadBytesMax: number;
  /** `host:port` of this and the other servers of the cluster, as it tells them to clients. */
  addresses: string[];
  host: string;
}

/** A connection to any server, however unfit. */
export interface Inspection {
  readonly server: ConnectedServer;
  /** All servers that answer, by name. Older ones than 2.10 do not. */
  servers(waitMs: number): Promise<ServerSeen[]>;
  /** @throws when JetStream does not answer. @returns undefined when the account has none. */
  apiLevel(): Promise<number | undefined>;
  /** Settings of each stream of ours; undefined for one that is missing. */
  streams(): Promise<Map<string, StreamSeen | undefined>>;
  /** Calls of a pool that are in the queue. */
  queuedCalls(pool: string): Promise<number>;
  close(): Promise<void>;
}

export interface StreamSeen {
  config: StreamConfig;
  messages: number;
}

const STATZ = "$SYS.REQ.ACCOUNT.PING.STATZ";
const statzSchema = z.object({
  server: z.object({ name: z.string(), ver: z.string(), jetstream: z.boolean().optional(), time: z.string() }),
});

/** Names of the streams, the bucket's and the object store's among them. */
export const STREAMS = [CALLS_STREAM, OUTCOMES_STREAM, DEAD_STREAM, POOLS_STREAM, `OBJ_${BODIES_STORE}`] as const;

/** What a stream must be for the guarantees to hold; sizes and ages an operator may choose. */
export const streamsNeeded: Readonly<Record<(typeof STREAMS)[number], Partial<StreamConfig>>> = {
  [CALLS_STREAM]: needed(callsStream),
  [OUTCOMES_STREAM]: needed(outcomesStream),
  [DEAD_STREAM]: needed(deadStream),
  [POOLS_STREAM]: { max_msgs_per_subject: 1, allow_msg_ttl: true, allow_direct: true },
  [`OBJ_${BODIES_STORE}`]: {},
};

function needed({
  retention,
  storage,
  max_msgs_per_subject,
  discard,
  allow_direct,
  ...more
}: Partial<StreamConfig>): Partial<StreamConfig> {
  const { discard_new_per_subject, subjects: own } = more;
  return Object.fromEntries(
    Object.entries({
      retention,
      storage,
      max_msgs_per_subject,
      discard,
      discard_new_per_subject,
      allow_direct,
      subjects: own,
    }).filter(([, value]) => value !== undefined),
  );
}

/** The subject that CALLS must have for a pool. */
export const subjectOfPool = subjects.callsOfPool;

/** @throws AutellixError `queue_unavailable` when nothing answers, or the credentials are refused. */
export async function inspect(url: string, name: string, timeoutMs: number): Promise<Inspection> {
  const nc = await connectUntil(url, name, performance.now() + timeoutMs);
  const { info } = nc;
  return {
    server: {
      version: info?.version ?? "0.0.0",
      hasJetStream: info?.jetstream === true,
      payloadBytesMax: info?.max_payload ?? 0,
      host: info?.host ?? "",
      addresses: [...new Set([nc.getServer(), ...(info?.connect_urls ?? [])])],
    },
    servers: (waitMs) => serversOf(nc, waitMs),
    apiLevel: () => apiLevelOf(nc),
    streams: () => streamsOf(nc),
    async queuedCalls(pool) {
      const jsm = await manager(nc);
      const { state } = await jsm.streams.info(CALLS_STREAM, { subjects_filter: subjects.callsOfPool(pool) });
      return Object.values(state.subjects ?? {}).reduce((sum, count) => sum + count, 0);
    },
    close: () => nc.close(),
  };
}

async function serversOf(nc: NatsConnection, waitMs: number): Promise<ServerSeen[]> {
  const seen = new Map<string, ServerSeen>();
  const inbox = `_INBOX.servers-${nc.info?.client_id ?? 0}-${Date.now()}`;
  let askedAtMs = Date.now();
  const subscription = nc.subscribe(inbox, {
    callback: (error, message) => {
      if (error || message.data.length === 0) return;
      const parsed = statzSchema.safeParse(jsonOf(message.string()));
      if (!parsed.success) return;
      const { name, ver, jetstream, time } = parsed.data.server;
      const atMs = Date.parse(time);
      seen.set(name, { name, version: ver, hasJetStream: jetstream === true, atMs, askedAtMs, heardAtMs: Date.now() });
    },
  });
  await nc.flush();
  askedAtMs = Date.now();
  // A server without clients of the account answers only when it is asked to.
  nc.publish(STATZ, JSON.stringify({ include_unused: true }), { reply: inbox });
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  subscription.unsubscribe();
  return [...seen.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function apiLevelOf(nc: NatsConnection): Promise<number | undefined> {
  try {
    const jsm = await manager(nc);
    return (await jsm.getAccountInfo()).api.level ?? 0;
  } catch (error) {
    const none = error instanceof JetStreamApiError && error.code === JetStreamApiCodes.JetStreamNotEnabledForAccount;
    if (none || nc.info?.jetstream !== true) return undefined;
    throw error;
  }
}

async function streamsOf(nc: NatsConnection): Promise<Map<string, StreamSeen | undefined>> {
  const jsm = await manager(nc);
  const found = new Map<string, StreamSeen | undefined>();
  for (const name of STREAMS) {
    try {
      const { config, state } = await jsm.streams.info(name);
      found.set(name, { config, messages: state.messages });
    } catch (error) {
      if (!(error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound)) throw error;
      found.set(name, undefined);
    }
  }
  return found;
}

function manager(nc: NatsConnection): Promise<JetStreamManager> {
  return jetstreamManager(nc, { timeout: JETSTREAM_TIMEOUT_MS, checkAPI: false });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
