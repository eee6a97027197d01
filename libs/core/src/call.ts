/**
 * One call inside the core, from arrival to ack, and the stages it goes through:
 *
 *   arrived ─► queued ─► (planned: run, reserve or keep) ─► finished ─► acked
 *                │  ▲                  │ engine lost
 *                │  └──── marking ◄────┘   (S3: no attempt k ≥ 2 without its marker)
 *                └─► closing ─► acked      (cancelled, expired, refused or dead: no agent holds it)
 */
import type { ArrivedCall, CancelCause, KeptCall, PlannedCall, Tier } from "./contract.ts";
import type { DeadlineBucket } from "./deadlines.ts";
import type { Engine } from "./engine.ts";
import type { CallId, Millis } from "./ids.ts";
import type { CallList } from "./queues.ts";
import type { Retained } from "./retained.ts";
import { IN_NO_ROW } from "./starving-row.ts";
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
  | "closing"
  /** A terminal record is stored. */
  | "ended";

/**
 * What a call has been served. It changes with each report, so its numbers are written in place: fields without a
 * declaration in JavaScript never hold `undefined`, and V8 gives their fractions boxes of their own.
 */
export class Service {
  /** Of this attempt, cumulative, as reported. */
  declare ms: Millis;
  /** Since the call entered its level, in the policy's unit. */
  declare quantumUsed: number;
  /** Since its context was last lost, in the policy's unit; see `loseContext`. */
  declare sinceLost: number;
  /** The call is not demoted before it had so much: more than it had before its context was lost. */
  declare leastTurn: number;
  /** When it was in a batch for the first time, if somebody watched then; else infinite. For people. */
  declare ranAt: Millis;

  constructor() {
    this.ms = 0;
    this.quantumUsed = 0;
    this.sinceLost = 0;
    this.leastTurn = 0;
    this.ranAt = Number.POSITIVE_INFINITY;
  }
}

/** Of every call that has not started. */
export const NO_SERVICE: Service = Object.freeze(new Service());

export class Call {
  readonly id: CallId;
  stage: Stage;

  // ── Algorithm 1 ──
  level: number;
  /** Place inside the level; equal ones in the order of `order`. */
  readonly rank: number;
  /** Enqueue number: FCFS inside a level, and its place when it comes back from a lost engine. */
  order: number;
  /** The level's list that it is in; owned by queues.ts. */
  list: CallList | undefined;

  // ── binding and attempt ──
  engine: Engine | undefined;
  attempt: number;
  /** It has been in a plan of this attempt: an agent may hold it. */
  planned: boolean;
  /** A report showed that the agent holds it. */
  held: boolean;
  /** An earlier leader may have dispatched it: a marker comes before its next plan. */
  mayHaveRun: boolean;
  /** Its own from its first start on. */
  service: Service;
  /** Tokens of prompt and answer: estimated, then as reported. */
  contextTokens: number;
  /** Where the last plan has its context. */
  tier: Tier;
  /** How the last plan named it, once it was held. */
  plannedAs: PlannedCall | KeptCall | undefined;
  /** Stamp of the last report that named it; owned by agents.ts. */
  seenIn: number;
  /** Stamp of the last batch that it was placed in; owned by batch.ts. */
  placedIn: number;
  /** The retained context that it goes on from, until a report shows that the agent holds it. */
  continues: CallId | undefined;
  /** The retained context that it will go on from; owned by retained.ts. */
  claims: Retained | undefined;
  /** Crashes of engines that this call is charged with; > 0 makes it a suspect (design §4, Poison). */
  crashes: number;
  cancel: CancelCause | undefined;

