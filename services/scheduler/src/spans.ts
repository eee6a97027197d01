/**
 * What a leader adds to the traces of its programs: the root at first sight, what agents cannot know of a call's
 * waiting (in plans), the spans of calls that end without an agent, a span for a take-over that calls lived through,
 * and a program's totals. Agents send everything else, with the call's end.
 *
 * Every leader that sees an open program sends its root again, and agents send it with its first call: it is the same
 * to the byte each time, so that no process that dies leaves a trace without its root.
 */
import {
  type CallPlace,
  type Command,
  callId,
  type EnginePlan,
  type PlannedCall,
  type ProgramTimes,
  programId,
  type Scheduler,
} from "@autellix/core";
import {
  attemptSpans,
  type CallKey,
  callSpan,
  callSpanIds,
  type ErrorCode,
  isSampled,
  queuedUntilMs,
  queueSpans,
  type Report,
  rootIdOf,
  rootSpan,
  rounded,
  type SentSpan,
  type SpanData,
  spanIdBelow,
  type TerminalStatus,
  TRACED_ATTEMPTS_MAX,
  TRACED_WAITS_MAX,
  type Traced,
  traceIdOf,
} from "@autellix/protocol";
import type { KnownCall } from "./arrival.ts";
import type { Effect, TakeOver } from "./events.ts";
import { ThreadEnds } from "./thread-ends.ts";
import { UnsentSpans } from "./unsent-spans.ts";
import { behind, type LastPlan, type Queue } from "./waiting.ts";
import type { TracedOf } from "./wire.ts";

/** Programs whose totals are awaited; the one that was seen first is given up above it. */
const PROGRAMS_MAX = 100_000;
/** Programs that are looked at for having been forgotten, per tick. */
const LOOKS_MAX = 25;

/** What a leader notes of a traced call, beside what it tells its agent. */
export interface CallNotes extends Pick<Traced, "programAtMs" | "arrivedAtMs" | "waits" | "behind" | "idleFromMs"> {
  attempts: NonNullable<Traced["attempts"]>;
  /** When this leader read it. */
  readAtMs: number;
  /** Where the core has it. */
  place: Readonly<CallPlace> | undefined;
  /** The queue that plans have named last; only changes are told. */
  levelTold: number | undefined;
  /** Its last dispatch by this leader. */
  dispatched: { attempt: number; engine: string; atMs: number } | undefined;
}

interface OpenProgram {
  tenant: string;
  program: string;
  startedAtMs: number;
  /** By this leader. */
  rootSent: boolean;
  /** As of the last end of a call of it. */
  sums: Sums;
  threadEnds: ThreadEnds;
}

type Sums = Pick<ProgramTimes, "serviceMs" | "waitingMs" | "pathServiceMs" | "endedCalls" | "engines"> & {
  endedAtMs: number;
};

export interface SpanDeskSetup {
  pool: string;
  epoch: number;
  leader: string;
  /** 0 … 1 */
  sample: number;
}

export class SpanDesk {
  private readonly setup: SpanDeskSetup;
  private readonly core: Scheduler;
  private readonly calls: ReadonlyMap<CallKey, KnownCall>;
  private readonly emit: (effect: Effect) => void;
  /** By `<tenant>/<program>`: those whose root was sent and whose totals were not. */
  private readonly programs = new Map<string, OpenProgram>();
  /** Where the search for forgotten programs goes on. */
  private looking: Iterator<[string, OpenProgram]> | undefined;
  private readonly engines = new Map<string, LastPlan>();
  private readonly unsent = new UnsentSpans();
  private former: TakeOver["former"];
  private startedAt = 0;

  constructor(
    setup: SpanDeskSetup,
    core: Scheduler,
    calls: ReadonlyMap<CallKey, KnownCall>,
    emit: (effect: Effect) => void,
  ) {
    this.setup = setup;
    this.core = core;
    this.calls = calls;
    this.emit = emit;
  }

