/**
 * What has changed since somebody looked, while somebody watches: kept beside the state, never part of a decision. A
 * watcher that is too slow is told to read everything again, so the memory is bounded.
 */
import { type Call, waitedMs } from "./call.ts";
import type { FinishedCall, TerminalStatus } from "./contract.ts";
import type { Engine } from "./engine.ts";
import type { CallId, EngineId, Millis, ProgramId } from "./ids.ts";
import type { ProgramEntry } from "./table.ts";

/** Changed calls and programs that wait to be looked at; above it all are forgotten, and `lost` says so. */
export const CHANGED_MAX = 50_000;
/** Ended calls that wait to be looked at; above it the oldest are not told. */
export const ENDED_MAX = 10_000;

/** A call that has ended, with what is final about it. */
export interface EndedCallView {
  call: CallId;
  program: ProgramId;
  thread: string | undefined;
  status: TerminalStatus;
  /** Its last one. */
  level: number;
  engine: EngineId | undefined;
  attempt: number;
  arrivedAt: Millis;
  endedAt: Millis;
  /** Of the waiting: until it was in a batch for the first time. */
  queuedMs: Millis;
  /** Earlier attempts included. */
  waitingMs: Millis;
  serviceMs: Millis;
  /** Absent when it ended before they were counted. */
  promptTokens?: number;
  completionTokens?: number;
}

type Lists = Pick<Engine, "run" | "reserve" | "keep">;

export class Changes {
  readonly calls = new Set<Call>();
  readonly programs = new Set<ProgramEntry>();
  /** With the batch that it had at the last look. */
  readonly engines = new Map<Engine, Lists>();
  private readonly ended = new Map<CallId, EndedCallView>();
  /** Some were forgotten since the last look. */
  lost = false;

  /** A call's state, and with it what its program shows. */
  call(call: Call): void {
    this.calls.add(call);
    this.program(call.program);
  }

  program(entry: ProgramEntry): void {
    this.programs.add(entry);
    if (this.calls.size + this.programs.size > CHANGED_MAX) this.forget();
  }

  /** A plan has these calls in its batch. */
  ran(calls: readonly Call[], at: Millis): void {
    for (const { service } of calls) if (service.ranAt === Number.POSITIVE_INFINITY) service.ranAt = at;
  }

  /** A call is over: what it took is told even when it came and went between two looks. */
  end(call: Call, finished: FinishedCall, at: Millis): void {
    // An outcome that was there already comes without figures.
    const waitingMs = Math.max(0, finished.found ? waitedMs(call, at) : finished.waitingMs);
    const serviceMs = Math.max(0, finished.found ? call.servedMs + call.serviceMs : finished.serviceMs);
    const { contextTokens, completionTokens } = finished;
    const isCounted = contextTokens !== undefined && completionTokens !== undefined;
    this.ended.delete(call.id);
    this.ended.set(call.id, {
      call: call.id,
      program: call.program.id,
      thread: call.thread,
      status: finished.status,
      level: call.level,
      engine: call.engine?.id,
      attempt: call.attempt,
      arrivedAt: call.arrivedAt,
      endedAt: at,
      queuedMs: Math.min(waitingMs, Math.max(0, call.service.ranAt - call.arrivedAt)),
      waitingMs,
      serviceMs,
      ...(isCounted ? { promptTokens: Math.max(0, contextTokens - completionTokens), completionTokens } : {}),
    });
    if (this.ended.size <= ENDED_MAX) return;
    for (const oldest of this.ended.keys()) {
      this.ended.delete(oldest);
      return;
    }
  }

  /** Takes the first ones out. */
  takeEnded(max: number): EndedCallView[] {
    const taken: EndedCallView[] = [];
    for (const id of this.ended.keys()) {
      if (taken.length >= max) break;
      taken.push(...this.takeEndOf(id));
    }
    return taken;
  }

  takeEndOf(id: CallId): EndedCallView[] {
    const ended = this.ended.get(id);
    this.ended.delete(id);
    return ended ? [ended] : [];
  }

  /** Something that the engine shows; said before it gets a new batch. Planning pays for no more than this. */
  engine(engine: Engine): void {
    if (!this.engines.has(engine)) this.engines.set(engine, listsOf(engine));
  }

  /** At a look: who entered a list of a batch, and who left one, since the last look. */
  settle(): void {
    for (const [engine, before] of this.engines) {
      const now = listsOf(engine);
      for (const list of ["run", "reserve", "keep"] as const) {
        for (const call of missingIn(now[list], before[list])) this.call(call);
        for (const call of missingIn(before[list], now[list])) this.call(call);
      }
      this.engines.set(engine, now);
    }
  }

  private forget(): void {
    this.calls.clear();
    this.programs.clear();
    this.lost = true;
  }
}

function missingIn(list: readonly Call[], calls: readonly Call[]): readonly Call[] {
  const listed = new Set(list);
  return calls.filter((call) => !listed.has(call));
}

function listsOf({ run, reserve, keep }: Engine): Lists {
  return { run, reserve, keep };
}
