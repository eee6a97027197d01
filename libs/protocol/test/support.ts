/** Small parts that several integration tests of this package use. */
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net";
import {
  type Bus,
  CALLS_STREAM,
  isConnected,
  openBus,
  type PublishedCall,
  type PublishResult,
  publishCall,
} from "../src/index.ts";

export const text = (value: string) => new TextEncoder().encode(value);

export async function open(url: string, name = "test"): Promise<Bus> {
  return await openBus({ url, name, connectTimeoutMs: 10_000 });
}

export function call(pool: string, callId: string, body: Uint8Array | string = "{}"): PublishedCall {
  return {
    address: { pool, tenant: "default", callId },
    body: typeof body === "string" ? text(body) : body,
    fields: {},
  };
}

export async function accept(bus: Bus, published: PublishedCall): Promise<number> {
  const result = await publishCall(bus, published);
  if (result.kind !== "accepted") throw new Error(`not accepted: ${describe(result)}`);
  return result.seq;
}

export function describe(result: PublishResult): string {
  return result.kind === "unknown" ? `unknown (${String(result.cause)})` : result.kind;
}

/** Sets one limit of CALLS. */
export async function limitCalls(bus: Bus, limits: { max_msgs?: number; max_bytes?: number }): Promise<void> {
  const { config } = await bus.jsm.streams.info(CALLS_STREAM);
  await bus.jsm.streams.update(CALLS_STREAM, { ...config, ...limits });
}

/** Resolves with the first defined value of `probe`, asked again until then. The test's own time limit ends it. */
export async function eventually<T>(probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Resolves when the connection works again. */
export async function connectedAgain(bus: Bus): Promise<void> {
  await eventually(async () =>
    isConnected(bus)
      ? await bus.nc.flush().then(
          () => true,
          () => undefined,
        )
      : undefined,
  );
}

export interface Proxy {
  readonly url: string;
  /** From now on, bytes of the server are taken and thrown away: sent, but never received. */
  swallow(): void;
  /** Cuts every connection; new ones pass again. */
  cut(): void;
  close(): Promise<void>;
}

/** A wire between a client and a server that can lose what is on it. */
export async function startProxy(serverUrl: string): Promise<Proxy> {
  const { hostname, port } = new URL(serverUrl.replace(/^nats:/, "http:"));
  const sockets = new Set<Socket>();
  let swallowing = false;
  const server = createServer((client) => {
    const upstream = createConnection({ host: hostname, port: Number(port) });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => socket.destroy());
    }
    client.on("data", (bytes) => upstream.write(bytes));
    upstream.on("data", (bytes) => {
      if (!swallowing) client.write(bytes);
    });
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    swallow: () => {
      swallowing = true;
    },
    cut: () => {
      swallowing = false;
      for (const socket of sockets) socket.destroy();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A server that says it is nats-server of some version, and answers pings, but nothing else. */
export async function startFakeServer(
  info: Record<string, unknown>,
): Promise<{ url: string; close(): Promise<void>; received: string[] }> {
  const sockets = new Set<Socket>();
  const received: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.write(`INFO ${JSON.stringify({ server_id: "fake", max_payload: 1_048_576, headers: true, ...info })}\r\n`);
    socket.on("data", (bytes) => {
      received.push(bytes.toString());
      if (bytes.toString().includes("PING\r\n")) socket.write("PONG\r\n");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
