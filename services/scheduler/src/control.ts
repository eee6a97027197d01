/**
 * Control requests: start, end and read a program, cancel a call. All are idempotent, since callers repeat them until
 * they are answered, also to the next leader.
 */
import { type CancelCause, callId, type Input, type Policy, programId, type Scheduler } from "@autellix/core";
import { type Control, callKey, type ProgramView } from "@autellix/protocol";
import type { Effect, ReplyToken } from "./events.ts";
import type { ProgramStore } from "./programs.ts";

/** Answers that wait for something at once; older requests above it stay unanswered and are repeated. */
const WAITING_MAX = 10_000;

export class ControlDesk {
  private readonly pool: string;
  private readonly measures: Policy["measures"];
  private readonly core: Scheduler;
  private readonly programs: ProgramStore;
  private readonly emit: (effect: Effect) => void;
  private readonly waiting = new Map<ReplyToken, { tenant: string; program: string }>();

  /** @param measures what attained service counts. */
  constructor(
    pool: string,
    measures: Policy["measures"],
    core: Scheduler,
    programs: ProgramStore,
    emit: (effect: Effect) => void,
  ) {
    this.pool = pool;
    this.measures = measures;
    this.core = core;
    this.programs = programs;
    this.emit = emit;
  }

  /** What the core must hear first. */
  inputsOf(tenant: string, control: Control, at: number): Input[] {
    switch (control.op) {
      case "program.start":
        return [{ kind: "programStarted", at, program: programId(`${tenant}/${control.program_id}`) }];
      case "program.end":
        return this.endOf(tenant, control.program_id, control.cancel ?? false, at);
      case "program.read":
        return [];
      case "call.cancel": {
        const cause: CancelCause = control.cause ?? "client";
        return [{ kind: "callCancelled", at, call: callId(callKey(tenant, control.call_id)), cause }];
      }
    }
  }

  /** Ending a program that nobody knows is an error of the caller, and must not create it. */
  private endOf(tenant: string, program: string, cancel: boolean, at: number): Input[] {
    const id = programId(`${tenant}/${program}`);
    return this.core.program(id) ? [{ kind: "programEnded", at, program: id, cancel }] : [];
  }

  answer(tenant: string, control: Control, token: ReplyToken): void {
    switch (control.op) {
      case "program.start":
      case "program.end":
        this.answerWhenStored(tenant, control.program_id, token);
        break;
      case "program.read":
        this.answerView(tenant, control.program_id, token);
        break;
      case "call.cancel":
        if (this.core.knows(callId(callKey(tenant, control.call_id)))) {
          this.emit({ kind: "answer", token, answer: { ok: true, call: "pending" } });
        } else {
          const address = { pool: this.pool, tenant, callId: control.call_id };
          this.emit({ kind: "lookUpOutcome", address, token });
        }
        break;
    }
  }

  lookedUp(token: ReplyToken, ended: boolean): void {
    this.emit({ kind: "answer", token, answer: { ok: true, call: ended ? "ended" : "unknown" } });
  }

  /** The entry that `token` waited for is stored. */
  stored(token: ReplyToken): void {
    const waiting = this.waiting.get(token);
    this.waiting.delete(token);
    if (waiting) this.answerView(waiting.tenant, waiting.program, token);
  }

  private answerWhenStored(tenant: string, program: string, token: ReplyToken): void {
    if (!this.programs.wait(tenant, program, token)) {
      this.answerView(tenant, program, token);
      return;
    }
    this.waiting.set(token, { tenant, program });
    for (const oldest of this.waiting.keys()) {
      if (this.waiting.size <= WAITING_MAX) break;
      this.waiting.delete(oldest);
    }
  }

  private answerView(tenant: string, program: string, token: ReplyToken): void {
    const view = this.view(tenant, program);
    this.emit({
      kind: "answer",
      token,
      answer: view
        ? { ok: true, program: view }
        : {
            ok: false,
            error: { code: "not_found", message: `no program ${JSON.stringify(program)} in pool ${this.pool}` },
          },
    });
  }

  private view(tenant: string, program: string): ProgramView | undefined {
    const entry = this.core.program(programId(`${tenant}/${program}`));
    if (!entry) return undefined;
    return {
      id: program,
      object: "program",
      pool: this.pool,
      state: entry.endedAt === undefined ? "open" : "ended",
      service_ms: entry.serviceMs,
      waiting_ms: entry.waitingMs,
      // Tokens are no time: there the view says what was attained in time, the sum.
      attained_service_ms: this.measures === "time" ? entry.attained : entry.serviceMs,
      calls: { waiting: entry.waitingCalls, running: entry.runningCalls, ended: entry.endedCalls },
    };
  }
}
