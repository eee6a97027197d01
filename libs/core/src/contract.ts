/**
 * What goes into the core and what comes out: the two closed lists of design §5. Planning is an input too, so a log
 * of inputs is the whole truth: the same inputs give the same commands, byte for byte (S6).
 */
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";

// ── inputs ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A call as the queue shows it: sizes and times, never its text. */
export interface ArrivedCall {
  id: CallId;
  /** Sequence in CALLS; later calls have higher ones. */
  seq: number;
  program: ProgramId;
  /** It named no program: the call is a program of its own, which is forgotten with it. */
  alone?: boolean;
  thread?: string;
  parents?: readonly CallId[];
  arrivedAt: Millis;
  deadlineAt: Millis;
  /** An estimate until the agent has counted; it never blocks a queue. */
  promptTokens: number;
  /** What it may be at most, being an estimate; default: `promptTokens`. */
  promptTokensMax?: number;
}

/** What OUTCOMES held for a call when this leader took over. */
export type CallRecord = { kind: "terminal" } | { kind: "marker"; seq: number; attempt: number; crashes: number };

export type CancelCause = "client" | "deadline" | "orphan" | "program";
/** `crash`: its process died under a batch. `exit`: it left in order. `silence`: it may still be running. */
export type LossCause = "crash" | "exit" | "silence";
export type TerminalStatus = "completed" | "failed" | "cancelled" | "expired" | "dead";

export interface EngineCapacity {
  /** Sequences that one step advances. */
  batchCallsMax: number;
  /** Contexts on the engine at once. */
  residentCallsMax: number;
  /** Calls that the agent holds, resident or not. */
  heldCallsMax: number;
  /** KV blocks on the engine: contexts of running, reserved, parked and retained calls together (S7). */
  kvBlocks: number;
  blockTokens: number;
  preemption: "swap" | "recompute" | "none";
  /** KV blocks in host memory; 0, the default, when the engine has no such tier. */
  hostBlocks?: number;
  /** It keeps finished calls' contexts as the plan says; false, the default, leaves an own cache to the engine. */
  retains?: boolean;
}

export interface ReportedCall {
  call: CallId;
  attempt: number;
  /** Cumulative over the attempt. */
  serviceMs: Millis;
  /** Prompt and answer; 0 until the agent has counted. */
  contextTokens: number;
  /** False: it cannot be stopped and gone on with exactly, so it keeps its place in the batch until it ends. */
  preemptible?: boolean;
}

export interface FinishedCall {
  call: CallId;
  attempt: number;
  status: TerminalStatus;
  /** The outcome was there already: nothing ran, nothing is charged. */
  found: boolean;
  serviceMs: Millis;
  waitingMs: Millis;
  /** Prompt and answer; what was reported last when it is absent. */
  contextTokens?: number;
  /** The answer's part of it; for people, no decision looks at it. */
  completionTokens?: number;
}

/** What a terminal record says of its call, all attempts included: who wrote it may have died before it could report. */
export type RecordedPast = Pick<FinishedCall, "serviceMs" | "waitingMs" | "contextTokens">;

/** The whole state of one agent. */
export interface EngineReport {
  engine: EngineId;
  incarnation: string;
  number: number;
  /** Number of the plan in force; 0 when it is of an earlier epoch. */
  planNumber: number;
  calls: readonly ReportedCall[];
  finished: readonly FinishedCall[];
  fenced: readonly { call: CallId; attempt: number }[];
  /** It is about to leave: calls that it has not begun are for others, and it gets no new ones. For ever, once said. */
  draining?: boolean;
}

export type Input =
  /** Gathering is over: CALLS is read and every listed engine has reported or is given up. Act from here on. */
  | { kind: "leaderStarted"; at: Millis }
  | { kind: "callArrived"; at: Millis; call: ArrivedCall; record?: CallRecord }
  | { kind: "callCancelled"; at: Millis; call: CallId; cause: CancelCause }
  | { kind: "programStarted"; at: Millis; program: ProgramId; restored?: SavedEntry }
  | { kind: "programEnded"; at: Millis; program: ProgramId; cancel: boolean }
  | { kind: "engineJoined"; at: Millis; engine: EngineId; incarnation: string; capacity: EngineCapacity }
  /** Silent for a while: it gets no new calls until it is heard again. */
  | { kind: "engineSuspected"; at: Millis; engine: EngineId; suspected: boolean }
  | { kind: "engineLost"; at: Millis; engine: EngineId; cause: LossCause }
  | { kind: "reported"; at: Millis; report: EngineReport }
  /** The marker of `attempt` is stored; its sequence is the attempt's fence (S3). */
  | { kind: "markerWritten"; at: Millis; call: CallId; attempt: number; fence: number }
  /** The subject held something else, which is no terminal record: `lastSeq` is what it holds. */
  | { kind: "markerRefused"; at: Millis; call: CallId; attempt: number; lastSeq: number }
  /** A terminal record is stored, whoever wrote it. `past`: what the record says of the call, where it does. */
  | { kind: "outcomeSeen"; at: Millis; call: CallId; status: TerminalStatus; past?: RecordedPast }
  | { kind: "planDue"; at: Millis }
  /** `admitsNew` false: results could not be stored, so calls that have not started stay queued. */
  | { kind: "timePassed"; at: Millis; admitsNew?: boolean };

// ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────

export interface PlannedCall {
  call: CallId;
  attempt: number;
  /** Until a report shows that the agent holds the call. */
  dispatch?: {
    seq: number;
    fence: number;
    waitedMs: Millis;
    servedMs: Millis;
    /** The retained context that the call may go on from: its blocks are the call's now. */
    continues?: CallId;
  };
}

/** Where an idle context lies: on the engine, in host memory, or nowhere (its call is recomputed when it resumes). */
export type Tier = "engine" | "host" | "none";

export interface KeptCall extends PlannedCall {
  tier: Tier;
}

/** The context of a finished call, kept for its program's next one. */
export interface RetainedContext {
  call: CallId;
  tier: "engine" | "host";
}

/** The whole desired state of one engine: a lost or repeated plan does no harm. What is in no list is dropped. */
export interface EnginePlan {
  engine: EngineId;
  incarnation: string;
  /** Rises within the epoch. */
  number: number;
  reportSeen: number;
  /** The batch, in priority order. */
  run: readonly PlannedCall[];
  /** What fills a slot the moment it frees. */
  reserve: readonly PlannedCall[];
  /** Parked calls in order of value: the agent evicts from the tail, and swaps only when the space is needed. */
  keep: readonly KeptCall[];
  /** Contexts of finished calls in order of value; what is in neither list is dropped. */
  retained: readonly RetainedContext[];
  cancel: readonly { call: CallId; attempt: number; cause: CancelCause }[];
  /** Answers to `fenced`: null = drop the result (S4). */
  fences: readonly { call: CallId; attempt: number; fence: number | null }[];
  windowSteps: number;
}

export type MarkerCause = "engine_lost" | "crash" | "take_over";

export type Command =
  | { kind: "sendPlan"; plan: EnginePlan }
  /** Write the superseded marker of `attempt`, expecting sequence `expect` on the subject (S3). */
  | { kind: "writeMarker"; call: CallId; attempt: number; expect: number; cause: MarkerCause; crashes: number }
  /** Write a terminal record for a call that no agent holds; answered by `outcomeSeen`. */
  | {
      kind: "writeOutcome";
      call: CallId;
      status: "cancelled" | "expired" | "failed" | "dead";
      code: "cancelled" | "expired" | "program_ended" | "dead";
      attempt: number;
      fence: number;
      waitingMs: Millis;
      serviceMs: Millis;
    }
  /** A terminal record is stored: the call leaves CALLS. */
  | { kind: "ack"; call: CallId; seq: number }
  | { kind: "saveEntry"; entry: SavedEntry }
  /** Copy the undecoded body to DEAD; a `writeOutcome` with status dead follows. */
  | { kind: "deadLetter"; call: CallId; seq: number; crashes: number }
  /** Feed `planDue` (when `at` has come) and, when it has passed, `timePassed`: soon, others wait for it. */
  | { kind: "wakeAt"; at: Millis };

/** A program's past, as it survives a leader. */
export interface SavedEntry {
  program: ProgramId;
  /** Sums over ended calls. */
  serviceMs: Millis;
  waitingMs: Millis;
  /** What the policy ranks by. */
  attained: number;
  /** In which unit; absent: time. */
  measures?: "tokens";
  /** The longest chain of service, and of waiting, that its ended calls make (starvation ratio). */
  pathServiceMs: Millis;
  pathWaitingMs: Millis;
  endedCalls: number;
  endedAt: Millis | undefined;
  /** Its accepted calls were cancelled with its end. */
  cancelled?: true;
  pin: EngineId | undefined;
  /** Engines that its calls ended on, the last ones. */
  engines: readonly EngineId[];
  arrivedAt: Millis;
  lastArrivalAt: Millis;
  lastCompletionAt: Millis | undefined;
  /** The calls charged last: one that is reported twice counts once. */
  charged: readonly CallId[];
}
