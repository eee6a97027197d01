/**
 * One open call: published until the queue has it, followed until its outcome is known, told to its client.
 */
import {
  type CallAddress,
  type CallKey,
  type ChatCompletion,
  callKey,
  type ErrorCode,
  type GapAnswer,
  type HaveAnswer,
  type PublishResult,
  type TerminalStatus,
} from "@autellix/protocol";
import { Delivery } from "./delivery.ts";
import type { Emit, EndedFields, Failure, OutcomeRead, Submission, TraceFields } from "./events.ts";
import { GAP_PAUSE_MS, type Limits, PUBLISH_PAUSE_MS } from "./limits.ts";
import { type Outcome, verdictOf } from "./outcome.ts";
import { type TokenPiece, TokenStream } from "./stream.ts";

interface Publishing {
  body: Submission;
  untilMs: number;
  pauseMs: number;
  /** Undefined while an answer is awaited. */
  nextAtMs: number | undefined;
  /** An answer was missing: the call may be on the queue. */
  maybeStored: boolean;
}

interface End {
  /** The call may still be on the queue or on an engine. */
  cancel: boolean;
  fields: EndedFields;
  trace: TraceFields;
}

/** What an engine's agent measured of a call. */
type Measured = Pick<Outcome, "usage" | "timings">;

export class Call {
  readonly key: CallKey;
  readonly address: CallAddress;
  readonly program: string;
  readonly model: string;
  /** Set once, when the client has its last word. */
  end: End | undefined;
  /** A read of the outcome is wanted; the machine starts it when one of its few places is free. */
  readWanted = false;
  readonly #stream: boolean;
  readonly #told: Pick<Submission, "thread" | "parents" | "promptTokens">;
  readonly #startedMs: number;
  readonly #limits: Limits;
  readonly #emit: Emit;
  readonly #tokens: TokenStream;
  readonly #delivery: Delivery;
  readonly #giveUpAtMs: number;
  readonly #deadlineMs: number | undefined;
  #publishing: Publishing | undefined;
  /** The outcome is stored, but not all of it has gone out: it is read again when the client has room. */
  #stored = false;
  #reading = false;
  #readPauseMs: number;
  #readAtMs: number;
  #asking = false;
  #askPauseMs: number = GAP_PAUSE_MS.first;
  #askAtMs = 0;
  #firstTokenMs: number | undefined;

