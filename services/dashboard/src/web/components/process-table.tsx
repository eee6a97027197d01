/** The process table: sorted, filtered, only the rows in view are in the page. */

import type { ViewProgram } from "@autellix/protocol/view";
import { useEffect, useRef, useState } from "preact/hooks";
import { formatAttained, formatCount, formatMs, levelName } from "../../shared/format.ts";
import { programPath } from "../../shared/paths.ts";
import type { PoolModel } from "../../shared/pool-model.ts";
import { type Column, sortedRows, type TableFilter, type TableOrder, visibleRange } from "../../shared/table-rows.ts";
import { go, isPlainClick } from "../router.ts";
import { ASKED_SORTS_MAX, stats } from "../stats.ts";

const ROW_PX = 32;
const HEIGHT_PX = 420;
/** A table that changes its order all the time cannot be read. */
const SORT_EVERY_MS = 1_000;

interface Head {
  column: Column;
  name: string;
  about: string;
  /** Left out where there is little room. */
  wide?: boolean;
}

const HEADS: readonly Head[] = [
  { column: "program", name: "Program", about: "one run of an agent: calls, and tools between them" },
  { column: "level", name: "Level", about: "the queue that its next call would enter" },
  {
    column: "attained",
    name: "Attained",
    about: "attained service: what the policy ranks by, in time or tokens (tok)",
  },
  { column: "service", name: "Service", about: "time that its ended calls spent in a batch", wide: true },
  { column: "waited", name: "Waited", about: "time that its ended calls waited" },
  { column: "waiting", name: "Waiting", about: "calls that wait now" },
  { column: "running", name: "Running", about: "calls in a batch now" },
  { column: "ended", name: "Ended", about: "calls that have ended", wide: true },
  { column: "last", name: "Last seen", about: "last arrival or end of a call", wide: true },
];

export interface ProcessTableProps {
  model: PoolModel;
  version: number;
}

export function ProcessTable({ model, version }: ProcessTableProps) {
  const [order, setOrder] = useState<TableOrder>({ column: "last", descending: true });
  const [filter, setFilter] = useState<TableFilter>({ text: "", show: "all" });
  const [scroll, setScroll] = useState(0);
  const sorted = useRef({ rows: [] as ViewProgram[], total: 0, atMs: Number.NEGATIVE_INFINITY, key: "", model });
  const now = performance.now();
  const key = JSON.stringify([order, filter]);
  if (sorted.current.key !== key || sorted.current.model !== model || now - sorted.current.atMs >= SORT_EVERY_MS) {
    const isAsked = sorted.current.key !== key;
    sorted.current = { ...sortedRows(model.programs.values(), order, filter), atMs: now, key, model };
    stats.sorts++;
    stats.sortMs = performance.now() - now;
    stats.sortMsMax = Math.max(stats.sortMsMax, stats.sortMs);
    if (isAsked) stats.askedSortsMs = [...stats.askedSortsMs, stats.sortMs].slice(-ASKED_SORTS_MAX);
  }
  const { rows, total } = sorted.current;
  const body = useRef<HTMLDivElement>(null);
  // After a filter the old place may be behind the end.
  useEffect(() => body.current?.scrollTo({ top: 0 }), [key]);
  const { from, to } = visibleRange(scroll, HEIGHT_PX, ROW_PX, rows.length);
  const sortBy = (column: Column) =>
    setOrder({ column, descending: order.column === column ? !order.descending : column !== "program" });
  return (
    <section class="card processes" aria-labelledby="processes-title">
      <header class="card-head">
        <h2 id="processes-title">Process table</h2>
        <p class="about">One row for each program: what it has had, and where its next call would queue.</p>
        <div class="tools">
          <input
            id="filter"
            type="search"
            placeholder="Filter by name  ( / )"
            aria-label="Filter programs by tenant or name"
            value={filter.text}
            onInput={(event) => setFilter({ ...filter, text: event.currentTarget.value })}
          />
          <select
            aria-label="Which programs"
            value={filter.show}
            onChange={(event) => setFilter({ ...filter, show: event.currentTarget.value as TableFilter["show"] })}
          >
            <option value="all">all</option>
            <option value="active">with calls now</option>
            <option value="ended">ended</option>
          </select>
        </div>
      </header>
      {/* biome-ignore lint/a11y/useSemanticElements: rows are virtual, so they are placed by hand */}
      <div role="table" aria-label="Programs" aria-rowcount={rows.length + 1} class="grid">
        {/* biome-ignore lint/a11y/useSemanticElements: see above */}
        <div role="rowgroup">
          {/* biome-ignore lint/a11y/useSemanticElements: see above */}
          {/* biome-ignore lint/a11y/useFocusableInteractive: its buttons are */}
          <div role="row" aria-rowindex={1} class="grid-row grid-head">
            {HEADS.map(({ column, name, about, wide }) => (
              // biome-ignore lint/a11y/useSemanticElements: see above
              // biome-ignore lint/a11y/useFocusableInteractive: its button is
              <div
                key={column}
                role="columnheader"
                class={`cell ${column} ${wide ? "wide" : ""}`}
                aria-sort={order.column === column ? (order.descending ? "descending" : "ascending") : "none"}
              >
                <button type="button" title={about} onClick={() => sortBy(column)}>
                  {name}
                  <span aria-hidden="true" class="arrow">
                    {order.column === column ? (order.descending ? "↓" : "↑") : ""}
                  </span>
                </button>
              </div>
            ))}
          </div>
        </div>
        {/* biome-ignore lint/a11y/useSemanticElements: see above */}
        <div
          role="rowgroup"
          class="grid-body"
          ref={body}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it
          tabIndex={0}
          style={{ maxHeight: `${HEIGHT_PX}px` }}
          onScroll={(event) => setScroll(event.currentTarget.scrollTop)}
        >
          {from > 0 && <div aria-hidden="true" style={{ height: `${from * ROW_PX}px` }} />}
          {rows.slice(from, to).map((row, i) => (
            <Row key={`${row.tenant}/${row.program}`} model={model} row={row} index={from + i} version={version} />
          ))}
          {to < rows.length && <div aria-hidden="true" style={{ height: `${(rows.length - to) * ROW_PX}px` }} />}
        </div>
      </div>
      <p class="note">
        {rows.length === total
          ? `${formatCount(total)} programs`
          : `${formatCount(rows.length)} of ${formatCount(total)} programs`}
        {total === 0 ? ". A program appears with its first call." : ""}
      </p>
    </section>
  );
}