  /** Begins to lead. Programs of a former leader end here, too. */
  takesOver({ programs, former }: TakeOver, at: number): void {
    this.former = former;
    this.startedAt = at;
    for (const entry of programs) {
      if (entry.endedAt !== undefined) continue;
      const { tenant, program } = splitProgram(entry.program);
      if (this.samples(tenant, program))
        this.open({
          tenant,
          program,
          startedAtMs: entry.arrivedAt,
          rootSent: false,
        });
    }
  }

  // ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Before the core hears of the call: when the last call of its program, or of its thread, had ended, if nothing of it is active. */
  idleFromMs({ address, program, thread }: KnownCall): number | undefined {
    const id = `${address.tenant}/${program}`;
    const past = this.core.past(programId(id));
    if (past?.threadCount === 0) return past.lastCompletionAt;
    return this.programs.get(id)?.threadEnds.of(thread);
  }

  /** After the core has heard of the call. */
  arrived(key: CallKey, known: KnownCall, storedAtMs: number, idleFromMs: number | undefined, at: number): void {
    const { tenant } = known.address;
    const { program } = known;
    if (known.notes || !this.samples(tenant, program)) return;
    const id = `${tenant}/${program}`;
    const past = this.core.past(programId(id));
    const startedAtMs = past?.arrivedAt ?? storedAtMs;
    const place = this.core.place(callId(key));
    known.notes = {
      programAtMs: startedAtMs,
      arrivedAtMs: storedAtMs,
      waits: [{ level: place?.level ?? 0, fromMs: storedAtMs }],
      place,
      levelTold: undefined,
      attempts: [],
      readAtMs: at,
      dispatched: undefined,
      ...(idleFromMs === undefined ? {} : { idleFromMs }),
    };
    // A call that named no program is one by itself: its span has the totals.
    const isAlone = program === known.address.callId;
    if (!isAlone && this.programs.has(id)) return;
    if (past && !isAlone) this.open({ tenant, program, startedAtMs, rootSent: true });
    this.send(() => [rootSpan(tenant, program, startedAtMs)]);
  }

  /** A call's end is known and acked. */
  acked(known: KnownCall | undefined, at: number): void {
    if (!known?.notes) return;
    const { address, program } = known;
    const open = this.programs.get(`${address.tenant}/${program}`);
    if (!open) return;
    const past = this.core.past(programId(`${address.tenant}/${program}`));
    if (!past) return;
    open.sums = sumsOf(past, at);
    open.threadEnds.note(known.thread, at);
    if (past.endedAt !== undefined && past.threadCount === 0) this.close(open);
  }

  /** A call whose headers are bad: the core never hears of it. */
  refused(key: CallKey, known: KnownCall, storedAtMs: number, code: ErrorCode, at: number): void {
    this.arrived(key, known, storedAtMs, undefined, at);
    this.ended(known, { status: "failed", code, attempt: 1 }, at);
  }

  /** A record that this leader wrote is stored: no agent sends this call's span. */
  ended(known: KnownCall, end: { status: TerminalStatus; code: ErrorCode | undefined; attempt: number }, at: number) {
    const { notes } = known;
    if (!notes) return;
    const traced = this.tracedOf(notes, at);
    const call = { ...known, traced };
    const ids = callSpanIds(call);
    const waitingMs = Math.max(0, at - notes.arrivedAtMs);
    const span = callSpan(call, ids, { ...end, endedAtMs: at, epoch: this.setup.epoch, waitingMs, serviceMs: 0 });
    const until = queuedUntilMs(traced, at);
    this.send(span, ...queueSpans(traced, ids, until), ...attemptSpans(traced, ids, at));
  }

  // ── plans ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** @param batchCallsMax of the engine. */
  planned(plan: EnginePlan, batchCallsMax: number, at: number): void {
    const last = this.engines.get(plan.engine);
    const next = { atMs: at, ran: plan.run.map(({ call }) => this.calls.get(call)) };
    for (const entry of plan.run) this.dispatched(entry, plan.engine, at, { last, ran: last?.ran, batchCallsMax });
    // What is not in the batch waits behind it.
    const queue = { last, ran: next.ran, batchCallsMax };
    for (const entry of plan.reserve) this.dispatched(entry, plan.engine, at, queue);
    for (const entry of plan.keep) this.dispatched(entry, plan.engine, at, queue);
    this.engines.set(plan.engine, next);
  }