  constructor(submission: Submission, pool: string, atMs: number, limits: Limits, emit: Emit) {
    const { tenant, callId } = submission;
    this.key = callKey(tenant, callId);
    this.address = { pool, tenant, callId };
    this.program = submission.program ?? callId;
    this.model = submission.model;
    this.#stream = submission.stream;
    const { thread, parents, promptTokens } = submission;
    this.#told = { thread, parents, promptTokens };
    this.#startedMs = atMs;
    this.#limits = limits;
    this.#emit = emit;
    this.#tokens = new TokenStream(limits.gapItemsMax);
    this.#delivery = new Delivery(this.key, atMs, limits, emit);
    this.#deadlineMs = submission.deadlineMs;
    this.#giveUpAtMs = atMs + (submission.deadlineMs ?? limits.callLifetimeMsMax) + limits.lifetimeGraceMs;
    this.#readPauseMs = limits.silenceMs;
    this.#readAtMs = atMs + limits.silenceMs;
    this.#publishing = {
      body: submission,
      untilMs: atMs + limits.publishMsMax,
      pauseMs: PUBLISH_PAUSE_MS.first,
      nextAtMs: undefined,
      maybeStored: false,
    };
    this.#publish(this.#publishing);
  }

  /** Bytes held until the queue has confirmed them. */
  get bodyBytes(): number {
    return this.#publishing?.body.body.length ?? 0;
  }

  publishAnswered(result: PublishResult["kind"], retryAfterS: number, atMs: number): void {
    if (!this.#publishing) return;
    switch (result) {
      case "accepted":
      case "exists": // the id is random: only an earlier publish of this call can be there
        this.#publishing = undefined;
        return;
      case "full":
        if (this.#publishing.maybeStored) break; // "full" answers this try; an earlier one may be stored
        this.fail({ code: "queue_full", message: "the queue is full; try again later", retryAfterS }, atMs, false);
        return;
      case "unknown":
        this.#publishing.maybeStored = true;
        break;
      case "unknown_pool": // for a pool that exists: the stream has no leader just now
        break;
    }
    this.#publishing.nextAtMs = atMs + this.#publishing.pauseMs;
    this.#publishing.pauseMs = Math.min(this.#publishing.pauseMs * 2, PUBLISH_PAUSE_MS.max);
  }

  tokens(piece: TokenPiece, atMs: number): void {
    this.#publishing = undefined;
    if (this.#stored) return; // the stored answer gives the rest
    if (this.#delivery.pausedSinceMs !== undefined) {
      this.#tokens.skip(piece);
      return;
    }
    this.#take(piece, atMs);
    if (this.#tokens.behind) this.#ask(atMs, false);
  }

  /** @returns what a resumed attempt goes on from; undefined = no answer: a later attempt was here already. */
  have(engine: string, attempt: number, epoch: number): HaveAnswer | undefined {
    this.#publishing = undefined;
    if (this.#stored) return { state: "gone" };
    if (!this.#tokens.admit(engine, attempt, epoch)) return undefined;
    const { next: count, ids } = this.#tokens;
    return ids ? { state: "live", count, ids } : { state: "live", count };
  }

  gapAnswered(engine: string, answer: GapAnswer | undefined, atMs: number): void {
    this.#asking = false;
    if (this.#stored || this.#delivery.pausedSinceMs !== undefined || !answer) return; // asked again when due
    if (answer.state === "unknown") {
      this.#read();
      return;
    }
    const before = this.#tokens.next;
    this.#take({ engine, ...answer }, atMs);
    if (this.#tokens.next > before) this.#askPauseMs = GAP_PAUSE_MS.first;
    if (this.#tokens.behind) this.#ask(atMs, this.#tokens.next > before);
  }

  /** The call has a terminal outcome. @param outcome undefined: it must be read. */
  ended(outcome: Outcome | undefined, atMs: number): void {
    this.#publishing = undefined;
    this.#stored = true;
    if (this.#delivery.pausedSinceMs !== undefined) return; // read when the client has room
    if (!outcome) {
      this.#read();
      return;
    }
    const verdict = verdictOf(outcome);
    if (verdict.kind === "elsewhere") this.#read();
    else if (verdict.kind === "failure") this.fail(verdict.failure, atMs, false, outcome);
    else if (this.#stream) this.#finishStream(verdict.completion, atMs);
    else this.#finishWhole(verdict.completion, atMs);
  }

  outcomeRead(read: OutcomeRead, atMs: number): void {
    this.#reading = false;
    this.#readAtMs = atMs + this.#readPauseMs;
    this.#readPauseMs = Math.min(this.#readPauseMs * 2, this.#limits.silenceMsMax);
    if (read.kind === "outcome") this.ended(read.outcome, atMs);
    else if (read.kind === "broken") this.fail({ code: read.code, message: read.message }, atMs, false);
    // A started call whose last tokens were lost shows no gap until the next one comes: ask for them.
    else if (read.kind === "none" && this.#tokens.engine !== undefined) this.#ask(atMs, false);
  }

  /** The machine has started the wanted read. */
  readStarted(): void {
    this.readWanted = false;
    this.#reading = true;
  }

  buffered(bytes: number, atMs: number): void {
    if (!this.#delivery.buffered(bytes, atMs)) return;
    if (this.#stored || this.#tokens.engine === undefined) this.#read();
    else this.#ask(atMs, true);
  }

  tick(atMs: number): void {
    const publishing = this.#publishing;
    if (publishing) {
      if (atMs >= publishing.untilMs) {
        this.fail(
          { code: "queue_unavailable", message: "the queue did not confirm the call" },
          atMs,
          publishing.maybeStored || publishing.nextAtMs === undefined,
        );
        return;
      }
      if (publishing.nextAtMs !== undefined && atMs >= publishing.nextAtMs) this.#publish(publishing);
    }
    if (atMs >= this.#giveUpAtMs) {
      this.#emit({ kind: "warn", key: this.key, message: "no outcome after the call's lifetime" });
      this.fail({ code: "internal_error", message: "the call has no outcome after its lifetime" }, atMs, true);
      return;
    }
    if (this.#stream && this.#delivery.tick(atMs, !publishing)) {
      this.#emit({ kind: "fail", key: this.key, failure: { code: "slow_client", message: "" }, cut: true });
      this.#close("cancelled", "slow_client", atMs, !this.#stored);
      return;
    }
    if (this.#delivery.pausedSinceMs !== undefined) return;
    if (this.#tokens.behind && atMs >= this.#askAtMs) this.#ask(atMs, false);
    if (!publishing && atMs >= this.#readAtMs) this.#read();
  }

  /** @param cancel whether the call may still be on the queue or on an engine. */
  fail(failure: Failure, atMs: number, cancel: boolean, outcome?: Outcome): void {
    this.#emit({ kind: "fail", key: this.key, failure });
    this.#close(
      outcome?.status ?? (failure.code === "cancelled" ? "cancelled" : "failed"),
      failure.code,
      atMs,
      cancel,
      outcome,
    );
  }

  clientGone(atMs: number): void {
    this.#close("cancelled", "cancelled", atMs, !this.#stored);
  }

  #publish(publishing: Publishing): void {
    publishing.nextAtMs = undefined;
    this.#emit({
      kind: "publish",
      key: this.key,
      address: this.address,
      call: publishing.body,
      program: this.program,
      deadlineMs: this.#deadlineMs,
    });
  }

  #take(piece: TokenPiece, atMs: number): void {
    const showings = this.#tokens.take(piece);
    if (!showings) return;
    this.#firstTokenMs ??= atMs;
    this.#readPauseMs = this.#limits.silenceMs;
    this.#readAtMs = atMs + this.#readPauseMs;
    if (this.#stream) this.#delivery.show(showings, atMs);
  }

  /** @param now without waiting for the pause after the last question. */
  #ask(atMs: number, now: boolean): void {
    const { engine, next } = this.#tokens;
    if (engine === undefined || this.#asking || (!now && atMs < this.#askAtMs)) return;
    this.#asking = true;
    this.#askAtMs = atMs + this.#askPauseMs;
    this.#askPauseMs = Math.min(this.#askPauseMs * 2, GAP_PAUSE_MS.max);
    this.#emit({ kind: "askTokens", key: this.key, engine, from: next });
  }

  #read(): void {
    if (!this.#reading) this.readWanted = true;
  }

  #finishWhole(completion: ChatCompletion, atMs: number): void {
    this.#emit({ kind: "whole", key: this.key, completion });
    this.#close("completed", undefined, atMs, false, measuredOf(completion));
  }

  #finishStream(completion: ChatCompletion, atMs: number): void {
    const { message, logprobs, finish_reason: reason } = completion.choices[0];
    const rest = this.#tokens.restOf(message, logprobs);
    if (rest === undefined) {
      this.#emit({
        kind: "warn",
        key: this.key,
        message: "the stored answer does not begin with the streamed tokens (S2)",
      });
      this.fail({ code: "internal_error", message: "the stored answer differs from the streamed one" }, atMs, false);
      return;
    }
    this.#firstTokenMs ??= atMs;
    const sent = this.#delivery.rest(rest, atMs);
    if (sent < rest.length) {
      for (const showing of rest.slice(0, sent)) this.#tokens.sent(showing);
      return;
    }
    this.#emit({ kind: "finish", key: this.key, reason, usage: completion.usage, extension: completion.autellix });
    this.#close("completed", undefined, atMs, false, measuredOf(completion));
  }

  #close(
    status: TerminalStatus,
    code: ErrorCode | undefined,
    atMs: number,
    cancel: boolean,
    { usage, timings }: Measured = {},
  ): void {
    const { pool, tenant, callId } = this.address;
    const { thread, parents, promptTokens } = this.#told;
    this.end = {
      cancel,
      fields: {
        call: callId,
        tenant,
        program: this.program,
        pool,
        model: this.model,
        stream: this.#stream,
        status,
        code,
        promptTokens: usage?.prompt_tokens,
        completionTokens: usage?.completion_tokens,
        ttftMs: this.#firstTokenMs === undefined ? undefined : this.#firstTokenMs - this.#startedMs,
        durationMs: atMs - this.#startedMs,
      },
      trace: {
        thread,
        parents,
        arrivedMs: this.#startedMs,
        endedMs: atMs,
        accepted: this.#publishing === undefined,
        waitingMs: timings?.waiting_ms,
        serviceMs: timings?.service_ms,
        promptTokens: usage?.prompt_tokens ?? promptTokens,
        cachedTokens: usage?.prompt_tokens_details?.cached_tokens,
        completionTokens: usage?.completion_tokens ?? this.#tokens.next,
      },
    };
  }
}

function measuredOf({ usage, autellix }: ChatCompletion): Measured {
  return { usage, timings: autellix };
}
