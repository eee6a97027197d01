/**
 * Every limit of a frontend: default, range, reason. `config.ts` makes one environment variable of each
 * (`openCallsMax` → `AUTELLIX_OPEN_CALLS_MAX`).
 */
import { BODY_BYTES_MAX, CALL_LIFETIME_MAX_MS } from "@autellix/protocol";

interface LimitRow {
  default: number;
  min: number;
  max: number;
  reason: string;
}

export const limitTable = {
  bodyBytesMax: row(BODY_BYTES_MAX, 1_024, BODY_BYTES_MAX, "Largest body; the queue takes no larger one."),
  bodiesBytesMax: row(
    256 << 20,
    1 << 20,
    4 << 30,
    "Bodies held until the queue has confirmed them, all calls together.",
  ),
  openCallsMax: row(10_000, 1, 200_000, "Clients waiting at one time; each costs a socket and some KB."),
  connectionsMax: row(20_000, 1, 200_000, "Connections at one time; each may hold a body that is still arriving."),
  publishMsMax: row(
    10_000,
    100,
    120_000,
    "Time in which an unanswered publish is repeated; longer than a NATS fail-over.",
  ),
  statusMsMax: row(3_000, 100, 60_000, "Age at which a pool's status counts for nothing; 12 missed ones."),
  sseHeadersAfterMs: row(
    5_000,
    0,
    60_000,
    "A refusal up to here has its own HTTP status; proxies give up later than this.",
  ),
  keepAliveMs: row(15_000, 100, 120_000, "Pause after which a comment is sent; common proxies cut after 30 to 60 s."),
  silenceMs: row(2_000, 100, 60_000, "Time without progress after which the outcome is read: the end may be lost."),
  silenceMsMax: row(30_000, 1_000, 300_000, "Longest pause between two such reads of one call."),
  outcomeReadsMax: row(
    64,
    1,
    10_000,
    "Outcomes read at one time, so that a long queue does not become a storm of reads.",
  ),
  gapItemsMax: row(64, 1, 10_000, "Token items held behind a gap of one call; what does not fit is asked for again."),
  callLifetimeMsMax: row(
    CALL_LIFETIME_MAX_MS,
    1_000,
    CALL_LIFETIME_MAX_MS,
    "The queue expires a call after this time.",
  ),
  lifetimeGraceMs: row(60_000, 100, 600_000, "Time after a call's deadline at which its client is given up on."),
  streamBufferBytesMax: row(
    1 << 20,
    128 << 10,
    64 << 20,
    "Unsent bytes of one stream; above it tokens are dropped and fetched later.",
  ),
  slowClientMsMax: row(60_000, 100, 600_000, "Time that a client may leave its stream undrained before it is cut off."),
  cancelsMax: row(20_000, 1, 1_000_000, "Cancels that are repeated until their call has ended."),
  cancelMsMax: row(
    60_000,
    1_000,
    600_000,
    "Time for which a cancel is repeated; the leader remembers unknown ids as long.",
  ),
  controlMsMax: row(
    10_000,
    100,
    120_000,
    "Time in which an unanswered program request is repeated; longer than a take-over's pause.",
  ),
  inquiriesMax: row(1_000, 1, 100_000, "Program requests that wait for answers at one time."),
  programsMax: row(
    100_000,
    1,
    10_000_000,
    "Programs whose pool is remembered; a forgotten one is hashed to the same pool again.",
  ),
  traceBytesMax: row(1 << 30, 1_024, 1e12, "Size of a call trace; some millions of calls. The recording ends there."),
  requestMsMax: row(60_000, 100, 600_000, "Time in which a request must have arrived whole."),
  drainMsMax: row(5_000, 0, 600_000, "Time that open streams have at a stop; the process is cut off after 8 s."),
} as const satisfies Record<string, LimitRow>;

export type LimitName = keyof typeof limitTable;
export type Limits = Readonly<Record<LimitName, number>>;

export const limitNames = Object.keys(limitTable) as LimitName[];

export const defaultLimits = Object.fromEntries(limitNames.map((name) => [name, limitTable[name].default])) as Limits;

/** Calls in `DELETE` and pauses between repeats; no operator needs to change them. */
export const PUBLISH_PAUSE_MS = { first: 100, max: 1_000 } as const;
export const CANCEL_PAUSE_MS = { first: 250, max: 2_000 } as const;
export const CONTROL_PAUSE_MS = { first: 250, max: 1_000 } as const;
export const GAP_PAUSE_MS = { first: 200, max: 2_000 } as const;
/** One clock for all timers: a scan of 10,000 calls costs less than as many timers. */
export const TICK_MS = 50;
/** `Retry-After` in seconds: bounds, and what is said while the rate of ends is unknown. */
export const RETRY_AFTER_S = { min: 1, max: 60, unknown: 5 } as const;

function row(value: number, min: number, max: number, reason: string): LimitRow {
  return { default: value, min, max, reason };
}
