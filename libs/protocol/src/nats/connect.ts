/**
 * How a connection to NATS comes about, with the settings that were measured to survive restarts. A server that is too
 * old is refused here: it would silently ignore TTLs and bring acked work back.
 */
import { JetStreamApiCodes, JetStreamApiError, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection, errors as natsErrors } from "@nats-io/transport-node";
import { AutellixError } from "../errors.ts";
import { PAYLOAD_HEADROOM_BYTES, RESULT_INLINE_BYTES_MAX } from "../limits.ts";
import { cancelSettledCheaply } from "./settled-requests.ts";

cancelSettledCheaply();

/** Acked work came back after `kill -9` on 2.9 and 2.10; per-message TTLs came with 2.11. */
export const SERVER_VERSION_MIN = "2.11.0";
/** JetStream API level of 2.11. */
export const API_LEVEL_MIN = 1;

/** Time for one JetStream answer. */
export const JETSTREAM_TIMEOUT_MS = 5_000;

/** What is known of a connection beside its handles. */
export interface Watch {
  connected: boolean;
  reconnects: number;
  onStatus: (text: string) => void;
  lost: Set<() => void>;
}
const CONNECT_PAUSE_MS = 200;

/** @throws AutellixError when the server is too old or takes only tiny messages. */
export function refuseUnfit(nc: NatsConnection, shown: string): void {
  const version = nc.info?.version ?? "0.0.0";
  if (!versionAtLeast(version, SERVER_VERSION_MIN)) {
    throw new AutellixError(
      "queue_unavailable",
      `nats-server at ${shown} is ${version}; ${SERVER_VERSION_MIN} or newer is needed`,
    );
  }
  const bytesMin = RESULT_INLINE_BYTES_MAX + PAYLOAD_HEADROOM_BYTES;
  if (nc.info && nc.info.max_payload < bytesMin) {
    throw new AutellixError(
      "queue_unavailable",
      `nats-server at ${shown} takes messages up to ${nc.info.max_payload} bytes; set max_payload to ${bytesMin} or more`,
    );
  }
}

/** A server that has just started, or a cluster that elects, has JetStream a moment later: hence several tries. */
export async function jetStreamUntil(nc: NatsConnection, shown: string, until: number): Promise<JetStreamManager> {
  for (;;) {
    try {
      const timeout = Math.max(CONNECT_PAUSE_MS, Math.min(JETSTREAM_TIMEOUT_MS, until - performance.now()));
      const jsm = await jetstreamManager(nc, { timeout, checkAPI: false });
      const level = (await jsm.getAccountInfo()).api.level ?? 0;
      if (level < API_LEVEL_MIN) {
        throw new AutellixError(
          "queue_unavailable",
          `nats-server at ${shown} has JetStream API level ${level}; ${API_LEVEL_MIN} is needed`,
        );
      }
      return await jetstreamManager(nc, { timeout: JETSTREAM_TIMEOUT_MS, checkAPI: false });
    } catch (cause) {
      if (cause instanceof AutellixError) throw cause;
      const none =
        nc.info?.jetstream !== true ||
        (cause instanceof JetStreamApiError && cause.code === JetStreamApiCodes.JetStreamNotEnabledForAccount);
      if (none && !nc.isClosed()) {
        throw new AutellixError("queue_unavailable", `nats-server at ${shown} has no JetStream (start it with -js)`, {
          cause,
        });
      }
      if (performance.now() >= until) {
        throw new AutellixError("queue_unavailable", `JetStream at ${shown} does not answer: ${text(cause)}`, {
          cause,
        });
      }
      await pause(CONNECT_PAUSE_MS);
    }
  }
}

/** @param until on the monotonic clock, ms. */
export async function connectUntil(url: string, name: string, until: number): Promise<NatsConnection> {
  const shown = withoutCredentials(url);
  const credentials = credentialsIn(url);
  for (;;) {
    try {
      return await connect({
        servers: url.split(",").map((server) => server.trim()),
        name,
        ...credentials,
        // For good: the default gives up after about 20 s.
        maxReconnectAttempts: -1,
        reconnectTimeWait: 250,
        reconnectJitter: 100,
        // Each request would note where it was made, twice, in case it fails: a tenth of an agent's CPU time.
        noAsyncTraces: true,
        pingInterval: 2_000,
        maxPingOut: 3,
        timeout: Math.max(CONNECT_PAUSE_MS, Math.min(2_000, until - performance.now())),
      });
    } catch (cause) {
      if (cause instanceof natsErrors.AuthorizationError) {
        throw new AutellixError("queue_unavailable", `nats-server at ${shown} refuses the credentials`, { cause });
      }
      if (cause instanceof TypeError) {
        throw new AutellixError("queue_unavailable", `${shown} is no address of a nats-server`, { cause });
      }
      if (performance.now() >= until) {
        throw new AutellixError("queue_unavailable", `no nats-server answers at ${shown}: ${text(cause)}`, { cause });
      }
      await pause(CONNECT_PAUSE_MS);
    }
  }
}

/** `user:password@` or `token@` of the first server that has one; the client itself ignores them. */
function credentialsIn(url: string): { user: string; pass: string } | { token: string } | undefined {
  const found = /\/\/([^@/,]*)@/.exec(url)?.[1];
  if (!found) return undefined;
  const [user, pass] = found.split(":", 2).map(decodeURIComponent);
  return pass === undefined ? { token: user ?? "" } : { user: user ?? "", pass };
}

export function withoutCredentials(url: string): string {
  return url.replace(/\/\/[^@/,]*@/g, "//");
}

export function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
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
