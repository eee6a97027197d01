/**
 * Publishing a call until it is known whether the queue has it (design §2.1).
 */
import { AutellixError, type Bus, hasPoolSubject, type PublishedCall, publishCall } from "@autellix/protocol";

/** Publishes under one id while the answer stays unknown; with the pauses about 20 s beside the requests' own time. */
const PUBLISH_TRIES_MAX = 8;
const PAUSE_MS = 300;
const PAUSE_MS_MAX = 5_000;

/**
 * @returns true = accepted: the call cannot be lost any more. False = still unknown.
 * @throws AutellixError `call_exists`, `queue_full`, or `not_found` when there is no such pool.
 */
export async function publishUntilKnown(bus: Bus, call: PublishedCall): Promise<boolean> {
  let unknown = false;
  // The answer "unknown pool" also comes from a stream that has no leader just now; one is elected within 16 s.
  let poolExists: boolean | undefined;
  for (let attempt = 1; attempt <= PUBLISH_TRIES_MAX; attempt++) {
    const result = await publishCall(bus, call);
    switch (result.kind) {
      case "accepted":
        return true;
      case "exists":
        // After an unknown answer under the same id it is our own call.
        if (unknown) return true;
        throw new AutellixError("call_exists");
      case "full":
        throw new AutellixError("queue_full");
      case "unknown_pool":
        poolExists ??= await hasPoolSubject(bus, call.address.pool);
        if (!poolExists) throw new AutellixError("not_found", `no pool ${call.address.pool}`);
        break;
      case "unknown":
        unknown = true;
        break;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (attempt - 1))));
  }
  if (!unknown) throw new AutellixError("queue_unavailable", "the queue has no leader; try again");
  return false;
}
