/**
 * Drives the machine by events on a clock of the test's own, and keeps what it asked for.
 */
import {
  type AnswerDelta,
  type ErrorCode,
  type FinishReason,
  type MergedAnswer,
  mergeAnswer,
  type Status,
  type TokenItem,
  textDelta,
} from "@autellix/protocol";
import type { Effect, Event, Submission } from "../src/events.ts";
import { defaultLimits, type Limits, TICK_MS } from "../src/limits.ts";
import { Machine } from "../src/machine.ts";
import type { Outcome } from "../src/outcome.ts";

export const KEY = "default/c1";

export function submission(fields: Partial<Submission> = {}): Submission {
  return {
    callId: "c1",
    tenant: "default",
    program: undefined,
    thread: undefined,
    parents: [],
    deadlineMs: undefined,
    trace: undefined,
    model: "m",
    stream: true,
    promptTokens: 3,
    completionTokensMax: undefined,
    body: Buffer.from("{}"),
    ...fields,
  };
}

export function statusOf(pool: string, fields: Partial<Status> = {}): Status {
  const counters = { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 };
  return {
    pool,
    epoch: 1,
    policy: "plas",
    models: ["m"],
    queuedCalls: 0,
    runningCalls: 0,
    queuedCallsMax: 100,
    engines: [{ engine: "e1", state: "up", runningCalls: 0, heldCalls: 0, counters }],
    endsPerSecond: 2,
    dispatching: true,
    ...fields,
  };
}

export function completed(content: string, callId = "c1"): Outcome {
  return answered([textDelta(content)], { callId, count: content.length });
}

/** An outcome whose answer is what these pieces say. */
export function answered(
  pieces: readonly AnswerDelta[],
  fields: { callId?: string; count?: number; reason?: FinishReason } = {},
): Outcome {
  const { callId = "c1", count = pieces.length, reason = "stop" } = fields;
  const usage = { prompt_tokens: 3, completion_tokens: count, total_tokens: 3 + count };
  return {
    call_id: callId,
    program_id: callId,
    status: "completed",
    response: {
      id: `chatcmpl-${callId}`,
      object: "chat.completion",
      created: 1,
      model: "m",
      choices: [{ index: 0, ...mergeAnswer(pieces), finish_reason: reason }],
      usage,
      autellix: { call_id: callId, program_id: callId, engine: "e1", attempts: 1, waiting_ms: 1, service_ms: 2 },
    },
    usage,
  };
}

export function failed(code: ErrorCode, status: Outcome["status"] = "failed"): Outcome {
  return { call_id: "c1", program_id: "c1", status, error: { code, message: `it is ${code}` } };
}

/** Without its time, which the driver adds. */
type Untimed<E> = E extends { atMs: number } ? Omit<E, "atMs"> : E;

export class Driver {
  readonly machine: Machine;
  /** All effects so far. */
  readonly effects: Effect[] = [];
  nowMs = 1_000;

  constructor(limits: Partial<Limits> = {}) {
    this.machine = new Machine({ ...defaultLimits, ...limits });
    this.tell({ kind: "modelSeen", model: "m", pools: ["p1"] });
    this.tell({ kind: "modelsRead" });
  }

  tell(event: Untimed<Event>): Effect[] {
    const effects = this.machine.react({ ...event, atMs: this.nowMs } as Event);
    this.effects.push(...effects);
    return effects;
  }

  /** Lets time pass in ticks. */
  pass(ms: number): Effect[] {
    const from = this.effects.length;
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs += TICK_MS;
      this.tell({ kind: "ticked" });
    }
    return this.effects.slice(from);
  }

  /** A call that the queue has accepted. */
  accepted(fields: Partial<Submission> = {}): this {
    this.tell({ kind: "submitted", call: submission(fields) });
    this.tell({ kind: "publishAnswered", key: KEY, result: "accepted" });
    return this;
  }

  /** One token a character, its id the character's code. */
  tokens(index: number, text: string, { attempt = 1, epoch = 1, engine = "e1" } = {}): Effect[] {
    const item: TokenItem = { call: KEY, attempt, index, count: text.length, text, ids: idsOf(text) };
    return this.tell({ kind: "tokens", engine, epoch, items: [item] });
  }

  /** One token a delta. */
  deltas(index: number, deltas: AnswerDelta[], { attempt = 1, engine = "e1" } = {}): Effect[] {
    const item: TokenItem = { call: KEY, attempt, ...pieceOf(index, deltas) };
    return this.tell({ kind: "tokens", engine, epoch: 1, items: [item] });
  }

  end(outcome: Outcome | undefined): Effect[] {
    return this.tell({ kind: "ended", key: KEY, outcome, reply: "_INBOX.end" });
  }

  have(attempt: number, epoch = 1, engine = "e2"): unknown {
    const effects = this.tell({ kind: "haveAsked", key: KEY, engine, epoch, attempt, reply: "_INBOX.have" });
    return only(effects, "answer")[0]?.message;
  }

  gap(index: number, text: string, { attempt = 1, epoch = 1, engine = "e1" } = {}): Effect[] {
    const answer = { state: "known", epoch, attempt, index, count: text.length, text, ids: idsOf(text) } as const;
    return this.tell({ kind: "gapAnswered", key: KEY, engine, answer });
  }

  gapOfDeltas(index: number, deltas: AnswerDelta[]): Effect[] {
    const answer = { state: "known", epoch: 1, attempt: 1, ...pieceOf(index, deltas) } as const;
    return this.tell({ kind: "gapAnswered", key: KEY, engine: "e1", answer });
  }

  /** What the client has read, put together. */
  answer(): MergedAnswer {
    return mergeAnswer(
      this.effects.flatMap((effect) => {
        if (effect.kind === "text") return [textDelta(effect.text)];
        return effect.kind === "delta" ? [effect.delta] : [];
      }),
    );
  }

  /** What text the client has read. */
  text(): string {
    return only(this.effects, "text")
      .map(({ text }) => text)
      .join("");
  }
}

function pieceOf(index: number, deltas: AnswerDelta[]) {
  const text = deltas.map(({ delta }) => (typeof delta.content === "string" ? delta.content : "")).join("");
  return { index, count: deltas.length, text, deltas };
}

export function idsOf(text: string): number[] {
  return [...text].map((character) => character.charCodeAt(0));
}

export function only<K extends Effect["kind"]>(effects: readonly Effect[], kind: K): Extract<Effect, { kind: K }>[] {
  return effects.filter((effect): effect is Extract<Effect, { kind: K }> => effect.kind === kind);
}

export function kinds(effects: readonly Effect[]): string[] {
  return effects.map(({ kind }) => kind);
}
