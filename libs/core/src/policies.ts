/**
 * Policies are records over one algorithm (design §5). A record answers four questions, each by a value or a small
 * pure function; nothing else in the core knows a policy's name:
 * where a call enters (`inherits`, `aggregate`, `ranks`), when it moves (`ladder`, `lastLevel`, `starvation`), whether
 * it may start now (the engine's room, the same for all), and what an idle context is worth (`keeps`).
 */
import type { ArrivedCall } from "./contract.ts";
import { type CallId, callId, type Millis, type ProgramId } from "./ids.ts";
import type { Ladder } from "./ladder.ts";
import { singleLevel } from "./ladder.ts";

/** What a policy may look at when a call arrives or ends: its program's past. */
export interface ProgramPast {
  /** Attained service, as the policy's own `aggregate` left it; time or tokens. */
  readonly attained: number;
  readonly endedCalls: number;
  /** Arrival of its first call. */
  readonly arrivedAt: Millis;
  readonly lastCompletionAt: Millis | undefined;
  /** Eq. 2 by the call graph: p + t of an ended call, while the table remembers it. */
  pathTo(call: CallId): number | undefined;
}

export interface Policy {
  readonly name: string;
  /** Attained service, quanta and ladder are in this unit. */
  readonly measures: "time" | "tokens";
  /** Where does a call enter? The attained service it inherits, which picks its level. */
  readonly inherits: (program: ProgramPast, call: ArrivedCall, at: Millis) => number;
  /** How does a finished call's service enter its program's attained service? */
  readonly aggregate: (program: ProgramPast, inherited: number, served: number, at: Millis) => number;
  /** Place inside a level, smaller first; equal ones, and all without it, in the order in which they were queued. */
  readonly ranks?: (program: ProgramPast, call: ArrivedCall) => number;
  /** When does it move? Over the configured ladder, or over its own. */
  readonly ladder: "configured" | Ladder;
  /** A call of QK whose quantum is used up stays at its place, or goes to the tail. */
  readonly lastLevel: "stays" | "rotates";
  /** Whose waiting and service the starvation ratio compares (Algorithm 1). */
  readonly starvation: "program" | "call" | "none";
  /**
   * What is an idle context worth? The agent evicts from the tail of this order. `next-to-run` also lets calls that have
   * contexts go before others that would push them out of memory (decision 0034).
   */
  readonly keeps: "next-to-run" | "last-used";
}

/** The call that a program could send now, as far as a policy looks at it. */
export function nextCall(program: ProgramId, at: Millis): ArrivedCall {
  return { id: callId(""), seq: 0, program, arrivedAt: at, deadlineAt: at, promptTokens: 0 };
}

/** Eq. 1: attained service is the sum over the program's completed calls. */
const sum: Policy["aggregate"] = (program, _inherited, served) => program.attained + served;

/** Eq. 2 in its scalar form: the longest chain of service that led here. Equal to the sum on a chain. */
const criticalPath: Policy["aggregate"] = (program, inherited, served) =>
  Math.max(program.attained, inherited + served);

/** Eq. 2 by explicit parents; a parent that the table does not know stands for the whole past. */
const longestParent: Policy["inherits"] = (program, call) => {
  if (!call.parents?.length) return program.attained;
  let longest = 0;
  for (const parent of call.parents) longest = Math.max(longest, program.pathTo(parent) ?? program.attained);
  return longest;
};

/** Half of what was attained is forgotten at each of these boundaries of time. */
export const HALF_LIFE_MS = 60_000;
/** More halvings leave nothing. */
const HALVINGS_MAX = 50;

/** By halving at fixed boundaries: bit-equal everywhere, and the same whenever it is asked. */
function decayed(program: ProgramPast, at: Millis): number {
  if (program.lastCompletionAt === undefined) return program.attained;
  const halvings = Math.floor(at / HALF_LIFE_MS) - Math.floor(program.lastCompletionAt / HALF_LIFE_MS);
  let left = program.attained;
  for (let i = 0; i < Math.min(halvings, HALVINGS_MAX); i++) left /= 2;
  return halvings > HALVINGS_MAX ? 0 : left;
}

/** Inside a level the calls of the program that arrived first go first. */
const oldestProgram: Policy["ranks"] = (program) => program.arrivedAt;

const inOrder = { measures: "time", ladder: singleLevel, lastLevel: "stays", starvation: "none" } as const;
const leveled = { measures: "time", ladder: "configured", lastLevel: "stays", keeps: "next-to-run" } as const;

/** Service after which `round-robin` gives the slot to the next call. */
const TURN_MS = 1_000;

export const policies = {
  /** First come, first served, by call: the baseline that nothing may be slower than. */
  fcfs: { ...inOrder, name: "fcfs", inherits: () => 0, aggregate: sum, keeps: "last-used" },
  /** First come, first served, by program: calls of the program that arrived first go first. */
  "program-fcfs": {
    ...inOrder,
    name: "program-fcfs",
    inherits: () => 0,
    aggregate: sum,
    ranks: oldestProgram,
    keeps: "next-to-run",
  },
  /** Every call has its turn, and goes to the tail after it. */
  "round-robin": {
    ...inOrder,
    name: "round-robin",
    inherits: () => 0,
    aggregate: sum,
    ladder: [{ lo: 0, hi: Number.POSITIVE_INFINITY, quantum: TURN_MS }],
    lastLevel: "rotates",
    keeps: "next-to-run",
  },
  /** Multi-level feedback by call, as in FastServe: each new call begins in Q1 (paper §6, baseline). */
  mlfq: { ...leveled, name: "mlfq", inherits: () => 0, aggregate: sum, starvation: "call" },
  /** Program-level attained service, single-threaded programs (paper §4.2.1, eq. 1). */
  plas: { ...leveled, name: "plas", inherits: (p) => p.attained, aggregate: sum, starvation: "program" },
  /** Thread-level attained service, multi-threaded programs (paper §4.2.1, eq. 2). */
  atlas: { ...leveled, name: "atlas", inherits: (p) => p.attained, aggregate: criticalPath, starvation: "program" },
  /** Eq. 2 by the call graph, for clients that name the parents of a call. */
  "atlas-dag": {
    ...leveled,
    name: "atlas-dag",
    inherits: longestParent,
    aggregate: criticalPath,
    starvation: "program",
  },
  /**
   * PLAS between levels, first come, first served by program inside one (decision 0037; not in the paper): programs that
   * are alike do not overtake each other, so fewer are half-way at a time.
   */
  "plas-in-order": {
    ...leveled,
    name: "plas-in-order",
    inherits: (p) => p.attained,
    aggregate: sum,
    ranks: oldestProgram,
    starvation: "program",
  },
  /** The same of ATLAS. */
  "atlas-in-order": {
    ...leveled,
    name: "atlas-in-order",
    inherits: (p) => p.attained,
    aggregate: criticalPath,
    ranks: oldestProgram,
    starvation: "program",
  },
  /** Least attained service in tokens, of which half is forgotten each minute: the past weighs less and less. */
  "las-decay": {
    ...leveled,
    name: "las-decay",
    measures: "tokens",
    inherits: (program, _call, at) => decayed(program, at),
    aggregate: (program, _inherited, served, at) => decayed(program, at) + served,
    starvation: "program",
  },
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof policies;

export function isPolicyName(text: string): text is PolicyName {
  return Object.hasOwn(policies, text);
}
