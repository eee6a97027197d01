/** The picture that `top` shows, as lines for a terminal of some size: no clock, no terminal, so tests can look at it. */
import { type PoolPicture, programKey, type ViewEngine, type ViewPool, type ViewProgram } from "@autellix/protocol";
import { byKey } from "../listing.ts";
import type { SortKey } from "../options.ts";
import { attainedText, bar, cells, duration, fit, paint, type Style, short } from "../text.ts";
import type { Letters } from "./letters.ts";
import type { Rate } from "./rates.ts";

export interface Size {
  columns: number;
  rows: number;
}

export interface TopPool {
  pool: string;
  /** Undefined until the leader has answered. */
  picture: PoolPicture | undefined;
  hasLeader: boolean;
}

export interface TopView {
  url: string;
  /** The time of day, as a person reads it. */
  clock: string;
  pools: readonly TopPool[];
  sort: SortKey;
  /** Programs that are scrolled past. */
  offset: number;
  /** What an engine does now. */
  rateOf: (engine: string) => Rate | undefined;
  letters: Letters;
  /** What a person should know, such as a lost connection. */
  problem: string | undefined;
  colors: boolean;
}

interface Piece {
  text: string;
  style?: Style;
}

/** Smaller ones cannot show an engine and a program. */
const COLUMNS_MIN = 40;
const ROWS_MIN = 10;
/** The program table keeps so many lines: its head, some rows, and the last line of the screen. */
const TABLE_ROWS_MIN = 7;
const SLOTS_SHARE = 0.35;
/** On a wide terminal numbers stay near the names that they belong to. */
const NAME_CELLS_MAX = 64;

/** @returns exactly `size.rows` lines of at most `size.columns` cells. */
export function topLines(view: TopView, size: Size): string[] {
  if (size.columns < COLUMNS_MIN || size.rows < ROWS_MIN) {
    return padded(
      [line([{ text: `too small: ${COLUMNS_MIN}×${ROWS_MIN} at least` }], size.columns, view.colors)],
      size,
      view.colors,
    );
  }
  const above = [title(view, size), ...poolLines(view, size)];
  const programs = sortedPrograms(view);
  const room = Math.max(0, size.rows - above.length - 2);
  const offset = Math.max(0, Math.min(view.offset, programs.length - room));
  const rows = programs.slice(offset, offset + room);
  const lines = [...above, tableHead(view, size), ...rows.map((row) => programLine(view, row, size))];
  return [
    ...padded(lines.slice(0, size.rows - 1), { ...size, rows: size.rows - 1 }, view.colors),
    foot(view, programs.length, offset, rows.length, size),
  ];
}

/** The first facts that fit whole: half a word says nothing. */
function whole(facts: readonly string[], columns: number): string {
  let text = "";
  for (const fact of facts) {
    if (cells(text) + cells(fact) + 2 > columns) break;
    text += `  ${fact}`;
  }
  return text;
}

function cellsOf(pieces: readonly Piece[]): number {
  return sum(pieces.map(({ text }) => cells(text)));
}

function padded(lines: string[], { rows, columns }: Size, colors: boolean): string[] {
  const empty = line([], columns, colors);
  return [...lines, ...Array.from({ length: Math.max(0, rows - lines.length) }, () => empty)].slice(0, rows);
}

/** Pieces beside each other, cut at the edge. */
function line(pieces: readonly Piece[], columns: number, colors: boolean): string {
  let left = columns;
  let text = "";
  for (const { text: piece, style } of pieces) {
    if (left <= 0) break;
    const own = cells(piece);
    const shown = own <= left ? piece : fit(piece, left);
    left -= Math.min(own, left);
    text += style === undefined ? shown : paint(shown, style, colors);
  }
  return text;
}

function title({ url, clock, sort, colors }: TopView, { columns }: Size): string {
  const right = `sort ${sort} (s)  quit (q)  ${clock} `;
  const left = ` autellix top  ${url}`;
  return line([{ text: `${fit(left, columns - right.length)}${right}`, style: "reverse" }], columns, colors);
}