  reported(report: Report, at: number): void {
    this.unsent.reported(report, at);
  }

  /** @param died without a goodbye: what its agent had not sent is lost, but for the spans of ended calls. */
  engineLost(engine: string, died: boolean): void {
    const spans = this.unsent.take(engine);
    if (died && spans.length > 0) this.send(...spans);
    this.engines.delete(engine);
  }

  private dispatched({ call, attempt, dispatch }: PlannedCall, engine: string, at: number, queue: Queue): void {
    const notes = dispatch && this.calls.get(call)?.notes;
    if (!notes) return;
    const last = notes.dispatched;
    if (last?.attempt === attempt && last.engine === engine) return;
    notes.dispatched = { attempt, engine, atMs: at };
    const { place, arrivedAtMs } = notes;
    const before = notes.waits.at(-1);
    if (!last && place && before && place.level !== before.level && notes.waits.length < TRACED_WAITS_MAX) {
      notes.waits.push({ level: place.level, fromMs: promotedAt(place, arrivedAtMs) ?? at });
    }
    const reason = last ? undefined : behind(notes.readAtMs, queue);
    if (reason) notes.behind = reason;
  }

  /** What a plan says of its calls beside what the core says; nothing of those that are not traced. */
  onWire(at: number): TracedOf {
    return ({ notes }, isDispatched) => {
      if (!notes) return undefined;
      const level = notes.place?.level;
      if (level === undefined || (!isDispatched && level === notes.levelTold)) return undefined;
      notes.levelTold = level;
      return isDispatched ? { level, traced: this.tracedOf(notes, at) } : { level };
    };
  }

  private tracedOf(notes: CallNotes, at: number): Traced {
    const { programAtMs, arrivedAtMs, waits, behind, attempts, idleFromMs } = notes;
    return {
      ...{ atMs: at, programAtMs, arrivedAtMs, waits },
      ...(behind ? { behind } : {}),
      ...(attempts.length > 0 ? { attempts } : {}),
      ...(idleFromMs === undefined ? {} : { idleFromMs }),
    };
  }

  /** Its attempt is over: a marker is written, then it goes to another engine. */
  superseded({ call, attempt, cause }: Extract<Command, { kind: "writeMarker" }>, at: number): void {
    const notes = this.calls.get(call)?.notes;
    if (!notes) return;
    const { dispatched, arrivedAtMs, attempts } = notes;
    attempts.push({
      attempt: Math.max(1, attempt - 1),
      ...(dispatched ? { engine: dispatched.engine } : {}),
      cause,
      fromMs: dispatched?.atMs ?? attempts.at(-1)?.lostAtMs ?? arrivedAtMs,
      lostAtMs: at,
    });
    if (attempts.length > TRACED_ATTEMPTS_MAX) attempts.shift();
  }

  // ── programs ───────────────────────────────────────────────────────────────────────────────────────────────

  /** Leads: one span for each program that has calls which lived through it. */
  tookOver(at: number): void {
    const { former, startedAt: startMs } = this;
    const lived = new Map<string, number>();
    for (const { address, program, notes } of this.calls.values()) {
      if (!notes) continue;
      const id = `${address.tenant}/${program}`;
      lived.set(id, (lived.get(id) ?? 0) + 1);
    }
    const { pool, epoch, leader } = this.setup;
    for (const [id, calls] of lived) {
      const { tenant, program } = splitProgram(id);
      const traceId = traceIdOf(tenant, program);
      const rootId = rootIdOf(traceId);
      this.send({
        traceId,
        spanId: spanIdBelow(rootId, "take-over", pool, epoch),
        parentId: rootId,
        name: "take-over",
        startMs,
        endMs: at,
        attributes: {
          ...{ "autellix.pool": pool, "autellix.epoch": epoch, "autellix.leader": leader },
          "autellix.calls": calls,
          "autellix.former_leader": former?.leader,
        },
        ...(former ? { events: [{ name: "the former leader renewed its lease", atMs: former.renewedAtMs }] } : {}),
      });
    }
  }

