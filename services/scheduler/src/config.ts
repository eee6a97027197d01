/** Configuration of a scheduler process: parsed once, in `main.ts`. */
import { balancers, FACTOR, isBalancerName, isPolicyName, LEVELS, policies } from "@autellix/core";
import {
  ATTEMPTS_CRASHED_MAX,
  CALL_LIFETIME_MAX_MS,
  CANCEL_MEMORY_MS,
  LADDER_LEVELS_MAX,
  NAME_PATTERN,
  OUTCOMES_DISPATCH_SHARE_MAX,
  QUEUED_CALLS_MAX,
} from "@autellix/protocol";
import { commonConfig, envChoice, envInt, envNumber, envText, spansConfig } from "@autellix/runtime";
import { z } from "zod";

const POSITIVE_OR_OFF_MESSAGE = 'must be a positive number or "off"';
/** `off`: infinite. */
const positiveOrOff = z
  .string()
  .regex(/^(off|\d{1,9}(\.\d{1,9})?)$/, POSITIVE_OR_OFF_MESSAGE)
  .transform((text) => (text === "off" ? Number.POSITIVE_INFINITY : Number(text)))
  .refine((number) => number > 0, POSITIVE_OR_OFF_MESSAGE);
const INPUT_LOG_BYTES_MAX = 1_000_000_000;

const count = (fallback: number) => z.coerce.number().int().positive().default(fallback);

export const schedulerConfig = z.object({
  ...commonConfig,
  ...spansConfig,
  /** The pool that this process schedules. */
  AUTELLIX_POOL: z.string().regex(NAME_PATTERN, "must be A-Z a-z 0-9 _ - and at most 64 characters"),
  AUTELLIX_POLICY: z
    .string()
    .default("plas")
    .refine(isPolicyName, `must be one of ${Object.keys(policies).join(", ")}`),
  AUTELLIX_BALANCER: z
    .string()
    .default("locality")
    .refine(isBalancerName, `must be one of ${Object.keys(balancers).join(", ")}`),
  /** `calibrated` follows the service of completed calls; `fixed` stays as the next three say. */
  AUTELLIX_LADDER: envChoice(["calibrated", "fixed"]).default("calibrated"),
  /**
   * Upper end of Q1 in ms of service, while calibration has seen too few calls, or for good. About a short call's
   * service on the default model. For a policy that counts tokens: in tokens.
   */
  AUTELLIX_LADDER_FIRST_MS: count(1_000),
  /** K. Others' usual choice; the top must reach long programs' service. */
  AUTELLIX_LADDER_LEVELS: envInt({ min: 1, max: LADDER_LEVELS_MAX }).default(LEVELS),
  /** Each level is so many times as wide as the one before. */
  AUTELLIX_LADDER_FACTOR: envNumber({ min: 1, max: 100 }).default(FACTOR),
  /** Waiting over service at which a call goes back to Q1; `off`: never. Default: the core's. */
  AUTELLIX_BETA: positiveOrOff.optional(),
  /** Share of an engine's places that promoted calls may have at a time; `off`: no limit. Default: the core's. */
  AUTELLIX_PROMOTED_SHARE: positiveOrOff.optional(),
  /** A call gets its engine when it arrives (the paper), or when an engine has room for it. */
  AUTELLIX_BINDING: envChoice(["arrival", "late"]).default("arrival"),
  /** What a batch does at the first call that does not fit: stop (the paper), or look behind it. */
  AUTELLIX_MISFIT: envChoice(["stop", "skip"]).default("stop"),
  /** N of multi-step scheduling: others' usual choice. */
  AUTELLIX_WINDOW_STEPS: count(8),
  /** What fills a slot that frees inside a window. */
  AUTELLIX_RESERVE_CALLS_MAX: z.coerce.number().int().nonnegative().max(2).default(2),
  /** Calls a pool holds before frontends answer 429. */
  AUTELLIX_QUEUED_CALLS_MAX: count(QUEUED_CALLS_MAX),
  AUTELLIX_CALL_LIFETIME_MAX_MS: count(CALL_LIFETIME_MAX_MS).refine(
    (ms) => ms <= CALL_LIFETIME_MAX_MS,
    `must be at most ${CALL_LIFETIME_MAX_MS}: outcomes live twice as long`,
  ),
  AUTELLIX_ATTEMPTS_CRASHED_MAX: count(ATTEMPTS_CRASHED_MAX),
  /** A program without calls is forgotten after this time: longer than people pause, shorter than a day's traffic. */
  AUTELLIX_PROGRAM_IDLE_MAX_MS: count(3_600_000),
  /** Silence of an agent: 2 s are eight lost reports, 6 s are longer than a garbage collection or a paused disk. */
  AUTELLIX_AGENT_SUSPECT_MS: count(2_000),
  AUTELLIX_AGENT_LOST_MS: count(6_000),
  /** Longer than NATS's own fail-over (4–16 s). */
  AUTELLIX_LEASE_MS: count(20_000),
  AUTELLIX_STANDBY_MS: count(3_000),
  /** Replicas of the streams: 1 survives process deaths, 3 with `sync_interval: always` power loss too. */
  AUTELLIX_REPLICAS: count(1),
  /** Records what the core is fed, one file for each leadership: `inputs.jsonl` → `inputs.<pool>.<epoch>.jsonl`. */
  AUTELLIX_INPUT_LOG: envText().optional(),
  /** Bytes of one such file; the recording ends there. Some hours of a busy pool. */
  AUTELLIX_INPUT_LOG_BYTES_MAX: envInt({ min: 1_000, max: 1e12 }).default(INPUT_LOG_BYTES_MAX),
});

export type SchedulerConfig = z.infer<typeof schedulerConfig>;

/** A plan that its agent has not applied after this time is sent again: two idle reports. */
export const PLAN_RESEND_MS = 1_000;
/** Cancels of unknown ids remembered at once. */
export const CANCEL_MEMORY_MAX = 10_000;
export const LEASE_MARGIN_MS = 2_000;
export { CANCEL_MEMORY_MS, OUTCOMES_DISPATCH_SHARE_MAX };