// ── pools and engines ──────────────────────────────────────────────────────────────────────────────────────────

function poolLines(view: TopView, size: Size): string[] {
  const { pools, colors } = view;
  if (pools.length === 0)
    return [
      line(
        [{ text: " no pool yet: no scheduler has worked on this nats-server", style: "yellow" }],
        size.columns,
        colors,
      ),
    ];
  const room = size.rows - 2 - TABLE_ROWS_MIN;
  const shown = pools.slice(0, Math.max(1, Math.floor(room / 3)));
  let enginesLeft = Math.max(1, room - 2 * shown.length - (shown.length < pools.length ? 1 : 0));
  const lines: string[] = [];
  for (const [index, pool] of shown.entries()) {
    const share = Math.max(1, Math.floor(enginesLeft / (shown.length - index)));
    const engines = engineLines(view, pool, share, size);
    enginesLeft -= engines.length;
    lines.push(...headLines(view, pool, size), ...engines);
  }
  if (shown.length < pools.length)
    lines.push(
      line(
        [{ text: ` … ${pools.length - shown.length} more pools (--pool NAME)`, style: "dim" }],
        size.columns,
        colors,
      ),
    );
  return lines;
}

function headLines({ colors }: TopView, { pool, picture, hasLeader }: TopPool, { columns }: Size): string[] {
  const name: Piece = { text: ` ${pool}`, style: "bold" };
  const seen = picture?.pool;
  if (!seen || !hasLeader) {
    const text = seen ? "  the leader is silent; this was seen last" : "  no leader answers; ask: autellix doctor";
    const first = line([name, { text, style: "red" }], columns, colors);
    return seen ? [first, levelLine(seen, columns, colors)] : [first];
  }
  const { totals } = seen;
  const facts = [
    seen.policy,
    `running ${short(seen.runningCalls)}`,
    `waiting ${short(sum(seen.waitingByLevel))}`,
    `ends ${short(seen.endsPerSecond)}/s`,
    `programs ${short(seen.programs)}`,
    `preempted ${short(totals.preemptions)}`,
    `demoted ${short(totals.demotions)}`,
    `promoted ${short(totals.promotions)}`,
    `failovers ${short(totals.failovers)}`,
    `ended ${short(totals.ended)}`,
    `epoch ${seen.epoch}`,
  ];
  const warning: Piece[] = seen.dispatching ? [] : [{ text: `  STOPPED: ${seen.reason ?? ""}`, style: "red" }];
  const left = columns - cellsOf([name, ...warning]);
  return [line([name, ...warning, { text: whole(facts, left) }], columns, colors), levelLine(seen, columns, colors)];
}

/** Who waits in Q1 … QK, with a bar each. */
function levelLine({ waitingByLevel }: ViewPool, columns: number, colors: boolean): string {
  const width = Math.min(26, Math.floor((columns - 2) / Math.max(1, waitingByLevel.length)));
  const most = Math.max(1, ...waitingByLevel);
  const pieces: Piece[] = [{ text: "  " }];
  for (const [level, count] of waitingByLevel.entries()) {
    const label = `Q${level + 1} ${short(count)} `;
    const room = Math.max(0, width - cells(label) - 1);
    const filled = bar(count / most, room);
    pieces.push({ text: label, ...(count === 0 ? { style: "dim" as const } : {}) });
    pieces.push(
      { text: filled, style: levelStyle(level) },
      { text: " ".repeat(Math.max(0, width - cells(label) - cells(filled))) },
    );
  }
  return line(pieces, columns, colors);
}

function levelStyle(level: number): Style {
  return level === 0 ? "green" : level < 3 ? "yellow" : "red";
}

