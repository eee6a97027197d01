/**
 * The connection to NATS for clients that put calls on the queue themselves.
 */
import { openBus } from "@autellix/protocol";
import { bindBus, busOf } from "./connection-bus.ts";

export interface ConnectOptions {
  /** `nats://127.0.0.1:4222`. */
  url: string;
  /** Shown in the server's monitoring. */
  name?: string;
  /** How long the first connection is tried. */
  connectTimeoutMs?: number;
}

/** An open connection, made by `connect`. It reconnects by itself for ever, until it is closed. */
export class QueueConnection {
  /** Sends what was published and closes. Again, it waits for the same end. */
  async close(): Promise<void> {
    const { nc } = busOf(this);
    if (nc.isClosed() || nc.isDraining()) await nc.closed();
    else await nc.drain();
  }
}

/** @throws AutellixError `queue_unavailable` when no server answers in time, or it is too old or has no JetStream. */
export async function connect({
  url,
  name = "autellix-client",
  connectTimeoutMs = 20_000,
}: ConnectOptions): Promise<QueueConnection> {
  const connection = new QueueConnection();
  bindBus(connection, await openBus({ url, name, connectTimeoutMs }));
  return connection;
}
