/** Ports for servers that are stopped and started again: outside of those that the system gives to connections. */
import { createServer } from "node:net";

/** Below Linux's own range for connections (32768 and up). */
const FIRST = 20_000;
const COUNT = 12_000;
const TRIES_MAX = 1_000;

/** @returns so many different ports of 127.0.0.1 that nobody listens on. */
export async function stablePorts(count: number): Promise<number[]> {
  const found = new Set<number>();
  for (let tries = 0; found.size < count; tries++) {
    if (tries === TRIES_MAX) throw new Error(`found no ${count} free ports`);
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (!found.has(port) && (await isFree(port))) found.add(port);
  }
  return [...found];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
  });
}
