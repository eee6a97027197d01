/** Between what the core shows and the words of the wire, and how large that becomes. */
import type { CallView, EndedCallView, ProgramView } from "@autellix/core";
import type { CallKey, Report, ReportCall, ViewCall, ViewEnded, ViewEngine, ViewProgram } from "@autellix/protocol";

/** A call key and its tenant are names of 64 characters; program and thread may have 256 of three bytes. */
export const ID_BYTES_MAX = 140;
const TEXT_BYTES_MAX = 3 * 256;
export const CALL_BYTES = 450;
export const PROGRAM_BYTES = 450;
export const CALL_BYTES_MAX = CALL_BYTES + 2 * TEXT_BYTES_MAX;
export const PROGRAM_BYTES_MAX = PROGRAM_BYTES + TEXT_BYTES_MAX;

export function textBytes(text: string): number {
  return 3 * text.length;
}

export function engineBytes({ run, reserve, keep, retained }: ViewEngine): number {
  return 2_000 + (run.length + reserve.length + keep.length + retained.length) * (ID_BYTES_MAX + 24);
}

export function isNews(before: ReportCall, now: ReportCall): boolean {
  return (
    before.state !== now.state ||
    before.attempt !== now.attempt ||
    before.serviceMs !== now.serviceMs ||
    before.contextTokens !== now.contextTokens ||
    before.completionTokens !== now.completionTokens
  );
}

export function isWorkDone({ counters: before, kv: kvBefore }: Report, { counters: now, kv }: Report): boolean {
  return (
    before.steps !== now.steps ||
    before.tokens !== now.tokens ||
    before.swapBytes !== now.swapBytes ||
    kvBefore?.running !== kv?.running ||
    kvBefore?.parked !== kv?.parked ||
    kvBefore?.retained !== kv?.retained ||
    kvBefore?.host !== kv?.host
  );
}

export function callState(
  { stage, planned, serviceMs }: CallView,
  reported: ReportCall | undefined,
): ViewCall["state"] {
  if (stage === "settling" || stage === "closing" || stage === "ended") return "ending";
  if (stage !== "queued" || !planned) return "waiting";
  if (reported === undefined || reported.state === "fetching") return "starting";
  // An agent may hold a call that has not begun yet, and calls it parked or evicted: to people it waits.
  const isIdle = reported.state === "parked" || reported.state === "evicted";
  return isIdle && serviceMs === 0 ? "waiting" : reported.state;
}

export function isAsked(
  ask: { tenant?: string | undefined; program?: string | undefined },
  item: { tenant: string; program: string },
): boolean {
  return (ask.tenant ?? item.tenant) === item.tenant && (ask.program ?? item.program) === item.program;
}

export function tenantOf(call: CallKey): string {
  return call.slice(0, call.indexOf("/"));
}

/** `<tenant>/<program>`; a tenant has no slash. */
export function splitProgram(id: string): { tenant: string; program: string } {
  const slash = id.indexOf("/");
  return { tenant: id.slice(0, slash), program: id.slice(slash + 1) };
}

export function toEnded(view: EndedCallView): ViewEnded {
  const { call, program, thread, engine, arrivedAt, endedAt, ...rest } = view;
  return {
    call,
    program: splitProgram(program).program,
    ...(thread === undefined ? {} : { thread }),
    ...(engine === undefined ? {} : { engine }),
    arrivedAtMs: arrivedAt,
    endedAtMs: endedAt,
    ...rest,
  };
}

export function toProgram(view: ProgramView): ViewProgram {
  return {
    ...splitProgram(view.program),
    state: view.endedAt === undefined ? "open" : "ended",
    serviceMs: view.serviceMs,
    waitingMs: view.waitingMs,
    attained: view.attained,
    level: view.level,
    calls: view.calls,
    startedAtMs: view.arrivedAt,
    lastAtMs: view.lastUseAt,
    ...(view.pin === undefined ? {} : { pin: view.pin }),
  };
}
