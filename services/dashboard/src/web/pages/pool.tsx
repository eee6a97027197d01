/** The live page of a pool. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { formatCount, formatMs, formatShare } from "../../shared/format.ts";
import { programPath } from "../../shared/paths.ts";
import type { PoolModel } from "../../shared/pool-model.ts";
import { Chart, type Curve } from "../components/chart.tsx";
import { Happenings } from "../components/happenings.tsx";
import { ProcessTable } from "../components/process-table.tsx";
import { Stage } from "../components/stage.tsx";
import { TimelineCanvas } from "../components/timeline.tsx";
import { connection, draw, findPools, model, pools, watch } from "../live.ts";
import { policyLines } from "../policies.ts";
import { go } from "../router.ts";

const WINDOW_MS_MIN = 15_000;
const WINDOWS_MS = [60_000, 120_000, 300_000];

export function PoolPage({ pool }: { pool: string | undefined }) {
  useEffect(() => void findPools(), []);
  const wanted = pool ?? pools.value?.[0]?.pool;
  useEffect(() => {
    if (wanted !== undefined) watch(wanted);
  }, [wanted]);
  const now = model.value;
  if (!now || (wanted !== undefined && now.pool.pool !== wanted)) return <Nothing pool={wanted} />;
  return <Live model={now} version={draw.value} />;
}

function Nothing({ pool }: { pool: string | undefined }) {
  const known = pools.value;
  const isUnknown = pool !== undefined && known !== undefined && !known.some((one) => one.pool === pool);
  return (
    <main class="page narrow" id="main">
      <h1 tabIndex={-1}>{isUnknown ? `No pool is called ${pool}` : "Waiting for a pool"}</h1>
      <p class="lead">
        A pool appears as soon as its scheduler answers: start one with <code>npm start</code>. Meanwhile the{" "}
        <a href="/replay">replay</a> shows on the simulator what scheduling by program does.
      </p>
    </main>
  );
}

function Live({ model, version }: { model: PoolModel; version: number }) {
  const { pool } = model;
  const open = (key: string) => go(programPath(pool.pool, key));
  const isIdle = pool.queuedCalls + pool.runningCalls === 0 && model.programs.size === 0;
  return (
    <main class="page" id="main">
      <header class="page-head">
        <h1 tabIndex={-1}>
          Pool <b>{pool.pool}</b>
        </h1>
        <p class="lead">
          <span class="badge">{pool.policy}</span> {policyLines[pool.policy] ?? ""}
        </p>
      </header>
      {connection.value === "away" && (
        <p class="alert">No scheduler answers for this pool. Below is what was known last.</p>
      )}
      {!pool.dispatching && <p class="alert">Nothing new is started: {pool.reason ?? "no reason is given"}.</p>}
      <Facts model={model} />
      {isIdle && (
        <p class="hint">
          No calls now. Send some, or watch the <a href="/replay">replay</a>: the same short and long programs under two
          policies.
        </p>
      )}
      <section class="card" aria-labelledby="stage-title">
        <header class="card-head">
          <h2 id="stage-title">Queues and engines</h2>
          <p class="about">
            A chip is a call, its colour its program. The less service a program has had, the higher its queue; Q1 is
            served first. A call that has used up its level's quantum sinks to the next one.
          </p>
        </header>
        <Stage model={model} version={version} onProgram={open} label={`Pool ${pool.pool}`} />
        <Legend />
      </section>
      <TimelineCard model={model} version={version} onProgram={open} />
      <Charts model={model} />
      <div class="columns">
        <ProcessTable model={model} version={version} />
        <Happenings model={model} version={version} timeText={clock} />
      </div>
    </main>
  );
}

function Facts({ model }: { model: PoolModel }) {
  const { pool, atMs } = model;
  const calls = model.series.callPercentiles(atMs);
  const programs = model.series.programPercentiles(atMs);
  const waiting = pool.waitingByLevel.reduce((sum, count) => sum + count, 0);
  return (
    <dl class="facts">
      <Fact
        name="Running"
        value={`${pool.runningCalls}`}
        of={`of ${model.slots} slots`}
        about="calls in the engines' batches"
      />
      <Fact
        name="Waiting"
        value={formatCount(waiting)}
        of={`of ${formatCount(pool.queuedCallsMax)}`}
        about="calls in the queues; above the limit callers get 429"
      />
      <Fact
        name="Programs"
        value={formatCount(model.programs.size)}
        of={`(${formatCount(activePrograms(model))} with calls)`}
        about="entries of the process table"
      />
      <Fact name="Ends" value={pool.endsPerSecond.toFixed(1)} of="calls/s" about="calls that end per second" />
      <Fact
        name="Call latency"
        value={calls ? formatMs(calls.p50) : "–"}
        of={calls ? `p95 ${formatMs(calls.p95)}, waiting ${formatShare(calls.waitingShare)}` : "none ended lately"}
        about="from arrival to end, of calls that ended in the last 5 minutes: median"
      />
      <Fact
        name="Program latency"
        value={programs ? formatMs(programs.p50) : "–"}
        of={programs ? `p95 ${formatMs(programs.p95)}` : "none was ended lately"}
        about="from the first call to the last end, of programs that were ended in the last 5 minutes: median"
      />
      <Fact
        name="Scheduler"
        value={formatCount(pool.totals.preemptions)}
        of={`preemptions, ${formatCount(pool.totals.demotions)} demotions, ${formatCount(pool.totals.promotions)} promotions`}
        about="since this leader began"
      />
    </dl>
  );
}

function activePrograms(model: PoolModel): number {
  let active = 0;
  for (const { calls } of model.programs.values()) if (calls.waiting + calls.running > 0) active++;
  return active;
}

export function Fact({ name, value, of, about }: { name: string; value: string; of: string; about: string }) {
  return (
    <div class="fact" title={about}>
      <dt>{name}</dt>
      <dd>
        <b>{value}</b> <span>{of}</span>
      </dd>
    </div>
  );
}

export function Legend() {
  return (
    <ul class="legend">
      <li>
        <i class="sample running" /> running
      </li>
      <li>
        <i class="sample starting" /> next, or starting
      </li>
      <li>
        <i class="sample parked" /> parked: preempted, context on the engine
      </li>
      <li>
        <i class="sample swapped" /> swapped: context in host memory
      </li>
      <li>
        <i class="sample evicted" /> evicted: to be recomputed
      </li>
    </ul>
  );
}

function TimelineCard({
  model,
  version,
  onProgram,
}: {
  model: PoolModel;
  version: number;
  onProgram: (key: string) => void;
}) {
  const [windowMs, setWindowMs] = useState(WINDOWS_MS[0] ?? 60_000);
  return (
    <section class="card" aria-labelledby="timeline-title">
      <header class="card-head">
        <h2 id="timeline-title">Who ran when</h2>
        <p class="about">One line for each slot of an engine's batch. A bar that ends in a thick edge was preempted.</p>
        <div class="tools">
          <select
            aria-label="How far back"
            value={String(windowMs)}
            onChange={(event) => setWindowMs(Number(event.currentTarget.value))}
          >
            {WINDOWS_MS.map((ms) => (
              <option key={ms} value={String(ms)}>
                last {ms === 60_000 ? "minute" : `${ms / 60_000} minutes`}
              </option>
            ))}
          </select>
        </div>
      </header>
      <TimelineCanvas
        model={model}
        version={version}
        window={{ fromMs: model.atMs - shownMs(model, windowMs), toMs: model.atMs, nowMs: model.atMs }}
        timeText={clock}
        onProgram={onProgram}
      />
    </section>
  );
}

/** A dashboard that has just begun has nothing to show of what was before. */
function shownMs(model: PoolModel, windowMs: number): number {
  return Math.min(windowMs, Math.max(WINDOW_MS_MIN, model.atMs - model.seenSinceMs));
}

