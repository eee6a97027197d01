/**
 * Every subject, stream and bucket of the system (design §3). Nothing else in the repository spells one out.
 */
import { isName, toToken } from "./ids.ts";

export const CALLS_STREAM = "AUTELLIX_CALLS";
export const OUTCOMES_STREAM = "AUTELLIX_OUTCOMES";
export const DEAD_STREAM = "AUTELLIX_DEAD";
export const BODIES_STORE = "autellix_bodies";
export const POOLS_BUCKET = "autellix_pools";
/** The stream behind the bucket: raw publishes to it carry the expectations that `kv.put` cannot express. */
export const POOLS_STREAM = `KV_${POOLS_BUCKET}`;

export const subjects = {
  call: (pool: string, tenant: string, callId: string) => `autellix.calls.${pool}.${tenant}.${callId}`,
  callsOfPool: (pool: string) => `autellix.calls.${pool}.*.*`,
  outcome: (pool: string, tenant: string, callId: string) => `autellix.outcomes.${pool}.${tenant}.${callId}`,
  outcomesOfPool: (pool: string) => `autellix.outcomes.${pool}.*.*`,
  dead: (pool: string, tenant: string, callId: string) => `autellix.dead.${pool}.${tenant}.${callId}`,
  /** Plans for one engine's agent. */
  plan: (engine: string) => `autellix.engines.${engine}.plan`,
  /** Requests to one engine's agent: gap fill, full report. */
  ask: (engine: string) => `autellix.engines.${engine}.ask`,
  /** Reports and exits of a pool's agents. */
  report: (pool: string) => `autellix.pools.${pool}.report`,
  /** The leader's heartbeat. */
  beat: (pool: string) => `autellix.pools.${pool}.beat`,
  control: (pool: string, tenant: string) => `autellix.pools.${pool}.control.${tenant}`,
  controlOfPool: (pool: string) => `autellix.pools.${pool}.control.*`,
  status: (pool: string) => `autellix.pools.${pool}.status`,
  statusOfAll: "autellix.pools.*.status",
  /** Requests to the leader for what it shows to people: pages of a snapshot, and a watch. */
  view: (pool: string) => `autellix.pools.${pool}.view`,
  /** Changes of that, while somebody watches. */
  events: (pool: string) => `autellix.pools.${pool}.events`,
  /** A question to every process: what it knows of itself. */
  facts: "autellix.facts",
  /** Token messages, ends and questions for one run of one frontend. */
  tokens: (frontend: string) => `autellix.tokens.${frontend}`,
} as const;

/** Keys of the bucket `autellix_pools`. */
export const keys = {
  epoch: (pool: string) => `epoch.${pool}`,
  lease: (pool: string) => `lease.${pool}`,
  engine: (pool: string, engine: string) => `engine.${pool}.${engine}`,
  enginesOfPool: (pool: string) => `engine.${pool}.*`,
  program: (pool: string, tenant: string, program: string) => `program.${pool}.${tenant}.${toToken(program)}`,
  programsOfPool: (pool: string) => `program.${pool}.*.*`,
  /** Written once per pool: from these keys the subjects of CALLS are made. */
  pool: (pool: string) => `pool.${pool}`,
  pools: "pool.*",
  model: (name: string) => `model.${toToken(name)}`,
  models: "model.*",
} as const;

/** The subject under which a key of the bucket is stored. */
export function keySubject(key: string): string {
  return `$KV.${POOLS_BUCKET}.${key}`;
}

export interface CallAddress {
  pool: string;
  tenant: string;
  callId: string;
}

/** The address in `autellix.{calls,outcomes,dead}.<pool>.<tenant>.<callId>`, or undefined when it is none. */
export function parseCallSubject(subject: string): CallAddress | undefined {
  const [root, kind, pool, tenant, callId, ...rest] = subject.split(".");
  if (root !== "autellix" || rest.length > 0 || !pool || !tenant || !callId) return undefined;
  if (kind !== "calls" && kind !== "outcomes" && kind !== "dead") return undefined;
  return { pool, tenant, callId };
}

export function isValidAddress({ pool, tenant, callId }: CallAddress): boolean {
  return isName(pool) && isName(tenant) && isName(callId);
}

const FRONTEND_REPLY = /^autellix\.tokens\.([A-Za-z0-9_-]{1,64})$/;
/**
 * An inbox token may hold any character that NATS allows, but no wildcard, no space and no control character. The
 * class must leave out the dot: with it, this pattern takes exponential time on a hostile subject.
 */
const INBOX_REPLY = /^_INBOX(?:\.[!-)+,\-/-=?-~]+)+$/;
const REPLY_LENGTH_MAX = 256;

export type ReplyTarget = { kind: "frontend"; frontend: string } | { kind: "inbox"; subject: string };

/**
 * Where a call's tokens may go. A subject outside `autellix.tokens.<frontend>` and `_INBOX.>` is refused:
 * whoever names `$KV.…` as its inbox would overwrite a lease with tokens (design §3).
 */
export function parseReply(subject: string): ReplyTarget | undefined {
  if (subject.length > REPLY_LENGTH_MAX) return undefined;
  const frontend = FRONTEND_REPLY.exec(subject)?.[1];
  if (frontend) return { kind: "frontend", frontend };
  if (INBOX_REPLY.test(subject)) return { kind: "inbox", subject };
  return undefined;
}
