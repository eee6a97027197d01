/**
 * Questions to the leaders of all pools: start, read and end a program, cancel a call that is not this frontend's.
 * Each is repeated until every pool has answered or the time is up.
 */
import type { Control, ControlAnswer, ProgramView } from "@autellix/protocol";
import type { Emit, Failure, InquiryResult } from "./events.ts";
import { CONTROL_PAUSE_MS, type Limits } from "./limits.ts";

interface Inquiry {
  tenant: string;
  message: Control;
  silent: Set<string>;
  views: ProgramView[];
  failure: Failure | undefined;
  pauseMs: number;
  nextAtMs: number;
  untilMs: number;
}

const NO_LEADER: Failure = { code: "queue_unavailable", message: "a pool's scheduler did not answer; try again" };

export class Inquiries {
  readonly #open = new Map<number, Inquiry>();
  readonly #limits: Limits;
  readonly #emit: Emit;

  constructor(limits: Limits, emit: Emit) {
    this.#limits = limits;
    this.#emit = emit;
  }

  start(id: number, tenant: string, message: Control, pools: readonly string[], atMs: number): void {
    if (pools.length === 0 || this.#open.size >= this.#limits.inquiriesMax) {
      const why = pools.length === 0 ? "no pool has registered yet; try again" : "too many program requests; try again";
      this.#end(id, { kind: "failed", failure: { code: "queue_unavailable", message: why, retryAfterS: 1 } });
      return;
    }
    this.#open.set(id, {
      tenant,
      message,
      silent: new Set(pools),
      views: [],
      failure: undefined,
      pauseMs: CONTROL_PAUSE_MS.first,
      nextAtMs: atMs + CONTROL_PAUSE_MS.first,
      untilMs: atMs + this.#limits.controlMsMax,
    });
    for (const pool of pools) this.#emit({ kind: "control", inquiry: id, pool, tenant, message });
  }

  /** @returns the pool's address part of a call whose cancel is pending there and must be repeated until it ended. */
  answered(
    id: number,
    pool: string,
    answer: ControlAnswer | undefined,
  ): { pool: string; tenant: string; callId: string } | undefined {
    const inquiry = this.#open.get(id);
    if (!inquiry || !answer || !inquiry.silent.delete(pool)) return undefined;
    const { message, tenant } = inquiry;
    if (!answer.ok) {
      if (answer.error.code !== "not_found") inquiry.failure ??= answer.error;
    } else if (message.op === "call.cancel") {
      if (answer.call === "pending" || answer.call === "ended") {
        this.#end(id, { kind: "call", state: answer.call });
        return answer.call === "pending" ? { pool, tenant, callId: message.call_id } : undefined;
      }
    } else if (answer.program) {
      inquiry.views.push(answer.program);
    }
    if (inquiry.silent.size === 0) this.#conclude(id, inquiry);
    return undefined;
  }

  tick(atMs: number): void {
    for (const [id, inquiry] of this.#open) {
      if (atMs >= inquiry.untilMs) {
        this.#conclude(id, inquiry);
      } else if (atMs >= inquiry.nextAtMs) {
        inquiry.pauseMs = Math.min(inquiry.pauseMs * 2, CONTROL_PAUSE_MS.max);
        inquiry.nextAtMs = atMs + inquiry.pauseMs;
        const { tenant, message } = inquiry;
        for (const pool of inquiry.silent) this.#emit({ kind: "control", inquiry: id, pool, tenant, message });
      }
    }
  }

  #conclude(id: number, { message, silent, views, failure }: Inquiry): void {
    // An end that one pool has not confirmed is not an end; for the others a silent pool leaves the answer incomplete,
    // which is better than none while a pool that will not come back is still registered.
    const incomplete = silent.size > 0 && (views.length === 0 || message.op === "program.end");
    if (incomplete) this.#end(id, { kind: "failed", failure: NO_LEADER });
    else if (failure) this.#end(id, { kind: "failed", failure });
    else if (views.length > 0) this.#end(id, { kind: "programs", views });
    else {
      const what = message.op === "call.cancel" ? "call" : "program";
      this.#end(id, { kind: "failed", failure: { code: "not_found", message: `no pool knows this ${what}` } });
    }
  }

  #end(id: number, result: InquiryResult): void {
    this.#open.delete(id);
    this.#emit({ kind: "inquiryEnded", inquiry: id, result });
  }
}