function engineLines(view: TopView, { picture }: TopPool, linesMax: number, size: Size): string[] {
  const engines = [...(picture?.engines.values() ?? [])].sort((a, b) => (a.engine < b.engine ? -1 : 1));
  const fits = engines.length <= linesMax ? engines.length : Math.max(0, linesMax - 1);
  const names = Math.min(Math.max(4, ...engines.map(({ engine }) => engine.length)), Math.floor(size.columns * 0.22));
  const lines = engines.slice(0, fits).map((engine) => engineLine(view, picture as PoolPicture, engine, names, size));
  if (fits < engines.length)
    lines.push(
      line(
        [{ text: `  … ${engines.length - fits} more engines (autellix engines)`, style: "dim" }],
        size.columns,
        view.colors,
      ),
    );
  return lines;
}

function engineLine(view: TopView, picture: PoolPicture, engine: ViewEngine, names: number, { columns }: Size): string {
  const { info, kv, keep, reserve } = engine;
  const slots = slotPieces(view, picture, engine, Math.floor(columns * SLOTS_SHARE));
  const states = { parked: 0, swapped: 0 };
  for (const { tier } of keep) states[tier === "host" ? "swapped" : "parked"]++;
  const rate = view.rateOf(engine.engine);
  const facts = [
    `${engine.run.length}/${info.batchCallsMax}`,
    ...(reserve.length > 0 ? [`next ${reserve.length}`] : []),
    ...(states.parked > 0 ? [`parked ${states.parked}`] : []),
    ...(states.swapped > 0 ? [`swapped ${states.swapped}`] : []),
    ...(kv ? [`kv ${Math.round((100 * (kv.running + kv.parked + kv.retained)) / info.kvBlocks)}%`] : []),
    ...(rate ? [`${short(Math.round(rate.tokensPerSecond))} tok/s`, `busy ${Math.round(100 * rate.busyShare)}%`] : []),
    ...(engine.retained.length > 0 ? [`retained ${engine.retained.length}`] : []),
    ...(columns >= 120
      ? [
          `steps ${short(engine.counters.steps)}`,
          `swaps ${short((engine.counters.swapOuts ?? 0) + (engine.counters.swapIns ?? 0))}`,
          info.kind,
        ]
      : []),
  ];
  const state: Piece[] = engine.state === "up" ? [] : [STATE_PIECES[engine.state]];
  const begin = [{ text: `  ${fit(engine.engine, names)} ` }, ...slots, ...state];
  return line([...begin, { text: whole(facts, columns - cellsOf(begin)) }], columns, view.colors);
}

const STATE_PIECES = {
  suspect: { text: " SILENT", style: "red" },
  draining: { text: " LEAVING", style: "yellow" },
} as const;

/** The batch as slots: each with the letter of its program. */
function slotPieces({ letters }: TopView, picture: PoolPicture, { run, info }: ViewEngine, cellsMax: number): Piece[] {
  const shown = Math.max(1, Math.min(info.batchCallsMax, cellsMax - 3));
  const pieces: Piece[] = [{ text: "[" }];
  for (const call of run.slice(0, shown)) {
    const known = picture.calls.get(call);
    const letter = known && letters.of(`${picture.pool?.pool}/${tenantOf(call)}/${known.program}`);
    pieces.push(letter ? { text: letter.text, style: letter.color } : { text: "?" });
  }
  const more = info.batchCallsMax > shown;
  return [...pieces, { text: "·".repeat(Math.max(0, shown - run.length)), style: "dim" }, { text: more ? "…]" : "]" }];
}

// ── programs ───────────────────────────────────────────────────────────────────────────────────────────────────

interface Row {
  pool: string;
  program: ViewProgram;
  measures: ViewPool["measures"];
}

function sortedPrograms({ pools, sort }: TopView): Row[] {
  const rows = pools.flatMap(({ pool, picture }) =>
    [...(picture?.programs.values() ?? [])].map((program) => ({ pool, program, measures: picture?.pool?.measures })),
  );
  const isActive = ({ calls }: ViewProgram) => (calls.running + calls.waiting > 0 ? 0 : 1);
  // What runs comes first whatever the order; what ended lately before what ended long ago.
  return rows.sort(
    (a, b) =>
      isActive(a.program) - isActive(b.program) ||
      byKey(sort, a.program, b.program) ||
      b.program.serviceMs - a.program.serviceMs ||
      (a.program.program < b.program.program ? -1 : a.program.program > b.program.program ? 1 : 0),
  );
}

