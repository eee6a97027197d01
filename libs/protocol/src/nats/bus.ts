/**
 * One connection to NATS, with the settings that were measured to survive restarts, and the plain core messages.
 * A server that is too old is refused here: it would silently ignore TTLs and bring acked work back.
 */
import { type JetStreamClient, type JetStreamManager, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type Msg, type NatsConnection, type Subscription } from "@nats-io/transport-node";
import type { z } from "zod";
import { decodeAs, encode } from "../codec.ts";
import { AutellixError } from "../errors.ts";

/** Acked work came back after `kill -9` on 2.9 and 2.10; per-message TTLs came with 2.11. */
export const SERVER_VERSION_MIN = "2.11.0";
/** JetStream API level of 2.11. */
export const API_LEVEL_MIN = 1;

export const REQUEST_TIMEOUT_MS = 2_000;

export interface Bus {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  /** Largest message that the server takes, headers included. */
  readonly payloadBytesMax: number;
}

export interface BusOptions {
  url: string;
  /** Shown in the server's monitoring. */
  name: string;
  /** How long the first connection is tried before `openBus` gives up. */
  connectTimeoutMs?: number;
}

/** @throws AutellixError `queue_unavailable` when no server answers, or when it is too old or has no JetStream. */
export async function openBus({ url, name, connectTimeoutMs = 20_000 }: BusOptions): Promise<Bus> {
  const nc = await connectWithin(url, name, connectTimeoutMs);
  try {
    const version = nc.info?.version ?? "0.0.0";
    if (!versionAtLeast(version, SERVER_VERSION_MIN)) {
      throw new AutellixError(
        "queue_unavailable",
        `nats-server at ${url} is ${version}; ${SERVER_VERSION_MIN} or newer is needed`,
      );
    }
    const jsm = await jetstreamManager(nc, { timeout: 5_000 }).catch((cause: unknown) => {
      throw new AutellixError("queue_unavailable", `nats-server at ${url} has no JetStream (start it with -js)`, {
        cause,
      });
    });
    const level = (await jsm.getAccountInfo()).api.level ?? 0;
    if (level < API_LEVEL_MIN) {
      throw new AutellixError(
        "queue_unavailable",
        `nats-server at ${url} has JetStream API level ${level}; ${API_LEVEL_MIN} is needed`,
      );
    }
    return { nc, js: jetstream(nc, { timeout: 5_000 }), jsm, payloadBytesMax: nc.info?.max_payload ?? 1_048_576 };
  } catch (error) {
    await nc.close();
    throw error;
  }
}

async function connectWithin(url: string, name: string, timeoutMs: number): Promise<NatsConnection> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await connect({
        servers: url,
        name,
        // For good: the default gives up after about 20 s.
        maxReconnectAttempts: -1,
        reconnectTimeWait: 250,
        reconnectJitter: 100,
        pingInterval: 2_000,
        maxPingOut: 3,
        timeout: 2_000,
      });
    } catch (cause) {
      if (performance.now() >= until)
        throw new AutellixError("queue_unavailable", `no nats-server answers at ${url}`, { cause });
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** @returns whether `version` (semver, any suffix ignored) is at least `min`. */
export function versionAtLeast(version: string, min: string): boolean {
  const parts = (text: string) =>
    text
      .replace(/^v/, "")
      .split(/[.-]/, 3)
      .map((p) => Number.parseInt(p, 10) || 0);
  const [a, b] = [parts(version), parts(min)];
  for (let i = 0; i < 3; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Fire and forget, msgpack. During an outage it is lost: everything sent this way is repeated by its sender. */
export function send(bus: Bus, subject: string, message: unknown): void {
  if (!bus.nc.isClosed()) bus.nc.publish(subject, encode(message));
}

/** @returns the validated answer, or undefined when there was none in time (lost, nobody there, invalid). */
export async function ask<S extends z.ZodType>(
  bus: Bus,
  subject: string,
  message: unknown,
  answer: S,
  timeoutMs = REQUEST_TIMEOUT_MS,
): Promise<z.output<S> | undefined> {
  let reply: Msg;
  try {
    reply = await bus.nc.request(subject, encode(message), { timeout: timeoutMs });
  } catch {
    return undefined; // no answer decides nothing (S4): every caller repeats or reads a record
  }
  return decodeAs(answer, reply.data);
}

/** Subscribes with a handler; an invalid message goes to `onInvalid` and harms nothing else. */
export function listen<S extends z.ZodType>(
  bus: Bus,
  subject: string,
  schema: S,
  handler: (message: z.output<S>, raw: Msg) => void,
  onInvalid: (error: AutellixError, raw: Msg) => void,
): Subscription {
  return bus.nc.subscribe(subject, {
    callback: (error, raw) => {
      if (error) {
        onInvalid(new AutellixError("queue_unavailable", error.message, { cause: error }), raw);
        return;
      }
      let message: z.output<S>;
      try {
        message = decodeAs(schema, raw.data);
      } catch (cause) {
        onInvalid(
          cause instanceof AutellixError ? cause : new AutellixError("internal_error", undefined, { cause }),
          raw,
        );
        return;
      }
      handler(message, raw);
    },
  });
}
