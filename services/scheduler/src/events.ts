/**
 * What the scheduler's machine hears and what it wants done. The adapter carries effects out and turns every answer
 * into an event; nothing else connects the two, so any number of machines can run on a virtual network.
 */
import type { CoreConfig, MarkerCause, SavedEntry } from "@autellix/core";
import type {
  AgentMessage,
  Beat,
  CallAddress,
  CallKey,
  Control,
  ControlAnswer,
  Encoding,
  OutcomeBody,
  Plan,
  ReadResult,
  RecordHead,
  SentSpan,
  Status,
  TerminalStatus,
  ViewAsk,
  ViewChanges,
  ViewPage,
  WriteResult,
} from "@autellix/protocol";

/** A call's message in CALLS, headers only. */
export interface CallMessage {
  address: CallAddress;
  seq: number;
  /** The stream's timestamp, ms since 1970: the call's arrival. */
  storedAtMs: number;
  /** Bytes of the body, which stays in the stream. */
  bodyBytes: number;
  /** One header; "" when it is absent. */
  field: (name: string) => string;
}

/** Names a control message that waits for its answer. */
export type ReplyToken = number;

export type Event =
  | { kind: "call"; message: CallMessage }
  | { kind: "agent"; message: AgentMessage }
  | { kind: "control"; tenant: string; control: Control; token: ReplyToken }
  | { kind: "beat"; beat: Beat }
  /** Everything that was un-acked at the take-over has been delivered. */
  | { kind: "callsRead" }
  | { kind: "wrote"; write: RecordWrite; result: WriteResult }
  | { kind: "read"; write: RecordWrite; result: ReadResult }
  | { kind: "deadStored"; write: RecordWrite }
  | { kind: "programStored"; key: string; result: "stored" | "refused" | "unknown" }
  | { kind: "outcomeLookedUp"; token: ReplyToken; ended: boolean }
  | { kind: "outcomesUsed"; share: number }
  /** An effect `after` has come due. */
  | { kind: "retry"; effect: Effect }
  | { kind: "flushPrograms" }
  | { kind: "view"; ask: ViewAsk; token: ReplyToken }
  /** Changes that watchers have not heard of are due. */
  | { kind: "viewDue" }
  | { kind: "wake" }
  /** Every `TICK_MS`. */
  | { kind: "tick" };

/** A record that this scheduler writes: a marker, or the end of a call that no agent holds. */
export type RecordWrite =
  | {
      kind: "marker";
      call: CallKey;
      address: CallAddress;
      attempt: number;
      expect: number;
      cause: MarkerCause;
      crashes: number;
    }
  | {
      kind: "outcome";
      call: CallKey;
      address: CallAddress;
      expect: number;
      head: Extract<RecordHead, { kind: "outcome" }>;
      body: OutcomeBody;
      encoding: Encoding;
      /** A call that the core never knew (bad headers): acked by the machine itself. */
      refused: boolean;
      seq: number;
      reply: string | undefined;
      bodyObject: string | undefined;
    };

export type Effect =
  | { kind: "sendPlan"; plan: Plan }
  | { kind: "sendStatus"; status: Status }
  | { kind: "sendBeat"; beat: Beat }
  /** Asks an agent for its full report; the answer comes as `agent`. */
  | { kind: "askReport"; engine: string; epoch: number }
  | { kind: "write"; write: RecordWrite }
  /** Reads the call's record from the stream's leader. */
  | { kind: "read"; write: RecordWrite }
  /** Copies the undecoded body to DEAD, then answers `deadStored`. */
  | { kind: "storeDead"; write: RecordWrite; seq: number; reason: string }
  /** Tells whoever waits for the call that it has ended. */
  | {
      kind: "sendEnd";
      address: CallAddress;
      reply: string;
      status: TerminalStatus;
      body: OutcomeBody | undefined;
      encoding: Encoding;
    }
  | { kind: "ack"; seq: number; bodyObject: string | undefined }
  | { kind: "storeProgram"; key: string; entry: SavedEntry; ttlMs: number }
  | { kind: "storeEngine"; engine: string }
  | { kind: "dropEngine"; engine: string }
  | { kind: "storeModels"; models: string[] }
  | { kind: "lookUpOutcome"; address: CallAddress; token: ReplyToken }
  | { kind: "answer"; token: ReplyToken; answer: ControlAnswer }
  | { kind: "answerView"; token: ReplyToken; page: ViewPage }
  | { kind: "sendChanges"; changes: ViewChanges }
  /** Feeds `event` after `ms`. */
  | { kind: "after"; ms: number; event: Event }
  | { kind: "sendSpans"; spans: SentSpan[] }
  | { kind: "log"; level: "info" | "warn" | "error"; fields: Record<string, unknown>; text: string }
  /** This process may not lead any more. */
  | { kind: "stepDown"; reason: string };

/** What the take-over read, before the first call (design §4, Take-over). */
export interface TakeOver {
  epoch: number;
  /** Records of the pool's calls, by call. */
  records: ReadonlyMap<CallKey, { seq: number; head: RecordHead }>;
  programs: readonly SavedEntry[];
  /** Engines that were joined when the last leader led: who must report. */
  engines: readonly string[];
  /** Who held the lease before, if it was not given back. */
  former?: { leader: string; renewedAtMs: number } | undefined;
}

export interface MachineConfig {
  pool: string;
  /** This process, in beats and lease. */
  leader: string;
  policy: string;
  ladder: CoreConfig["ladder"];
  balancer: string;
  /** When a call gets its engine, and what the walk does at the first misfit; the core's defaults without them. */
  binding?: "arrival" | "late";
  misfit?: "stop" | "skip";
  /** Waiting over service at which a call is promoted; `Infinity`: never. */
  beta?: number;
  /** Share of an engine's places that promoted calls may have at a time; `Infinity`: no limit. */
  promotedShare?: number;
  windowSteps: number;
  reserveCallsMax: number;
  attemptsCrashedMax: number;
  programIdleMaxMs: number;
  queuedCallsMax: number;
  callLifetimeMaxMs: number;
  cancelMemoryMs: number;
  cancelMemoryMax: number;
  planResendMs: number;
  /** Silence after which an agent gets no new calls, and after which it is lost. */
  agentSuspectMs: number;
  agentLostMs: number;
  /** Above this share of OUTCOMES' limit nothing new starts. */
  outcomesShareMax: number;
  /** Share of programs that are traced, 0 … 1; none without it. */
  traceSample?: number;
}
