/**
 * One call inside the core, from arrival to ack, and the stages it goes through:
 *
 *   arrived ─► queued ─► (planned: run, reserve or keep) ─► finished ─► acked
 *                │  ▲                  │ engine lost
 *                │  └──── marking ◄────┘   (S3: no attempt k ≥ 2 without its marker)
 *                └─► closing ─► acked      (cancelled, expired, refused or dead: no agent holds it)
 */
import type { CancelCause } from "./contract.ts";
import type { Engine } from "./engine.ts";
import type { CallId, Millis } from "./ids.ts";
import type { CallList } from "./queues.ts";
import type { ProgramEntry } from "./table.ts";

export type Stage =
  /** Read before this leader leads; its place is decided by `leaderStarted`. */
  | "gathered"
  /** In a level of an engine, or of the pool's unbound queue. Running and parked calls are queued, too. */
  | "queued"
  /** A marker is being written; in no queue. */
  | "marking"
  /** An agent writes the result of an earlier attempt under this attempt's fence (S4); in no queue. */
  | "settling"
  /** A terminal record is being written by the scheduler; in no queue. */
  | "closing";

export interface Call {
  readonly id: CallId;
  seq: number;
  readonly program: ProgramEntry;
  readonly arrivedAt: Millis;
  readonly deadlineAt: Millis;
  stage: Stage;

  // ── Algorithm 1 ──
  /** Attained service of its program when it arrived. */
  readonly inheritedMs: Millis;
  level: number;
  /** Enqueue number: FCFS inside a level, and its place when it comes back from a lost engine. */
  order: number;
  /** Service since it entered its level. */
  quantumUsedMs: Millis;
  // Links of the level's list; owned by queues.ts.
  list: CallList | undefined;
  previous: Call | undefined;
  next: Call | undefined;

  // ── binding and attempt ──
  engine: Engine | undefined;
  attempt: number;
  /** What the outcome subject must hold when this attempt writes: 0 or the marker's sequence. */
  fence: number;
  /** It has been in a plan of this attempt: an agent may hold it. */
  planned: boolean;
  /** A report showed that the agent holds it. */
  held: boolean;
  /** An earlier leader may have dispatched it: a marker comes before its next plan. */
  mayHaveRun: boolean;
  /** Cumulative service of this attempt, as reported. */
  serviceMs: Millis;
  /** Service of earlier attempts. */
  servedMs: Millis;
  /** Tokens of prompt and answer: estimated, then as reported. */
  contextTokens: number;
  /** Crashes of engines that this call is charged with; > 0 makes it a suspect (design §4, Poison). */
  crashes: number;
  cancel: CancelCause | undefined;
}

/** Waiting so far: everything since arrival that was no service. */
export function waitedMs(call: Call, at: Millis): Millis {
  return Math.max(0, at - call.arrivedAt - call.servedMs - call.serviceMs);
}
