/**
 * Policies are records over one algorithm (design §5). A record answers four questions, each by a value or a small
 * pure function; nothing else in the core knows a policy's name.
 */

import type { Millis } from "./ids.ts";
import type { Ladder } from "./ladder.ts";
import { singleLevel } from "./ladder.ts";

/** What a policy may look at when a call arrives: its program's past. */
export interface ProgramPast {
  /** Aggregated by the policy's own `aggregate`. */
  readonly attainedMs: Millis;
}

export interface Policy {
  readonly name: string;
  /** Where does a call enter? The attained service it inherits, which picks its level. */
  readonly inherits: (program: ProgramPast) => Millis;
  /** How does a completed call's service enter its program's attained service? */
  readonly aggregate: (program: ProgramPast, inheritedMs: Millis, serviceMs: Millis) => Millis;
  /** When does it move? Over the configured ladder, or never (one level). */
  readonly ladder: "configured" | Ladder;
  /** What is an idle context worth? Parked calls are kept in this order; the agent evicts from the tail. */
  readonly keeps: "next-to-run";
}

/** Eq. 1: attained service is the sum over the program's completed calls. */
const sum: Policy["aggregate"] = (program, _inheritedMs, serviceMs) => program.attainedMs + serviceMs;

/** Eq. 2 in its scalar form: the longest chain of service that led here. Equal to the sum on a chain. */
const criticalPath: Policy["aggregate"] = (program, inheritedMs, serviceMs) =>
  Math.max(program.attainedMs, inheritedMs + serviceMs);

export const policies = {
  /** First come, first served, by call: the baseline that nothing may be slower than. */
  fcfs: { name: "fcfs", inherits: () => 0, aggregate: sum, ladder: singleLevel, keeps: "next-to-run" },
  /** Program-level attained service, single-threaded programs (paper §4.2.1, eq. 1). */
  plas: { name: "plas", inherits: (p) => p.attainedMs, aggregate: sum, ladder: "configured", keeps: "next-to-run" },
  /** Thread-level attained service, multi-threaded programs (paper §4.2.1, eq. 2). */
  atlas: {
    name: "atlas",
    inherits: (p) => p.attainedMs,
    aggregate: criticalPath,
    ladder: "configured",
    keeps: "next-to-run",
  },
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof policies;

export function isPolicyName(text: string): text is PolicyName {
  return Object.hasOwn(policies, text);
}
