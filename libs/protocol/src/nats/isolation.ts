/**
 * Leaves a server that is cut off from its cluster: it keeps its clients' connections, answers their pings, and can
 * neither store nor read for them.
 */
import type { JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";

const LOOK_MS = 2_000;
/** Longer than most elections, in which no server answers. */
const ISOLATED_MS = 10_000;

/**
 * Looks until the connection is closed. Where no server has a majority, it goes from one to the next.
 * @param onStatus told in one line, for a log.
 */
export function leaveIsolated(nc: NatsConnection, jsm: JetStreamManager, onStatus: (text: string) => void): void {
  let unansweredFromMs: number | undefined;
  let looking = false;
  let isConnected = true;
  const look = async () => {
    const sentMs = performance.now();
    try {
      await jsm.getAccountInfo();
      unansweredFromMs = undefined;
    } catch {
      unansweredFromMs ??= sentMs;
    }
    if (unansweredFromMs === undefined || performance.now() - unansweredFromMs < ISOLATED_MS || nc.isClosed()) return;
    unansweredFromMs = undefined;
    onStatus(`JetStream does not answer at ${nc.getServer()}: another server is tried`);
    await nc.reconnect();
  };
  const timer = setInterval(() => {
    if (looking || !isConnected) return;
    looking = true;
    void look().finally(() => {
      looking = false;
    });
  }, LOOK_MS).unref();
  void (async () => {
    for await (const { type } of nc.status()) {
      if (type === "disconnect") [isConnected, unansweredFromMs] = [false, undefined];
      if (type === "reconnect") isConnected = true;
    }
    clearInterval(timer);
  })();
}