const LOAD: readonly Curve[] = [
  { name: "in batches", colour: "curve-1", fill: true },
  { name: "waiting", colour: "curve-2" },
  { name: "parked or swapped", colour: "curve-3" },
  { name: "slots", colour: "muted", dash: true },
];
const LATENCY: readonly Curve[] = [
  { name: "p50", colour: "curve-1" },
  { name: "p95", colour: "curve-2" },
  { name: "p99", colour: "curve-3" },
];

function Charts({ model }: { model: PoolModel }) {
  const { samples } = model.series;
  const last = samples.at(-1)?.atMs;
  // A sample a second: charts are drawn again when there is a new one.
  const [load, latency] = useMemo(() => {
    const times = samples.map(({ atMs }) => atMs / 1_000);
    return [
      [
        times,
        samples.map((s) => s.running),
        samples.map((s) => s.waiting),
        samples.map((s) => s.parked + s.swapped),
        samples.map((s) => s.slots),
      ],
      [times, samples.map((s) => s.p50), samples.map((s) => s.p95), samples.map((s) => s.p99)],
    ];
  }, [model, last]);
  return (
    <div class="columns even">
      <section class="card" aria-labelledby="load-title">
        <header class="card-head">
          <h2 id="load-title">Load against capacity</h2>
          <p class="about">Above the dashed line calls have to wait.</p>
        </header>
        <Chart
          curves={LOAD}
          data={load ?? []}
          format={formatCount}
          label="Load against capacity over the last minutes"
        />
      </section>
      <section class="card" aria-labelledby="latency-title">
        <header class="card-head">
          <h2 id="latency-title">Call latency</h2>
          <p class="about">From a call's arrival to its end, over the last five minutes.</p>
        </header>
        <Chart
          curves={LATENCY}
          data={latency ?? []}
          format={formatMs}
          label="Latency percentiles over the last minutes"
        />
      </section>
    </div>
  );
}

/** Time of day. */
export function clock(atMs: number): string {
  return new Date(atMs).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });
}