  /** A program was ended by its owner; its accepted calls may still run. */
  programEnded(tenant: string, program: string, at: number): void {
    const id = `${tenant}/${program}`;
    const past = this.core.past(programId(id));
    if (!past || past.threadCount > 0 || !this.samples(tenant, program)) return;
    const open = this.programs.get(id);
    if (!open) return;
    open.sums = sumsOf(past, open.sums.endedAtMs > open.startedAtMs ? open.sums.endedAtMs : at);
    this.close(open);
  }

  /** Programs that the table has forgotten have ended, too. */
  tick(): void {
    this.looking ??= this.programs.entries();
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      const next = this.looking.next();
      if (next.done) {
        this.looking = undefined;
        return;
      }
      const [id, open] = next.value;
      if (!this.core.past(programId(id))) this.close(open);
    }
  }

  private open(seen: Omit<OpenProgram, "sums" | "threadEnds">): void {
    const id = `${seen.tenant}/${seen.program}`;
    const past = this.core.past(programId(id));
    const sums = sumsOf(past, past?.lastCompletionAt ?? seen.startedAtMs);
    this.programs.set(id, { ...seen, sums, threadEnds: new ThreadEnds() });
    if (this.programs.size <= PROGRAMS_MAX) return;
    for (const oldest of this.programs.keys()) {
      this.programs.delete(oldest);
      return;
    }
  }

  private close(open: OpenProgram): void {
    const { tenant, program, startedAtMs, rootSent } = open;
    this.programs.delete(`${tenant}/${program}`);
    if (!rootSent) this.send(() => [rootSpan(tenant, program, startedAtMs)]);
    this.send(() => [totalsSpan(this.setup.pool, open)]);
  }

  private samples(tenant: string, program: string): boolean {
    return isSampled(tenant, program, this.setup.sample);
  }

  private send(...spans: SentSpan[]): void {
    this.emit({ kind: "sendSpans", spans });
  }
}

function promotedAt({ promotedWaitingMs, promotedServiceMs }: CallPlace, arrivedAtMs: number): number | undefined {
  const sinceArrivalMs = promotedWaitingMs + promotedServiceMs;
  return sinceArrivalMs > 0 ? arrivedAtMs + sinceArrivalMs : undefined;
}

function totalsSpan(pool: string, { tenant, program, startedAtMs, sums }: OpenProgram): SpanData {
  const traceId = traceIdOf(tenant, program);
  const rootId = rootIdOf(traceId);
  return {
    traceId,
    spanId: spanIdBelow(rootId, "totals", pool),
    parentId: rootId,
    name: "program totals",
    startMs: startedAtMs,
    endMs: sums.endedAtMs,
    attributes: {
      "autellix.pool": pool,
      "autellix.calls": sums.endedCalls,
      "autellix.service_ms": rounded(sums.serviceMs),
      "autellix.waiting_ms": rounded(sums.waitingMs),
      "autellix.critical_path_ms": rounded(sums.pathServiceMs),
      "autellix.engines": [...sums.engines],
    },
  };
}

function sumsOf(past: ProgramTimes | undefined, endedAtMs: number): Sums {
  const { serviceMs = 0, waitingMs = 0, pathServiceMs = 0, endedCalls = 0, engines = [] } = past ?? {};
  return { serviceMs, waitingMs, pathServiceMs, endedCalls, engines, endedAtMs };
}

function splitProgram(id: string): { tenant: string; program: string } {
  const slash = id.indexOf("/");
  return { tenant: id.slice(0, slash), program: id.slice(slash + 1) };
}
