/** `ps`, `programs`, `calls`, `engines`: what the leaders say now, as a table or as JSON. */
import {
  type Bus,
  listPools,
  type PoolPicture,
  readPicture,
  type ViewCall,
  type ViewEngine,
  type ViewPool,
  type ViewProgram,
} from "@autellix/protocol";
import { ReadableError } from "../usage.ts";
import { connect } from "./nats.ts";
import type { ObserveCommand, ObserveOptions, SortKey } from "./options.ts";
import { type Column, cells, duration, fit, paint, short, table } from "./text.ts";

export type InPool<T> = T & { pool: string };

export interface Seen {
  /** When, by the streams' clock. */
  atMs: number;
  pools: ViewPool[];
  programs: InPool<ViewProgram>[];
  calls: InPool<ViewCall>[];
  engines: InPool<ViewEngine>[];
  /** Pools whose leader did not answer. */
  leaderless: string[];
}

/** @returns all pools. @throws ReadableError when a wanted one is none of them. */
export async function knownPools(bus: Bus, wanted: readonly string[]): Promise<string[]> {
  const known = await poolsThere(bus);
  const unknown = wanted.find((pool) => !known.includes(pool));
  if (unknown !== undefined) throw new ReadableError(unknownPool(unknown, known));
  return known;
}

export function unknownPool(unknown: string, known: readonly string[]): string {
  return `there is no pool "${unknown}"; there ${known.length === 1 ? "is" : "are"} ${known.join(", ") || "none"}`;
}

const TRIES_MAX = 5;
const PAUSE_MS = 300;

/** @throws ReadableError: an unknown pool, no pool, or no leader anywhere. */
export async function look(bus: Bus, wanted: readonly string[]): Promise<Seen> {
  const known = await knownPools(bus, wanted);
  if (known.length === 0) throw new ReadableError("there is no pool: no scheduler has worked on this nats-server yet");
  const pools = wanted.length > 0 ? wanted : known;
  const pictures = await Promise.all(pools.map(async (pool) => [pool, await pictureOf(bus, pool)] as const));
  const seen: Seen = { atMs: 0, pools: [], programs: [], calls: [], engines: [], leaderless: [] };
  for (const [pool, picture] of pictures) {
    if (!picture?.pool) {
      seen.leaderless.push(pool);
      continue;
    }
    seen.atMs = Math.max(seen.atMs, picture.atMs);
    seen.pools.push(picture.pool);
    for (const program of picture.programs.values()) seen.programs.push({ pool, ...program });
    for (const call of picture.calls.values()) seen.calls.push({ pool, ...call });
    for (const engine of picture.engines.values()) seen.engines.push({ pool, ...engine });
  }
  if (seen.pools.length === 0)
    throw new ReadableError(`no leader answers for ${pools.join(", ")}; ask: autellix doctor`);
  return seen;
}

/** @throws ReadableError when NATS does not say. */
export async function poolsThere(bus: Bus): Promise<string[]> {
  try {
    return await listPools(bus);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ReadableError(`pools could not be listed: ${reason}; ask: autellix doctor`);
  }
}

async function pictureOf(bus: Bus, pool: string): Promise<PoolPicture | undefined> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    if (tries > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const picture = await readPicture(bus, pool);
    if (picture) return picture;
  }
  return undefined;
}

/** @returns the exit code. */
export async function listing(
  command: Exclude<ObserveCommand, "top" | "trace" | "doctor">,
  options: ObserveOptions,
  print: (text: string) => void,
): Promise<number> {
  const bus = await connect(options.nats, command);
  try {
    const seen = await look(bus, options.pools);
    const rows = rowsOf(command, seen, options);
    if (options.json) {
      const { atMs, pools, leaderless } = seen;
      print(
        `${JSON.stringify({ schema: 1, command, atMs, pools, leaderless, [command === "ps" ? "programs" : command]: rows }, null, 2)}\n`,
      );
      return 0;
    }
    const [head = "", ...lines] = linesOf(command, rows, seen);
    print(`${paint(head, "bold", options.colors)}\n${lines.map((line) => `${line}\n`).join("")}`);
    for (const pool of seen.leaderless) print(`pool ${pool}: no leader answers; ask: autellix doctor\n`);
    return 0;
  } finally {
    await bus.nc.close();
  }
}

type Row = InPool<ViewProgram> | InPool<ViewCall> | InPool<ViewEngine>;

function rowsOf(command: "ps" | "programs" | "calls" | "engines", seen: Seen, options: ObserveOptions): Row[] {
  const { tenant, program, state, limit, sort = "service" } = options;
  if (command === "engines")
    return seen.engines.sort((a, b) => byName(`${a.pool} ${a.engine}`, `${b.pool} ${b.engine}`)).slice(0, limit);
  if (command === "calls") {
    return seen.calls
      .filter(
        (call) =>
          (tenant ?? tenantOf(call)) === tenantOf(call) &&
          (program ?? call.program) === call.program &&
          (state ?? call.state) === call.state,
      )
      .sort((a, b) => byName(a.pool, b.pool) || a.level - b.level || a.arrivedAtMs - b.arrivedAtMs)
      .slice(0, limit);
  }
  return seen.programs
    .filter((one) => (tenant ?? one.tenant) === one.tenant && (state ?? one.state) === one.state)
    .filter((one) => command === "programs" || one.calls.waiting + one.calls.running > 0)
    .sort((a, b) => byKey(sort, a, b) || byName(a.program, b.program))
    .slice(0, limit);
}

