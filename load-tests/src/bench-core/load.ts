/**
 * The load that the core is driven with: how many calls are queued, what they are like, and what the engine behind
 * them can hold. One record says all of it; the report prints it.
 */
import {
  balancers,
  type CoreConfig,
  type EngineCapacity,
  isPolicyName,
  type PolicyName,
  policies,
} from "@autellix/core";

export interface CoreLoad {
  policy: PolicyName;
  /** Calls in the core beside those of the batch, at all times. */
  queuedCalls: number;
  /** Calls of a program, one after the other: the next one arrives when the one before has ended. */
  callsPerProgram: number;
  batchCallsMax: number;
  /** Steps between two plans. */
  windowSteps: number;
  /** Windows that a call takes: geometric, with this mean. */
  windowsPerCall: number;
  /** Moments in a window at which calls arrive; each asks for a plan of its own when the core wants one. */
  arrivalMoments: number;
  /**
   * Virtual time in which the engine serves as many calls as are queued: how fast it is. Waiting, deadlines and
   * starvation are then the same at every depth.
   */
  turnoverMs: number;
  deadlineMs: number;
  /** Programs are started and ended, as `program()` of the client does; else they only have names. */
  startsPrograms: boolean;
  /** Calls that the agent holds, running or parked: all of them are in every report. */
  heldCallsMax: number;
  /** The engine keeps contexts of ended calls as planned, and has a host tier: the plan carries more. */
  retains: boolean;
  seed: number;
}

export const QUEUED_CALLS_MAX = 4_000_000;
/** 427,000 tokens (8B model on one A100-80GB, paper §6) in blocks of 16. */
const KV_BLOCKS = 26_687;
const BLOCK_TOKENS = 16;
/** 200 GiB at 128 KiB per token. */
const HOST_BLOCKS = 102_400;
/** Running and parked contexts, as multiples of the batch. */
const RESIDENT_BATCHES = 2;
/** 256 of them fit at once: the batch, not memory, is what is full. */
export const PROMPT_TOKENS_MEAN = 512;
export const PROMPT_TOKENS_MAX = 4_096;

export const defaultLoad: CoreLoad = {
  policy: "plas",
  queuedCalls: 100_000,
  callsPerProgram: 10,
  batchCallsMax: 256,
  windowSteps: 8,
  windowsPerCall: 4,
  arrivalMoments: 1,
  turnoverMs: 60_000,
  deadlineMs: 600_000,
  startsPrograms: true,
  // As the simulated engine's agent says.
  heldCallsMax: 512,
  retains: false,
  seed: 1,
};

/** @throws for a name that is none. */
export function policyName(text: string): PolicyName {
  if (!isPolicyName(text))
    throw new Error(`a policy must be one of ${Object.keys(policies).join(", ")}, not "${text}"`);
  return text;
}

/** Mean duration of a window: what makes the queue turn over in `turnoverMs`. */
export function windowMs(load: CoreLoad): number {
  const callsPerWindow = load.batchCallsMax / load.windowsPerCall;
  return (load.turnoverMs * callsPerWindow) / (load.queuedCalls + load.batchCallsMax);
}

export function capacityOf(load: CoreLoad): EngineCapacity {
  return {
    batchCallsMax: load.batchCallsMax,
    residentCallsMax: RESIDENT_BATCHES * load.batchCallsMax,
    heldCallsMax: load.heldCallsMax,
    kvBlocks: KV_BLOCKS,
    blockTokens: BLOCK_TOKENS,
    preemption: "swap",
    ...(load.retains ? { retains: true, hostBlocks: HOST_BLOCKS } : {}),
  };
}

/** As the scheduler service configures it by default, but for the ladder's start: about what it calibrates to. */
export function coreConfigOf(load: CoreLoad): CoreConfig {
  const first = policies[load.policy].measures === "time" ? windowMs(load) : load.windowSteps;
  return {
    policy: policies[load.policy],
    ladder: { first, levels: 7, factor: 2 },
    balancer: balancers.locality,
    windowSteps: load.windowSteps,
    reserveCallsMax: 2,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 3_600_000,
    cancelMemoryMs: 60_000,
    cancelMemoryMax: 10_000,
    planResendMs: 1_000,
  };
}