  // ── What few look at. All that every plan and report reads of a held call stands before it: close together in memory. ──
  seq: number;
  readonly program: ProgramEntry;
  readonly thread: string | undefined;
  readonly arrivedAt: Millis;
  readonly deadlineAt: Millis;
  // Links of its program's list of active calls; owned by table.ts.
  threadBefore: Call | undefined;
  threadAfter: Call | undefined;
  /** Attained service of its program when it arrived, in the policy's unit. */
  readonly inherited: number;
  /** Its program's longest chain of service and of waiting when it arrived: T_p and W_p of the starvation ratio. */
  readonly pathServiceMs: Millis;
  readonly pathWaitingMs: Millis;
  /** Waiting and service at its last promotion: the ratio counts from there, the table does not. */
  promotedWaitingMs: Millis;
  promotedServiceMs: Millis;
  /** It is in the heap of due promotions. */
  promotionAwaited: boolean;
  // Its number and links in the row of those that wait for a place; owned by starving-row.ts.
  starvingOrder: number;
  starvingBefore: Call | undefined;
  starvingAfter: Call | undefined;
  /** What the outcome subject must hold when this attempt writes: 0 or the marker's sequence. */
  fence: number;
  /** Service of earlier attempts. */
  servedMs: Millis;
  /** Of the prompt, at most: what was estimated may be more. */
  readonly promptTokensMax: number;
  // Where its deadline lies; owned by deadlines.ts.
  deadlineBucket: DeadlineBucket | undefined;
  deadlinePlace: number;

  /** All fields here and none at its declaration: a field that begins as undefined holds numbers as they are, without a box of its own. */
  constructor(arrived: ArrivedCall, program: ProgramEntry, inherited: number, level: number, rank: number) {
    this.id = arrived.id;
    this.seq = arrived.seq;
    this.program = program;
    this.thread = arrived.thread;
    this.arrivedAt = arrived.arrivedAt;
    this.deadlineAt = arrived.deadlineAt;
    this.stage = "gathered";
    this.threadBefore = undefined;
    this.threadAfter = undefined;
    this.inherited = inherited;
    this.pathServiceMs = program.pathServiceMs;
    this.pathWaitingMs = program.pathWaitingMs;
    this.level = level;
    this.rank = rank;
    this.order = 0;
    this.promotedWaitingMs = 0;
    this.promotedServiceMs = 0;
    this.promotionAwaited = false;
    this.starvingOrder = IN_NO_ROW;
    this.starvingBefore = undefined;
    this.starvingAfter = undefined;
    this.list = undefined;
    this.engine = undefined;
    this.attempt = 1;
    this.fence = 0;
    this.planned = false;
    this.held = false;
    this.mayHaveRun = false;
    this.service = NO_SERVICE;
    this.servedMs = 0;
    this.contextTokens = arrived.promptTokens;
    this.promptTokensMax = arrived.promptTokensMax ?? arrived.promptTokens;
    this.tier = "none";
    this.plannedAs = undefined;
    this.seenIn = 0;
    this.placedIn = 0;
    this.continues = undefined;
    this.claims = undefined;
    this.crashes = 0;
    this.cancel = undefined;
    this.deadlineBucket = undefined;
    this.deadlinePlace = 0;
  }

  /** Cumulative service of this attempt, as reported. */
  get serviceMs(): Millis {
    return this.service.ms;
  }
}

/**
 * Its context is nowhere: when it runs again it begins with what it had computed before. Its next turn is twice as long
 * as what is lost, so that calls which push each other out of memory do not begin again for ever (S11).
 */
export function loseContext(call: Call): void {
  call.service.leastTurn = 2 * call.service.sinceLost;
  call.service.sinceLost = 0;
}

/** Waiting so far: everything since arrival that was no service. */
export function waitedMs(call: Call, at: Millis): Millis {
  return Math.max(0, at - call.arrivedAt - call.servedMs - call.serviceMs);
}

/** Counts the service of the attempt that is over as service of earlier attempts. */
export function bankService(call: Call): void {
  const { service } = call;
  if (service === NO_SERVICE) return;
  call.servedMs += service.ms;
  service.ms = 0;
  service.sinceLost = 0;
  service.leastTurn = 0;
}