interface ProgramColumn {
  title: string;
  width: number;
  align: "left" | "right";
  value: (row: Row) => string;
}

/** What is left of the width is the program's name. */
function columnsOf({ columns }: Size, many: boolean): ProgramColumn[] {
  const right = (title: string, width: number, value: (program: ViewProgram) => string): ProgramColumn => ({
    title,
    width,
    align: "right",
    value: ({ program }) => value(program),
  });
  const all: ProgramColumn[] = [
    ...(many
      ? [{ title: "POOL", width: columns >= 120 ? 20 : 8, align: "left" as const, value: ({ pool }: Row) => pool }]
      : []),
    right("LEVEL", 5, ({ level }) => `Q${level + 1}`),
    right("RUN", 4, ({ calls }) => String(calls.running)),
    right("WAIT", 5, ({ calls }) => short(calls.waiting)),
    right("ENDED", 6, ({ calls }) => short(calls.ended)),
    right("SERVICE", 9, ({ serviceMs }) => duration(serviceMs)),
    right("WAITING", 9, ({ waitingMs }) => duration(waitingMs)),
  ];
  if (columns < 120) return all;
  return [
    ...all,
    {
      ...{ title: "ATTAINED", width: 10, align: "right" },
      value: ({ program, measures }) => attainedText(program.attained, measures),
    },
    { title: "STATE", width: 8, align: "left", value: ({ program }) => stateOf(program) },
    { title: "PIN", width: 20, align: "left", value: ({ program }) => program.pin ?? "" },
    { title: "TENANT", width: 16, align: "left", value: ({ program }) => program.tenant },
  ];
}

function stateOf({ state, calls }: ViewProgram): string {
  return state === "ended" ? "ended" : calls.running > 0 ? "running" : calls.waiting > 0 ? "waiting" : "idle";
}

function tableHead({ pools, colors }: TopView, size: Size): string {
  const columns = columnsOf(size, pools.length > 1);
  const name = nameWidth(columns, size);
  const text = columns.map(({ title: own, width, align }) => ` ${fit(own, width, align)}`).join("");
  return line([{ text: `    ${fit("PROGRAM", name)}${text}`, style: "bold" }], size.columns, colors);
}

function nameWidth(columns: readonly ProgramColumn[], size: Size): number {
  return Math.max(8, Math.min(NAME_CELLS_MAX, size.columns - 5 - sum(columns.map(({ width }) => width + 1))));
}

function programLine({ pools, letters, colors }: TopView, row: Row, size: Size): string {
  const columns = columnsOf(size, pools.length > 1);
  const { program } = row;
  const isActive = program.calls.running + program.calls.waiting > 0;
  const letter = isActive ? letters.of(`${row.pool}/${programKey(program)}`) : undefined;
  const text = `${fit(program.program, nameWidth(columns, size))}${columns.map(({ width, align, value }) => ` ${fit(value(row), width, align)}`).join("")}`;
  const mark: Piece = letter ? { text: letter.text, style: letter.color } : { text: " " };
  return line(
    [{ text: "  " }, mark, { text: " " }, { text, ...(isActive ? {} : { style: "dim" as const }) }],
    size.columns,
    colors,
  );
}

function foot({ problem, colors }: TopView, count: number, offset: number, shown: number, { columns }: Size): string {
  if (problem !== undefined) return line([{ text: ` ${problem}`, style: "red" }], columns, colors);
  const text =
    count > shown
      ? ` programs ${offset + 1} to ${offset + shown} of ${count} (↑ ↓)`
      : ` ${count} program${count === 1 ? "" : "s"}`;
  return line([{ text, style: "dim" }], columns, colors);
}

function tenantOf(call: string): string {
  return call.slice(0, call.indexOf("/"));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
