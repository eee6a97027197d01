/** `autellix trace PROGRAM`: where a program's time went. From Jaeger when it is named, else from what the leader and the records of ended calls say. */
import {
  askView,
  type Bus,
  callKey,
  decodeAs,
  outcomeBodySchema,
  readOutcome,
  splitCallKey,
  type ViewCall,
  type ViewPage,
  type ViewProgram,
} from "@autellix/protocol";
import { ReadableError } from "../../usage.ts";
import { poolsThere } from "../listing.ts";
import { connect } from "../nats.ts";
import type { ObserveOptions } from "../options.ts";
import { duration, short } from "../text.ts";
import { jaegerWaterfall } from "./jaeger.ts";
import { extentOf, type Stretch, type Waterfall, type WaterfallRow, waterfallLines } from "./waterfall.ts";

/** Records read at the same time. */
const READS_MAX = 16;
const TENANT_DEFAULT = "default";

/** @returns the exit code. @throws ReadableError when nobody knows the program. */
export async function traceCommand(
  options: ObserveOptions,
  columns: number,
  print: (text: string) => void,
): Promise<number> {
  const tenant = options.tenant ?? TENANT_DEFAULT;
  const program = options.program ?? "";
  const waterfall =
    options.jaeger === undefined
      ? await fromRecords(options, tenant, program)
      : await jaegerWaterfall(options.jaeger, tenant, program);
  if (options.json) {
    print(
      `${JSON.stringify({ schema: 1, command: "trace", atMs: Date.now(), tenant, program, source: options.jaeger === undefined ? "records" : "jaeger", ...waterfall }, null, 2)}\n`,
    );
  } else {
    for (const line of waterfallLines(waterfall, columns, options.colors)) print(`${line}\n`);
  }
  return 0;
}

async function fromRecords(options: ObserveOptions, tenant: string, program: string): Promise<Waterfall> {
  const bus = await connect(options.nats, "trace");
  try {
    const pools = options.pools.length > 0 ? options.pools : await poolsThere(bus);
    const found = (await Promise.all(pools.map((pool) => inPool(bus, pool, tenant, program)))).filter(
      (one) => one !== undefined,
    );
    if (found.length === 0) {
      const where = pools.length === 0 ? "there is no pool" : `no leader of ${pools.join(", ")} knows it`;
      throw new ReadableError(
        `program "${program}" of tenant ${tenant} is not known: ${where}; programs without calls are forgotten after an hour`,
      );
    }
    return merged(program, found);
  } finally {
    await bus.nc.close();
  }
}

interface InPool {
  pool: string;
  atMs: number;
  program: ViewProgram;
  active: readonly ViewCall[];
  ended: readonly EndedCall[];
  /** Calls whose record is gone, or that are too many to be remembered. */
  missing: number;
}

interface EndedCall {
  call: string;
  engine: string;
  status: string;
  attempt: number;
  endedAtMs: number;
  waitingMs: number;
  serviceMs: number;
  promptTokens: number;
  completionTokens: number;
}

async function inPool(bus: Bus, pool: string, tenant: string, program: string): Promise<InPool | undefined> {
  const ask = (what: "programs" | "calls", from?: string) =>
    askView(bus, pool, { op: "page", what, tenant, program, ...(from === undefined ? {} : { from }) });
  const first = await ask("programs");
  const known = first?.programs?.[0];
  if (!first || !known) return undefined;
  const active: ViewCall[] = [];
  let page: ViewPage | undefined = await ask("calls");
  const endedKeys = page?.ended ?? [];
  while (page) {
    active.push(...(page.calls ?? []));
    page = page.next === undefined ? undefined : await ask("calls", page.next);
  }
  const ended: EndedCall[] = [];
  for (let at = 0; at < endedKeys.length; at += READS_MAX) {
    const some = await Promise.all(endedKeys.slice(at, at + READS_MAX).map((key) => recordOf(bus, pool, key)));
    ended.push(...some.filter((call) => call !== undefined));
  }
  return { pool, atMs: first.atMs, program: known, active, ended, missing: known.calls.ended - ended.length };
}

