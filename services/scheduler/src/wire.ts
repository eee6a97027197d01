/** Between the core's words and the wire's: the core knows sizes and times, the wire also addresses and replies. */
import {
  type CallRecord,
  callId,
  type EngineCapacity,
  type EnginePlan,
  type EngineReport,
  engineId,
  type FinishedCall,
  type PlannedCall,
} from "@autellix/core";
import type {
  CallKey,
  EngineInfo,
  Plan,
  PlanCall,
  RecordHead,
  Report,
  Traced,
  FinishedCall as WireFinishedCall,
} from "@autellix/protocol";
import type { KnownCall } from "./arrival.ts";

/** What a plan says of a traced call beside what the core says. */
export type TracedOf = (known: KnownCall, isDispatched: boolean) => { traced?: Traced; level?: number } | undefined;

export function toWirePlan(
  plan: EnginePlan,
  pool: string,
  epoch: number,
  calls: ReadonlyMap<CallKey, KnownCall>,
  tracedOf?: TracedOf,
): Plan {
  const full = ({ call, attempt, dispatch }: PlannedCall): PlanCall => {
    const known = calls.get(call);
    const { traced, level } = (known && tracedOf?.(known, dispatch !== undefined)) ?? {};
    if (!dispatch || !known) return level === undefined ? { call, attempt } : { call, attempt, level };
    const { program, thread, reply, trace, bodyObject } = known;
    const { seq, fence, waitedMs, servedMs, continues } = dispatch;
    const address = { program, ...defined({ thread, reply, trace, bodyObject, continues, traced }) };
    return { call, attempt, dispatch: { seq, fence, waitedMs, servedMs, ...address }, ...defined({ level }) };
  };
  const { engine, incarnation, number, reportSeen, windowSteps } = plan;
  return {
    pool,
    engine,
    incarnation,
    epoch,
    number,
    reportSeen,
    run: plan.run.map(full),
    reserve: plan.reserve.map(full),
    keep: plan.keep.map((call) => ({ ...full(call), tier: call.tier })),
    retained: plan.retained.map(({ call, tier }) => ({ call, tier })),
    cancel: [...plan.cancel],
    fences: [...plan.fences],
    windowSteps,
  };
}

/** What an agent says of its engine, as far as plans depend on it. */
export function toCoreCapacity(info: EngineInfo): EngineCapacity {
  const { batchCallsMax, residentCallsMax, heldCallsMax, kvBlocks, blockTokens, preemption } = info;
  const { hostBlocks, retains } = info;
  return {
    ...{ batchCallsMax, residentCallsMax, heldCallsMax, kvBlocks, blockTokens, preemption },
    ...defined({ hostBlocks, retains }),
  };
}

/** What a record that was read at the take-over means to the core. */
export function toCoreRecord(seq: number, head: RecordHead): CallRecord {
  if (head.kind === "outcome") return { kind: "terminal" };
  return { kind: "marker", seq, attempt: head.attempt, crashes: head.crashes };
}

/** @param epoch of this leader: a plan of an earlier one counts as none. */
export function toCoreReport(report: Report, epoch: number): EngineReport {
  return {
    engine: engineId(report.engine),
    incarnation: report.incarnation,
    number: report.number,
    planNumber: report.planEpoch === epoch ? report.planNumber : 0,
    calls: report.calls.map((c) => ({
      call: callId(c.call),
      attempt: c.attempt,
      serviceMs: c.serviceMs,
      contextTokens: c.contextTokens,
      ...defined({ preemptible: c.preemptible }),
    })),
    finished: report.finished.map(toCoreFinished),
    fenced: report.fenced.map((f) => ({ call: callId(f.call), attempt: f.attempt })),
    ...defined({ draining: report.draining }),
  };
}

/** Its token counts go along: the core decides nothing by each of them, but people and readers of the input log see them. */
function toCoreFinished(finished: WireFinishedCall): FinishedCall {
  const { call, attempt, status, found, serviceMs, waitingMs, promptTokens, completionTokens } = finished;
  const contextTokens = promptTokens + completionTokens;
  return {
    call: callId(call),
    attempt,
    status,
    found,
    serviceMs,
    waitingMs,
    // A call that ended before it was counted has none: the core goes on with what it knows.
    ...(contextTokens > 0 ? { contextTokens } : {}),
    completionTokens,
  };
}

/** Only the fields that have a value: optional fields are absent on the wire, not undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
