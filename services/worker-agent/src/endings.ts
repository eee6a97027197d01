/**
 * From "it generates nothing more" to "its record is stored" (S4). A write that is refused or unanswered decides
 * nothing: the subject is read from the stream's leader, and what stands there does.
 */
import {
  type ChatCompletion,
  encodeOutcome,
  type Plan,
  RESULT_INLINE_BYTES_MAX,
  type ReadResult,
  type SpanText,
  type StoredRecord,
  type TerminalStatus,
  type WriteResult,
} from "@autellix/protocol";
import type { Contexts } from "./contexts.ts";
import type { Deliveries } from "./delivery.ts";
import { attemptName, type HeldCall } from "./held-call.ts";
import { retryMs } from "./limits.ts";
import { completionOf, type End, encodeResult, type Outcome, outcomeOf } from "./outcome.ts";
import type { Reports } from "./reports.ts";
import type { AgentState } from "./state.ts";

/** A result on its way into OUTCOMES. */
export interface Ending {
  status: TerminalStatus;
  outcome: Outcome;
  bytes: Uint8Array;
  completion: ChatCompletion | undefined;
  /** The answer, while it waits to be stored as an object of its own. */
  object: Uint8Array | undefined;
  /** `fenced`: a newer marker is in the way; only a plan's answer moves it. */
  stage: "storingResult" | "writing" | "reading" | "pausing" | "fenced";
  /** Sequence that the record's subject must have when it is written. */
  fence: number;
  tries: number;
  waitingMs: number;
}

type TerminalRecord = StoredRecord & { head: { kind: "outcome" } };

export function isTerminal(record: StoredRecord): record is TerminalRecord {
  return record.head.kind === "outcome";
}

export class Endings {
  readonly #state: AgentState;
  readonly #contexts: Contexts;
  readonly #reports: Reports;
  readonly #deliveries: Deliveries;

  constructor(state: AgentState, parts: { contexts: Contexts; reports: Reports; deliveries: Deliveries }) {
    this.#state = state;
    this.#contexts = parts.contexts;
    this.#reports = parts.reports;
    this.#deliveries = parts.deliveries;
  }

