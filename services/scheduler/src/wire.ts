/** Between the core's words and the wire's: the core knows sizes and times, the wire also addresses and replies. */
import {
  type CallRecord,
  callId,
  type EnginePlan,
  type EngineReport,
  engineId,
  type PlannedCall,
} from "@autellix/core";
import type { CallKey, Plan, PlanCall, RecordHead, Report } from "@autellix/protocol";
import type { KnownCall } from "./arrival.ts";

export function toWirePlan(
  plan: EnginePlan,
  pool: string,
  epoch: number,
  calls: ReadonlyMap<CallKey, KnownCall>,
): Plan {
  const full = ({ call, attempt, dispatch }: PlannedCall): PlanCall => {
    const known = calls.get(call);
    if (!dispatch || !known) return { call, attempt };
    const { program, thread, reply, trace, bodyObject } = known;
    return { call, attempt, dispatch: { ...dispatch, program, ...defined({ thread, reply, trace, bodyObject }) } };
  };
  return {
    ...plan,
    pool,
    epoch,
    run: plan.run.map(full),
    reserve: plan.reserve.map(full),
    keep: plan.keep.map(full),
    cancel: [...plan.cancel],
    fences: [...plan.fences],
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
    calls: report.calls.map((c) => ({ ...c, call: callId(c.call) })),
    finished: report.finished.map((f) => ({ ...f, call: callId(f.call) })),
    fenced: report.fenced.map((f) => ({ ...f, call: callId(f.call) })),
  };
}

/** Only the fields that have a value: optional fields are absent on the wire, not undefined. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
