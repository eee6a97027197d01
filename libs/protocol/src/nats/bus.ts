/**
 * One connection to NATS and the plain core messages on it.
 */
import { type JetStreamClient, type JetStreamManager, jetstream } from "@nats-io/jetstream";
import {
  type Msg,
  type NatsConnection,
  errors as natsErrors,
  headers as natsHeaders,
  type Status,
  type Subscription,
} from "@nats-io/transport-node";
import type { z } from "zod";
import { decodeAs, encode } from "../codec.ts";
import { AutellixError } from "../errors.ts";
import {
  connectUntil,
  JETSTREAM_TIMEOUT_MS,
  jetStreamUntil,
  refuseUnfit,
  SERVER_VERSION_MIN,
  text,
  versionAtLeast,
  type Watch,
  withoutCredentials,
} from "./connect.ts";
import { leaveIsolated } from "./isolation.ts";

export { API_LEVEL_MIN, SERVER_VERSION_MIN, versionAtLeast } from "./connect.ts";

export const REQUEST_TIMEOUT_MS = 2_000;

export interface Bus {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  /** Largest message that the server takes, headers included. */
  readonly payloadBytesMax: number;
}

export interface BusOptions {
  /** `nats://host:port`, optionally with `user:password@`; several servers of one cluster separated by commas. */
  url: string;
  /** Shown in the server's monitoring. */
  name: string;
  /** How long the first connection is tried before `openBus` gives up. */
  connectTimeoutMs?: number;
  /** Told in one line, for a log: connection lost and back, errors of the server, answers that make no sense. */
  onStatus?: (text: string) => void;
}

const watches = new WeakMap<Bus, Watch>();

/**
 * @throws AutellixError `queue_unavailable` when no server answers within `connectTimeoutMs`, when it refuses the
 * credentials, is too old, has no JetStream, or takes only tiny messages.
 */
export async function openBus({ url, name, connectTimeoutMs = 20_000, onStatus = () => {} }: BusOptions): Promise<Bus> {
  const until = performance.now() + connectTimeoutMs;
  const shown = withoutCredentials(url);
  const nc = await connectUntil(url, name, until);
  try {
    refuseUnfit(nc, shown);
    const jsm = await jetStreamUntil(nc, shown, until);
    const payloadBytesMax = nc.info?.max_payload ?? 1_048_576;
    const bus: Bus = { nc, js: jetstream(nc, { timeout: JETSTREAM_TIMEOUT_MS }), jsm, payloadBytesMax };
    const watch: Watch = { connected: true, reconnects: 0, onStatus, lost: new Set() };
    watches.set(bus, watch);
    follow(nc, watch).catch((error: unknown) => onStatus(`the connection is no longer watched: ${text(error)}`));
    if (url.includes(",")) leaveIsolated(bus, watch);
    return bus;
  } catch (error) {
    await nc.close();
    throw error;
  }
}

/** @returns false from the loss of the connection until it is back. */
export function isConnected(bus: Bus): boolean {
  return (watches.get(bus)?.connected ?? true) && !bus.nc.isClosed();
}

/** What the connection has done since it was made. */
export interface BusUse {
  connected: boolean;
  reconnects: number;
  inMessages: number;
  outMessages: number;
  inBytes: number;
  outBytes: number;
}

export function busUse(bus: Bus): BusUse {
  const { inMsgs, outMsgs, inBytes, outBytes } = bus.nc.stats();
  const reconnects = watches.get(bus)?.reconnects ?? 0;
  return { connected: isConnected(bus), reconnects, inMessages: inMsgs, outMessages: outMsgs, inBytes, outBytes };
}

/** Calls `tell` at each loss of the connection. @returns ends that. */
export function onConnectionLost(bus: Bus, tell: () => void): () => void {
  const lost = watches.get(bus)?.lost;
  lost?.add(tell);
  return () => lost?.delete(tell);
}

function report(bus: Bus, line: string): void {
  watches.get(bus)?.onStatus(line);
}