  /**
   * The call generates nothing more: its KV is freed at once or kept for its program's next call, and its record is
   * written until it is decided.
   */
  end(call: HeldCall, end: End): void {
    if (call.phase === "ending") return;
    const { setup, nowMs } = this.#state;
    call.phase = "ending";
    call.timeline?.generated(nowMs);
    if (end.status !== "completed" || !this.#contexts.retain(call)) this.#state.closeOnEngine(call);
    let outcome = outcomeOf(call, end.status, nowMs);
    let completion: ChatCompletion | undefined;
    let bytes: Uint8Array;
    let object: Uint8Array | undefined;
    if (end.status === "completed") {
      const model = setup.info.models[0] ?? "";
      completion = completionOf(call, end.finish, { engine: setup.engine, model, atMs: nowMs });
      ({ outcome, bytes, object } = encodeResult(call, outcome, completion, RESULT_INLINE_BYTES_MAX));
    } else {
      outcome = { ...outcome, error: end.error };
      bytes = encodeOutcome(outcome, call.encoding);
    }
    call.ending = {
      status: end.status,
      outcome,
      bytes,
      completion,
      object,
      stage: "writing",
      fence: call.dispatch.fence,
      tries: 0,
      waitingMs: call.waitingMs(nowMs),
    };
    this.#go(call, call.ending);
  }

  /** Stores the large answer first, if there is one, then the record. */
  #go(call: HeldCall, ending: Ending): void {
    if (ending.object !== undefined) {
      ending.stage = "storingResult";
      this.#state.emit({ kind: "storeResult", id: call.id, tenant: call.address.tenant, bytes: ending.object });
      return;
    }
    ending.stage = "writing";
    const { setup, epoch } = this.#state;
    this.#state.emit({
      kind: "writeOutcome",
      id: call.id,
      address: call.address,
      head: {
        kind: "outcome",
        status: ending.status,
        code: ending.outcome.error?.code,
        attempt: call.attempt,
        epoch,
        engine: setup.engine,
      },
      body: ending.bytes,
      fence: ending.fence,
    });
  }

  #read(call: HeldCall, ending: Ending): void {
    ending.stage = "reading";
    this.#state.emit({ kind: "readOutcome", id: call.id, address: call.address });
  }

  #later(call: HeldCall, ending: Ending, then: () => void): void {
    ending.stage = "pausing";
    ending.tries++;
    this.#state.timers.set(`ending ${call.id}`, this.#state.nowMs + retryMs(ending.tries), then);
  }

  resultStored(call: HeldCall, name: string | undefined): void {
    const ending = call.ending;
    if (ending?.stage !== "storingResult") return;
    if (name === undefined) {
      this.#later(call, ending, () => this.#go(call, ending));
      return;
    }
    ending.object = undefined;
    ending.outcome = { ...ending.outcome, response_object: name };
    ending.bytes = encodeOutcome(ending.outcome, call.encoding);
    ending.tries = 0;
    this.#go(call, ending);
  }

  written(call: HeldCall, result: WriteResult): void {
    const ending = call.ending;
    if (ending?.stage !== "writing") return;
    if (result.kind === "stored") this.#stored(call, ending);
    // Nothing was stored and nothing is decided: a marker or an ack will make room.
    else if (result.kind === "full") this.#later(call, ending, () => this.#go(call, ending));
    else this.#read(call, ending);
  }

  outcomeRead(call: HeldCall, result: ReadResult): void {
    const ending = call.ending;
    if (ending?.stage !== "reading") return;
    if (result.kind === "unknown") {
      this.#later(call, ending, () => this.#read(call, ending));
      return;
    }
    const record = result.kind === "found" ? result.record : undefined;
    if (record !== undefined && isTerminal(record)) {
      const own = record.head.attempt === call.attempt && record.head.engine === this.#state.setup.engine;
      if (own) this.#stored(call, ending);
      else this.found(call, record);
      return;
    }
    if (record !== undefined && record.seq > ending.fence) {
      ending.stage = "fenced";
      this.#reports.want();
      return;
    }
    // Something that is no record of ours stands there: the next write must expect it, or it blocks the call for ever.
    if (result.kind === "none" && result.seq !== undefined) ending.fence = result.seq;
    this.#later(call, ending, () => this.#go(call, ending));
  }

  /** The leader's answers to `fenced` (S4): write behind the newer marker, or drop. */
  fencesAnswered(answers: NonNullable<Plan["fences"]>): void {
    for (const { call: key, attempt, fence } of answers) {
      const call = this.#state.heldByName.get(attemptName(key, attempt));
      const ending = call?.ending;
      if (call === undefined || ending?.stage !== "fenced") continue;
      if (fence === null) {
        this.#log(call, "info", ending.status, "a fenced result was dropped");
        if (this.#contexts.of(call)) this.#contexts.drop(call.key);
        this.#state.remove(call);
        continue;
      }
      ending.fence = fence;
      ending.tries = 0;
      this.#go(call, ending);
    }
  }

  #stored(call: HeldCall, ending: Ending): void {
    const span = this.#state.traces?.ended(call, ending, ending.completion?.choices[0].finish_reason);
    this.#finish(call, ending.status, false, ending.waitingMs, span);
    this.#deliveries.start(call, ending.outcome, ending.bytes, ending.completion);
    this.#log(call, "info", ending.status, "call ended");
  }

  /** A terminal record of somebody else stands there: nothing of ours is stored. */
  found(call: HeldCall, record: TerminalRecord): void {
    this.#finish(call, record.head.status, true, 0);
    this.#deliveries.startFound(call, record.head.status, record.body);
    this.#log(call, "info", record.head.status, "call had ended before");
  }

  /** It was acked, so a record was stored; its age has ended it. */
  foundNothing(call: HeldCall): void {
    this.#finish(call, "completed", true, 0);
    this.#log(call, "warn", "completed", "call had ended before, its record is gone");
  }

  #finish(call: HeldCall, status: TerminalStatus, found: boolean, waitingMs: number, span?: SpanText): void {
    const retained = this.#contexts.of(call);
    const entry = {
      call: call.key,
      attempt: call.attempt,
      status,
      found,
      // Both as in the record's timings, earlier attempts included: programs add them up.
      serviceMs: found ? 0 : call.dispatch.servedMs + call.serviceMs,
      waitingMs,
      promptTokens: call.promptTokens,
      completionTokens: found ? 0 : call.completionTokens,
      ...(found ? {} : { cachedTokens: call.cachedTokens }),
      ...(retained ? { contextTokens: retained.contextTokens + retained.hostTokens } : {}),
    };
    const report = this.#reports.finish(call.name, entry, span);
    if (retained) retained.report = report;
    this.#state.remove(call);
  }

  #log(call: HeldCall, level: "info" | "warn", status: TerminalStatus, msg: string): void {
    const { key, attempt, promptTokens, completionTokens } = call;
    const code = call.ending?.outcome.error?.code;
    const fields = {
      call: key,
      program: call.dispatch.program,
      attempt,
      status,
      promptTokens,
      completionTokens,
      serviceMs: Math.round(call.dispatch.servedMs + call.serviceMs),
      waitingMs: Math.round(call.ending?.waitingMs ?? 0),
      ...(code ? { code } : {}),
    };
    this.#state.emit({ kind: "log", level, fields, msg });
  }
}