export function byKey(key: SortKey, a: ViewProgram, b: ViewProgram): number {
  switch (key) {
    case "service":
      return b.serviceMs - a.serviceMs;
    case "waiting":
      return b.waitingMs - a.waitingMs;
    case "level":
      return a.level - b.level;
    case "calls":
      return b.calls.running - a.calls.running || b.calls.waiting - a.calls.waiting;
    case "age":
      return a.startedAtMs - b.startedAtMs;
    case "name":
      return 0;
  }
}

const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const tenantOf = ({ call }: ViewCall) => call.slice(0, call.indexOf("/"));

// ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Cells that a name takes at most: a longer one is cut, and whole in JSON. */
const NAME_CELLS_MAX = 40;
const name = (text: string) => (cells(text) > NAME_CELLS_MAX ? fit(text, NAME_CELLS_MAX) : text);

function linesOf(command: "ps" | "programs" | "calls" | "engines", rows: Row[], { atMs, pools }: Seen): string[] {
  const many = pools.length > 1;
  const pool = <T extends { pool: string }>(): Column<T>[] =>
    many ? [{ title: "POOL", value: (row) => name(row.pool) }] : [];
  if (command === "engines")
    return table(rows as InPool<ViewEngine>[], [...pool<InPool<ViewEngine>>(), ...engineColumns]);
  if (command === "calls") return table(rows as InPool<ViewCall>[], [...pool<InPool<ViewCall>>(), ...callColumns]);
  return table(rows as InPool<ViewProgram>[], [...pool<InPool<ViewProgram>>(), ...programColumns(atMs)]);
}

function programColumns(atMs: number): Column<ViewProgram>[] {
  return [
    { title: "TENANT", value: ({ tenant }) => tenant },
    { title: "PROGRAM", value: ({ program }) => name(program) },
    {
      title: "STATE",
      value: ({ state, calls }) =>
        state === "ended" ? "ended" : calls.running > 0 ? "running" : calls.waiting > 0 ? "waiting" : "idle",
    },
    { title: "LEVEL", align: "right", value: ({ level }) => `Q${level + 1}` },
    { title: "SERVICE", align: "right", value: ({ serviceMs }) => duration(serviceMs) },
    { title: "WAITING", align: "right", value: ({ waitingMs }) => duration(waitingMs) },
    { title: "RUN", align: "right", value: ({ calls }) => String(calls.running) },
    { title: "WAIT", align: "right", value: ({ calls }) => String(calls.waiting) },
    { title: "ENDED", align: "right", value: ({ calls }) => String(calls.ended) },
    { title: "AGE", align: "right", value: ({ startedAtMs }) => duration(Math.max(0, atMs - startedAtMs)) },
    { title: "PIN", value: ({ pin }) => pin ?? "" },
  ];
}

const callColumns: Column<ViewCall>[] = [
  { title: "CALL", value: ({ call }) => name(call) },
  { title: "PROGRAM", value: ({ program }) => name(program) },
  { title: "THREAD", value: ({ thread }) => name(thread ?? "") },
  { title: "STATE", value: ({ state }) => state },
  { title: "LEVEL", align: "right", value: ({ level }) => `Q${level + 1}` },
  { title: "ENGINE", value: ({ engine }) => engine ?? "" },
  { title: "TRY", align: "right", value: ({ attempt }) => String(attempt) },
  { title: "WAITING", align: "right", value: ({ waitingMs }) => duration(waitingMs) },
  { title: "SERVICE", align: "right", value: ({ serviceMs }) => duration(serviceMs) },
  { title: "PROMPT", align: "right", value: ({ promptTokens }) => short(promptTokens) },
  { title: "ANSWER", align: "right", value: ({ completionTokens }) => short(completionTokens) },
];

const engineColumns: Column<ViewEngine>[] = [
  { title: "ENGINE", value: ({ engine }) => name(engine) },
  { title: "KIND", value: ({ info }) => info.kind },
  { title: "STATE", value: ({ state }) => state },
  { title: "RUN", align: "right", value: ({ run, info }) => `${run.length}/${info.batchCallsMax}` },
  { title: "NEXT", align: "right", value: ({ reserve }) => String(reserve.length) },
  { title: "PARKED", align: "right", value: ({ keep }) => String(keep.length) },
  { title: "RETAINED", align: "right", value: ({ retained }) => String(retained.length) },
  {
    title: "KV",
    align: "right",
    value: ({ kv, info }) =>
      kv ? `${Math.round((100 * (kv.running + kv.parked + kv.retained)) / info.kvBlocks)} %` : "",
  },
  { title: "STEPS", align: "right", value: ({ counters }) => short(counters.steps) },
  { title: "TOKENS", align: "right", value: ({ counters }) => short(counters.tokens) },
  {
    title: "SWAPS",
    align: "right",
    value: ({ counters }) => short((counters.swapOuts ?? 0) + (counters.swapIns ?? 0)),
  },
  { title: "MODEL", value: ({ info }) => name(info.models[0] ?? "") },
];