async function follow(nc: NatsConnection, watch: Watch): Promise<void> {
  for await (const status of nc.status()) {
    if (status.type === "disconnect") {
      watch.connected = false;
      for (const tell of [...watch.lost]) tell();
    }
    if (status.type === "reconnect") {
      watch.connected = true;
      watch.reconnects++;
    }
    const line = statusLine(status);
    if (line) watch.onStatus(line);
    if (status.type !== "reconnect") continue;
    const version = nc.info?.version;
    if (version && !versionAtLeast(version, SERVER_VERSION_MIN)) {
      watch.onStatus(`nats-server is ${version} now; ${SERVER_VERSION_MIN} or newer is needed`);
    }
  }
  watch.connected = false;
}

function statusLine(status: Status): string | undefined {
  switch (status.type) {
    case "disconnect":
      return `lost nats-server ${status.server}`;
    case "reconnect":
      return `connected to nats-server ${status.server} again`;
    case "staleConnection":
      return "nats-server does not answer pings";
    case "ldm":
      return `nats-server ${status.server} is about to shut down`;
    case "error":
      return `nats-server says: ${status.error.message}`;
    case "slowConsumer":
      return `messages on ${status.sub.getSubject()} pile up: ${status.pending}`;
    default:
      return undefined;
  }
}

/**
 * Fire and forget, msgpack. During an outage it is lost: everything sent this way is repeated by its sender.
 * @throws when the message is larger than `payloadBytesMax`: its sender must bound it.
 */
export function send(bus: Bus, subject: string, message: unknown): void {
  if (!bus.nc.isClosed() && !bus.nc.isDraining()) bus.nc.publish(subject, encode(message));
}

/** JSON for an inbox outside, fire and forget: it confirms nothing, the outcome is its guarantee. */
export function sendInbox(bus: Bus, subject: string, message: unknown, fields: Record<string, string> = {}): void {
  if (bus.nc.isClosed() || bus.nc.isDraining()) return;
  const made = natsHeaders();
  for (const [name, value] of Object.entries(fields)) made.set(name, value);
  bus.nc.publish(subject, encode(message, "json"), { headers: made });
}

/**
 * @returns the validated answer, or undefined when there was none in time (lost, nobody there, invalid). No answer
 * decides nothing (S4): every caller repeats, or reads a record. What a repetition cannot mend goes to `onStatus`.
 */
export async function ask<S extends z.ZodType>(
  bus: Bus,
  subject: string,
  message: unknown,
  answer: S,
  timeoutMs = REQUEST_TIMEOUT_MS,
): Promise<z.output<S> | undefined> {
  const request = encode(message);
  let reply: Msg;
  try {
    reply = await bus.nc.request(subject, request, { timeout: timeoutMs });
  } catch (error) {
    if (error instanceof natsErrors.InvalidArgumentError || error instanceof natsErrors.PermissionViolationError) {
      report(bus, `could not ask ${subject}: ${error.message}`);
    }
    return undefined;
  }
  try {
    return decodeAs(answer, reply.data);
  } catch (error) {
    report(bus, `invalid answer from ${subject}: ${text(error)}`);
    return undefined;
  }
}

/**
 * Subscribes with a handler. An invalid message, or one on which the handler throws, goes to `onInvalid` and harms
 * nothing else: an exception that reached the client would end its read loop, and with it the whole connection.
 */
export function listen<S extends z.ZodType>(
  bus: Bus,
  subject: string,
  schema: S,
  handler: (message: z.output<S>, raw: Msg) => void,
  onInvalid: (error: AutellixError, raw: Msg) => void,
): Subscription {
  const refuse = (cause: unknown, raw: Msg) => {
    try {
      onInvalid(toError(cause), raw);
    } catch (error) {
      report(bus, `a message on ${subject} was dropped: ${text(error)}`);
    }
  };
  return bus.nc.subscribe(subject, {
    callback: (error, raw) => {
      if (error) {
        refuse(new AutellixError("queue_unavailable", error.message, { cause: error }), raw);
        return;
      }
      try {
        handler(decodeAs(schema, raw.data), raw);
      } catch (cause) {
        refuse(cause, raw);
      }
    },
  });
}

function toError(cause: unknown): AutellixError {
  return cause instanceof AutellixError ? cause : new AutellixError("internal_error", undefined, { cause });
}
