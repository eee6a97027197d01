/**
 * The records that a leader writes itself: markers (S3), and the ends of calls that no agent holds. A write goes on
 * until the subject's leader has confirmed what it holds; then the core is told, and whoever waits for the call.
 */
import { type Command, callId, type Input, type RecordedPast } from "@autellix/core";
import {
  type CallKey,
  decodeAs,
  type ErrorCode,
  errorTable,
  type OutcomeBody,
  outcomeBodySchema,
  type TerminalStatus,
} from "@autellix/protocol";
import type { KnownCall } from "./arrival.ts";
import type { Effect, Event, RecordWrite } from "./events.ts";
import { afterRead, afterWrite, type NextStep } from "./record-writes.ts";
import type { SpanDesk } from "./spans.ts";

/** Pause before a write or read that had no answer is repeated. */
const REPEAT_MS = 250;
/** Stands for the scheduler where a record names its writer. */
const WRITER = "scheduler";

export class RecordDesk {
  private readonly epoch: number;
  private readonly calls: ReadonlyMap<CallKey, KnownCall>;
  private readonly emit: (effect: Effect) => void;
  private readonly spans: SpanDesk | undefined;
  /** Dead letters are copied before their outcome is written. */
  private readonly deadReasons = new Map<CallKey, string>();

  constructor(
    epoch: number,
    calls: ReadonlyMap<CallKey, KnownCall>,
    emit: (effect: Effect) => void,
    spans?: SpanDesk | undefined,
  ) {
    this.epoch = epoch;
    this.calls = calls;
    this.emit = emit;
    this.spans = spans;
  }

  writeMarker(command: Extract<Command, { kind: "writeMarker" }>): void {
    const known = this.known(command.call);
    const { call, attempt, expect, cause, crashes } = command;
    this.emit({
      kind: "write",
      write: { kind: "marker", call, address: known.address, attempt, expect, cause, crashes },
    });
  }

  keepDead(call: CallKey, reason: string): void {
    this.deadReasons.set(call, reason);
    // The letter names the body's object, which must outlive the ack; it ends with the store's age limit.
    this.known(call).bodyObject = undefined;
  }

  writeOutcome(command: Extract<Command, { kind: "writeOutcome" }>): void {
    const known = this.known(command.call);
    const { status, code, attempt, fence, waitingMs, serviceMs } = command;
    const write = this.outcomeOf(command.call, known, status, code, errorTable[code].meaning, attempt, fence, false);
    write.body.timings = { waiting_ms: waitingMs, service_ms: serviceMs };
    const reason = this.deadReasons.get(command.call);
    this.deadReasons.delete(command.call);
    if (reason === undefined) this.emit({ kind: "write", write });
    else this.emit({ kind: "storeDead", write, seq: known.seq, reason });
  }

  /** Ends a call whose headers are bad; the core never hears of it. */
  refuse(call: CallKey, known: KnownCall, code: ErrorCode, message: string): void {
    this.emit({ kind: "write", write: this.outcomeOf(call, known, "failed", code, message, 1, 0, true) });
    this.emit({ kind: "log", level: "warn", fields: { call, code }, text: "call refused" });
  }

  /** @returns what the core must hear. */
  react(event: Extract<Event, { kind: "wrote" | "read" | "deadStored" }>, at: number): Input[] {
    const { write } = event;
    if (event.kind === "deadStored") {
      this.emit({ kind: "write", write });
      return [];
    }
    const next = event.kind === "wrote" ? afterWrite(event.result) : afterRead(write, event.result, this.epoch);
    return this.follow(write, next, at);
  }

  private follow(write: RecordWrite, next: NextStep, at: number): Input[] {
    switch (next.kind) {
      case "stored":
        if (write.kind === "marker") {
          return [{ kind: "markerWritten", at, call: callId(write.call), attempt: write.attempt, fence: next.seq }];
        }
        this.trace(write, write.head.status, at);
        return this.ended(write, write.head.status, write.body, at);
      case "ended":
        // By an agent that died before it could tell.
        if (write.kind === "marker" && write.cause !== "take_over") this.trace(write, next.status, at);
        return this.ended(write, next.status, readBody(next.body), at);
      case "write":
        this.emit({ kind: "write", write: next.write });
        return [];
      case "read":
        this.emit({ kind: "read", write });
        return [];
      case "readLater":
        this.repeat({ kind: "read", write });
        return [];
      case "writeLater":
        this.repeat({ kind: "write", write });
        return [];
      case "superseded":
        this.emit({ kind: "stepDown", reason: `a record of epoch ${next.epoch} exists` });
        return [];
    }
  }

  private trace(write: RecordWrite, status: TerminalStatus, at: number): void {
    const known = this.calls.get(write.call);
    const code = write.kind === "outcome" && write.head.status === status ? write.head.code : undefined;
    const attempt = write.kind === "outcome" ? write.head.attempt : Math.max(1, write.attempt - 1);
    if (known) this.spans?.ended(known, { status, code, attempt }, at);
  }

  private repeat(effect: Effect): void {
    this.emit({ kind: "after", ms: REPEAT_MS, event: { kind: "retry", effect } });
  }

  private ended(
    write: RecordWrite,
    status: Extract<Input, { kind: "outcomeSeen" }>["status"],
    body: OutcomeBody | undefined,
    at: number,
  ): Input[] {
    const known = this.calls.get(write.call);
    const reply = write.kind === "outcome" && write.refused ? write.reply : known?.reply;
    const encoding = known?.encoding ?? (write.kind === "outcome" ? write.encoding : "json");
    if (reply) this.emit({ kind: "sendEnd", address: write.address, reply, status, body, encoding });
    if (write.kind === "outcome" && write.refused) {
      this.emit({ kind: "ack", seq: write.seq, bodyObject: write.bodyObject });
      return [];
    }
    const past = pastOf(body);
    return [{ kind: "outcomeSeen", at, call: callId(write.call), status, ...(past ? { past } : {}) }];
  }

  private outcomeOf(
    call: CallKey,
    known: KnownCall,
    status: "cancelled" | "expired" | "failed" | "dead",
    code: ErrorCode,
    message: string,
    attempt: number,
    expect: number,
    refused: boolean,
  ): Extract<RecordWrite, { kind: "outcome" }> {
    const { address, program, encoding, seq, reply, bodyObject } = known;
    return {
      kind: "outcome",
      call,
      address,
      expect,
      head: { kind: "outcome", status, code, attempt, epoch: this.epoch, engine: WRITER },
      body: { call_id: address.callId, program_id: program, status, error: { code, message } },
      encoding,
      refused,
      seq,
      reply,
      bodyObject,
    };
  }

  private known(call: CallKey): KnownCall {
    const known = this.calls.get(call);
    if (!known) throw new Error(`the core names a call that was never read: ${call}`);
    return known;
  }
}

/** Somebody else's outcome, for the end that is sent; undefined when it is not readable: the receiver reads it. */
function pastOf(body: OutcomeBody | undefined): RecordedPast | undefined {
  if (!body?.timings) return undefined;
  const { waiting_ms, service_ms } = body.timings;
  const tokens = (body.usage ?? body.response?.usage)?.total_tokens;
  return {
    serviceMs: Math.max(0, service_ms),
    waitingMs: Math.max(0, waiting_ms),
    ...(tokens === undefined ? {} : { contextTokens: Math.max(0, tokens) }),
  };
}

function readBody(bytes: Uint8Array): OutcomeBody | undefined {
  try {
    return decodeAs(outcomeBodySchema, bytes) as OutcomeBody;
  } catch {
    return undefined;
  }
}