function Row({ model, row, index }: { model: PoolModel; row: ViewProgram; index: number; version: number }) {
  const key = `${row.tenant}/${row.program}`;
  const program = model.programs.get(key) ?? row;
  const path = programPath(model.pool.pool, key);
  const isActive = program.calls.waiting + program.calls.running > 0;
  return (
    // biome-ignore lint/a11y/useSemanticElements: rows are virtual
    // biome-ignore lint/a11y/useKeyWithClickEvents: its link is for the keyboard
    // biome-ignore lint/a11y/useFocusableInteractive: its link is
    <div
      role="row"
      aria-rowindex={index + 2}
      class={`grid-row ${isActive ? "" : "quiet"}`}
      onClick={(event) => {
        // Its link is the document's business, with the keys that open it elsewhere.
        if (!(event.target as Element).closest("a") && isPlainClick(event)) go(path);
      }}
    >
      <Cell column="program">
        <i class={`dot look-${model.colours.of(key)}`} />
        <a href={path}>{program.program}</a>
        {program.tenant !== "default" && <span class="tenant">{program.tenant}</span>}
        {program.state === "ended" && <span class="tag">ended</span>}
      </Cell>
      <Cell column="level">{levelName(program.level)}</Cell>
      <Cell column="attained">{formatAttained(program.attained, model.pool.measures)}</Cell>
      <Cell column="service" wide>
        {formatMs(program.serviceMs)}
      </Cell>
      <Cell column="waited">{formatMs(program.waitingMs)}</Cell>
      <Cell column="waiting">{program.calls.waiting || "·"}</Cell>
      <Cell column="running">{program.calls.running || "·"}</Cell>
      <Cell column="ended" wide>
        {program.calls.ended || "·"}
      </Cell>
      <Cell column="last" wide>
        {isActive ? "now" : `${formatMs(Math.max(0, model.atMs - program.lastAtMs))} ago`}
      </Cell>
    </div>
  );
}

function Cell({ column, wide, children }: { column: Column; wide?: boolean; children: preact.ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: rows are virtual
    <div role="cell" class={`cell ${column} ${wide ? "wide" : ""}`}>
      {children}
    </div>
  );
}
