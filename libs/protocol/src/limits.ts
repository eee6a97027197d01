/**
 * Limits that more than one service must agree on. Each has a unit in its name, and a reason.
 */

/** Largest request body a call may have. A long context of text is below 1 MB; images need more. */
export const BODY_BYTES_MAX = 8 * 1024 * 1024;
/** Calls a pool holds before frontends answer 429. */
export const QUEUED_CALLS_MAX = 10_000;
/** Hard stop of the stream over all pools, for publishers that read no status. */
export const CALLS_STREAM_MSGS_MAX = 200_000;
export const CALLS_STREAM_BYTES_MAX = 4 * 1024 * 1024 * 1024;
export const OUTCOMES_STREAM_BYTES_MAX = 4 * 1024 * 1024 * 1024;
/** Above this share of OUTCOMES nothing new is dispatched; the rest is for markers and running calls. */
export const OUTCOMES_DISPATCH_SHARE_MAX = 0.8;
export const DEAD_STREAM_BYTES_MAX = 256 * 1024 * 1024;
export const DEAD_AGE_MAX_MS = 7 * 24 * 3_600_000;
export const BODIES_STORE_BYTES_MAX = 4 * 1024 * 1024 * 1024;
/** A call that has not ended after this time is expired. A client's own deadline can only be shorter. */
export const CALL_LIFETIME_MAX_MS = 3_600_000;
/** Must exceed `CALL_LIFETIME_MAX_MS`: an expired fence would let a stale attempt write (design §3). */
export const OUTCOME_AGE_MAX_MS = 2 * 3_600_000;
export const BODY_OBJECT_AGE_MAX_MS = 2 * 3_600_000;
/** Results above this size go to the object store; the outcome then holds a reference. */
export const RESULT_INLINE_BYTES_MAX = 512 * 1024;
/** Room that headers and the protocol need inside the server's payload limit. */
export const PAYLOAD_HEADROOM_BYTES = 16 * 1024;
/** Crashes of an engine that one call may be charged with before it is dead (design §4, Poison). */
export const ATTEMPTS_CRASHED_MAX = 3;
/** Time that a frontend may be silent before its calls are cancelled (design §2). */
export const ORPHAN_GRACE_MS = 10_000;
/** Time for which a cancel of an unknown id is remembered: it can overtake its call. */
export const CANCEL_MEMORY_MS = 60_000;
/** Parent calls that a call may name: a join of more branches names the ones that ended last. */
export const PARENT_CALLS_MAX = 64;
/** Levels of a ladder: doubling, these reach from a microsecond to centuries. */
export const LADDER_LEVELS_MAX = 64;
export const DEFAULT_TENANT = "default";
