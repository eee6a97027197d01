/**
 * Leaves a server that is cut off from its cluster: it keeps its clients' connections, answers their pings, and can
 * neither store nor read for them.
 */
import type { Bus } from "./bus.ts";
import type { Watch } from "./connect.ts";

const LOOK_MS = 2_000;
/** Longer than most elections, in which no server answers. */
const ISOLATED_MS = 10_000;

/** Looks until the connection is closed. Where no server has a majority, it goes from one to the next. */
export function leaveIsolated({ nc, jsm }: Bus, watch: Watch): void {
  let unansweredFromMs: number | undefined;
  let looking = false;
  watch.lost.add(() => {
    unansweredFromMs = undefined;
  });
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
    watch.onStatus(`JetStream does not answer at ${nc.getServer()}: another server is tried`);
    await nc.reconnect();
  };
  const timer = setInterval(() => {
    if (looking || !watch.connected) return;
    looking = true;
    void look().finally(() => {
      looking = false;
    });
  }, LOOK_MS).unref();
  void nc.closed().then(() => clearInterval(timer));
}
