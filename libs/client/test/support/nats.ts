/**
 * A real nats-server with an empty store, for tests.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { obtainNatsServer, startNatsServer } from "@autellix/runtime";

export interface TestNats {
  url: string;
  stop(): Promise<void>;
}

export async function startTestNats(): Promise<TestNats> {
  const { path } = await obtainNatsServer({ env: process.env });
  const dataDir = await mkdtemp(join(tmpdir(), "autellix-client-"));
  const server = await startNatsServer({ bin: path, port: await freePort(), dataDir, env: process.env });
  return {
    url: server.url,
    async stop() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return address.port;
}
