/**
 * One run of the simulator, as data: what a worker thread is told, and what a stored result is known by. Only names
 * and numbers, so that the same text always means the same run.
 */
import { createHash } from "node:crypto";

/** Every system is judged by a protocol, and every figure names its own. */
export type Protocol =
  /** Arrivals do not stop; programs that arrive after a warm-up are followed to their end. */
  | { kind: "steady"; measuredPrograms: number; warmUpMs: number; boundMsMin: number; boundFactors: readonly number[] }
  /** All programs of an interval arrive and run to the end, as in the paper: programs = rate × interval. */
  | { kind: "finite"; intervalS: number }
  /** So many programs arrive and run to the end: for makespans. */
  | { kind: "count"; programs: number };

/** A ladder whose first level is so wide (ms or tokens, the policy's unit), each next one by the factor. */
export interface LadderShape {
  first: number;
  levels: number;
  factor: number;
}

/** What an experiment changes in a named system. */
export interface SystemChanges {
  balancer?: string;
  windowSteps?: number;
  reserveCallsMax?: number;
  /** `never`: no promotion. */
  beta?: number | "never";
  /** `all`: no limit. */
  promotedShare?: number | "all";
  binding?: "arrival" | "late";
  misfit?: "stop" | "skip";
  cache?: "none" | "lru" | "policy";
  hostCache?: boolean;
  swapPer?: "call" | "block";
  /** Where a ladder that follows the load starts. */
  calibration?: LadderShape;
  /** A ladder that stays. */
  fixedLadder?: LadderShape;
}

/** A run without its seed: several seeds make a point. */
export interface PointSpec {
  workload: string;
  /** Name of the change to the frozen configuration, for sensitivity runs. */
  sensitivity?: string;
  /** Default `poisson`. */
  arrivals?: "poisson" | "bursty";
  protocol: Protocol;
  ratePerS: number;
  system: string;
  changes?: SystemChanges;
  engines: number;
  preset: string;
  /** Modelled time of a plan, times so much; 1 without it. */
  planFactor?: number;
  /** Report the 25th percentile of calls' service too: what a ladder's first level is set by. */
  wantsCallService?: boolean;
}

export interface RunSpec extends PointSpec {
  seed: number;
}

/** Keys sorted at every depth, absent values left out. @throws on a number that JSON cannot hold. */
export function canonical(value: unknown): string {
  if (typeof value === "number" && !Number.isFinite(value)) throw new Error(`${value} has no place in a specification`);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`);
  return `{${fields.join(",")}}`;
}

/**
 * What a stored result is known by.
 *
 * @param frozen hash of the configuration that all runs share: another one means other results.
 */
export function keyOf(spec: RunSpec, frozen: string): string {
  return createHash("sha256")
    .update(`${frozen}\n${canonical(spec)}`)
    .digest("hex")
    .slice(0, 24);
}