/** @returns undefined when the record is gone: it is kept for two hours. */
async function recordOf(bus: Bus, pool: string, key: string): Promise<EndedCall | undefined> {
  const { tenant, callId } = splitCallKey(key);
  const read = await readOutcome(bus, { pool, tenant, callId }, "any");
  if (read.kind !== "found" || read.record.head.kind !== "outcome") return undefined;
  const { head, body, storedAtMs = 0 } = read.record;
  const { timings, usage, response } = decodeAs(outcomeBodySchema, body);
  const tokens = usage ?? response?.usage;
  return {
    call: callKey(tenant, callId),
    engine: head.engine,
    status: head.status,
    attempt: head.attempt,
    endedAtMs: storedAtMs,
    waitingMs: timings?.waiting_ms ?? 0,
    serviceMs: timings?.service_ms ?? 0,
    promptTokens: tokens?.prompt_tokens ?? 0,
    completionTokens: tokens?.completion_tokens ?? 0,
  };
}

function merged(id: string, found: readonly InPool[]): Waterfall {
  const rows = found.flatMap(({ active, ended, atMs }) => [
    ...ended.map(endedRow),
    ...active.map((call) => activeRow(call, atMs)),
  ]);
  rows.sort((a, b) => (a.stretches[0]?.fromMs ?? 0) - (b.stretches[0]?.fromMs ?? 0));
  const all = rows.flatMap(({ stretches }) => stretches);
  const { fromMs, toMs } = extentOf(all) ?? { fromMs: 0, toMs: 0 };
  const spanMs = toMs - fromMs;
  const busyMs = covered(all);
  const total = (part: "queue" | "running") =>
    all.filter((s) => s.part === part).reduce((sum, s) => sum + s.toMs - s.fromMs, 0);
  const state = found.some(({ program }) => program.state === "open") ? "open" : "ended";
  const title = `program ${id} (${state}) in ${found.map(({ pool }) => pool).join(", ")}: ${duration(spanMs)}, ${rows.length} call${rows.length === 1 ? "" : "s"}; calls waited ${duration(total("queue"))} and ran ${duration(total("running"))}; ${duration(Math.max(0, spanMs - busyMs))} between calls`;
  const missing = found.reduce((sum, one) => sum + one.missing, 0);
  const remarks = [
    "Of a call that was stopped and gone on with, all waiting is drawn first; Jaeger knows each stay (--jaeger URL).",
  ];
  if (missing > 0)
    remarks.push(
      `${missing} older calls are not shown: their records are gone, or they were too many to be remembered.`,
    );
  return { title, rows, remarks };
}

/** Time in which at least one call was there: the rest is tools and people. */
function covered(stretches: readonly Stretch[]): number {
  let sum = 0;
  let untilMs = Number.NEGATIVE_INFINITY;
  for (const { fromMs, toMs } of [...stretches].sort((a, b) => a.fromMs - b.fromMs)) {
    sum += Math.max(0, toMs - Math.max(fromMs, untilMs));
    untilMs = Math.max(untilMs, toMs);
  }
  return sum;
}

function endedRow(call: EndedCall): WaterfallRow {
  const startedAtMs = call.endedAtMs - call.serviceMs;
  return row(call.call, startedAtMs - call.waitingMs, call.waitingMs, call.serviceMs, [
    call.engine,
    call.status === "completed" ? `${short(call.promptTokens)}+${short(call.completionTokens)} tokens` : call.status,
    ...(call.attempt > 1 ? [`attempt ${call.attempt}`] : []),
  ]);
}

function activeRow(call: ViewCall, atMs: number): WaterfallRow {
  const waitingMs = Math.max(0, atMs - call.arrivedAtMs - call.serviceMs);
  return row(call.call, call.arrivedAtMs, waitingMs, call.serviceMs, [
    call.engine ?? "",
    `${call.state} Q${call.level + 1}`,
    ...(call.attempt > 1 ? [`attempt ${call.attempt}`] : []),
  ]);
}

function row(
  call: string,
  fromMs: number,
  waitingMs: number,
  serviceMs: number,
  notes: readonly string[],
): WaterfallRow {
  const stretches: Stretch[] = [
    { part: "queue", fromMs, toMs: fromMs + waitingMs },
    { part: "running", fromMs: fromMs + waitingMs, toMs: fromMs + waitingMs + serviceMs },
  ];
  return {
    label: splitCallKey(call).callId,
    depth: 0,
    stretches: stretches.filter(({ fromMs: a, toMs: b }) => b > a),
    note: notes.filter((note) => note !== "").join(" "),
  };
}
