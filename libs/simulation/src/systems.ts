/**
 * The systems that are compared: a policy, an engine's memory and cache, and how often it is planned. Engines from
 * `mlfq` on are all alike, so that what differs between them is the policy.
 */
import {
  type Balancer,
  balancers,
  type Calibration,
  FACTOR,
  type Ladder,
  LEVELS,
  type Policy,
  policies,
} from "@autellix/core";

export interface System {
  name: string;
  /** `srpt` is made by the simulator: it knows what each program still has to do. */
  policy: Policy | "srpt";
  balancer: Balancer;
  /** N of multi-step scheduling. */
  windowSteps: number;
  reserveCallsMax: number;
  ladder: Ladder | Calibration;
  /** As in the core's configuration, and with its defaults. */
  beta?: number;
  promotedShare?: number;
  binding?: "arrival" | "late";
  misfit?: "stop" | "skip";
  /** Prompt tokens per step, beside decodes; `Infinity`: prompts whole, in steps of their own, before decodes go on. */
  chunkTokens: number;
  /** Prefix cache: none, the engine's own (least recently used goes first), or just what the core's plan retains. */
  cache: "none" | "lru" | "policy";
  /** Blocks that leave the cache go to host memory, and come back over PCIe when they are found there. */
  hostCache: boolean;
  /** What becomes of a parked call whose space is needed. */
  preemption: "swap" | "recompute";
  /** One transfer for each call, or one for each block (paper Fig. 19a). */
  swapPer: "call" | "block";
}

/** Steps between two plans: others' usual choice of N. */
const WINDOW_STEPS = 8;
/** A few over-provisioned calls (paper §4.4). */
const RESERVE_CALLS_MAX = 2;
/** vLLM's default with chunked prefill. */
const CHUNK_TOKENS = 512;
/** Where every calibrated ladder starts: the scheduler service's default. */
const LADDER: Calibration = { first: 1_000, levels: LEVELS, factor: FACTOR };

/** vLLM 0.6: a plan at each step, no prefix cache, prompts before decodes, preempted calls are recomputed. */
const vllm = {
  policy: policies.fcfs,
  balancer: balancers["least-used"],
  windowSteps: 1,
  reserveCallsMax: 0,
  ladder: LADDER,
  chunkTokens: Number.POSITIVE_INFINITY,
  cache: "none",
  hostCache: false,
  preemption: "recompute",
  swapPer: "block",
} satisfies Omit<System, "name">;

/** Prefix cache, chunked prefill and multi-step scheduling. */
const vllmOpt = { ...vllm, windowSteps: WINDOW_STEPS, chunkTokens: CHUNK_TOKENS, cache: "lru" } satisfies Omit<
  System,
  "name"
>;

/** Autellix's engine: the same, over-provisioned, and preempted calls are swapped in one transfer each. */
const autellix = {
  ...vllmOpt,
  reserveCallsMax: RESERVE_CALLS_MAX,
  preemption: "swap",
  swapPer: "call",
} satisfies Omit<System, "name">;

export const systems = {
  vllm: { name: "vllm", ...vllm },
  "vllm-opt": { name: "vllm-opt", ...vllmOpt },
  "vllm-opt+offload": { name: "vllm-opt+offload", ...vllmOpt, hostCache: true },
  /** First come, first served, on Autellix's engine: what is the engine's gain, and what the policy's. */
  fcfs: { name: "fcfs", ...autellix },
  mlfq: { name: "mlfq", ...autellix, policy: policies.mlfq },
  "program-fcfs": { name: "program-fcfs", ...autellix, policy: policies["program-fcfs"] },
  "round-robin": { name: "round-robin", ...autellix, policy: policies["round-robin"] },
  "las-decay": { name: "las-decay", ...autellix, policy: policies["las-decay"] },
  plas: { name: "plas", ...autellix, policy: policies.plas, balancer: balancers.locality },
  atlas: { name: "atlas", ...autellix, policy: policies.atlas, balancer: balancers.locality },
  "atlas-dag": { name: "atlas-dag", ...autellix, policy: policies["atlas-dag"], balancer: balancers.locality },
  "plas-in-order": {
    name: "plas-in-order",
    ...autellix,
    policy: policies["plas-in-order"],
    balancer: balancers.locality,
  },
  "atlas-in-order": {
    name: "atlas-in-order",
    ...autellix,
    policy: policies["atlas-in-order"],
    balancer: balancers.locality,
  },
  srpt: { name: "srpt", ...autellix, policy: "srpt" },
} as const satisfies Record<string, System>;

export type SystemName = keyof typeof systems;

export function isSystemName(text: string): text is SystemName {
  return Object.hasOwn(systems, text);
}
