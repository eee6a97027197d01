/** A real nats-server with JetStream for one test file, on a free port and a folder of its own. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NatsServer, obtainNatsServer, startNatsServer } from "@autellix/runtime";

export interface TestNats {
  readonly url: string;
  readonly dataDir: string;
  /** Crashes the server and waits until it is gone; the store stays. */
  kill9(): Promise<void>;
  /** Starts it again on the same port and store; ends a running one first. */
  restart(): Promise<void>;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

/** @throws PartError that says what to do when no nats-server can be had: a test that needs one fails without. */
export async function startTestNats(): Promise<TestNats> {
  const { path: bin } = await obtainNatsServer({ env: process.env });
  const dataDir = await mkdtemp(join(tmpdir(), "autellix-test-nats-"));
  const port = await freePort();
  const start = () => startNatsServer({ bin, port, dataDir, env: process.env });
  let server: NatsServer;
  try {
    server = await start();
  } catch (error) {
    await rm(dataDir, { recursive: true, force: true });
    throw error;
  }
  return {
    url: server.url,
    dataDir,
    kill9: () => server.kill9(),
    async restart() {
      await server.stop();
      server = await start();
    },
    async stop() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** @returns a TCP port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no TCP port");
  return address.port;
}
