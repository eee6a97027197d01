/** A program's story: where its time went, and its calls over time with the critical path. */
import { formatMs, formatShare, levelName } from "../../shared/format.ts";
import { nameOf } from "../../shared/pool-model.ts";
import {
  barsOf,
  type CallStory,
  criticalPath,
  type PathStep,
  pathTimes,
  threadsOf,
  WHERES,
  type Where,
} from "../../shared/story.ts";

/** Rows on the page; of a longer program the youngest. */
const ROWS_MAX = 400;

const whereLines: Record<Where, string> = {
  queue: "in a queue: other programs ran",
  starting: "on its way into a batch: fetched by its agent, with room made for it",
  running: "in a batch: this is service",
  parked: "preempted, its context stayed on the engine",
  swapped: "preempted, its context was in host memory",
  recompute: "its context was dropped and is computed again",
  gap: "between calls: a tool, code or a person",
};

export interface StoryProps {
  calls: readonly CallStory[];
  nowMs: number;
  timeText: (atMs: number) => string;
}

export function StoryView({ calls, nowMs, timeText }: StoryProps) {
  if (calls.length === 0) return <p class="empty">No call of it has been seen since this dashboard started.</p>;
  const path = criticalPath(calls, nowMs);
  const from = Math.min(...calls.map(({ arrivedAtMs }) => arrivedAtMs));
  const to = Math.max(from + 1, ...calls.map(({ endedAtMs }) => endedAtMs ?? nowMs));
  return (
    <>
      <WhereCard calls={calls} path={path} />
      <section class="card" aria-labelledby="calls-title">
        <header class="card-head">
          <h2 id="calls-title">Calls</h2>
          <p class="about">
            One line for each call, by thread. <b class="path-word">Outlined</b>: the critical path, the chain that its
            latency is made of.
          </p>
        </header>
        <Waterfall calls={calls} path={path} fromMs={from} toMs={to} nowMs={nowMs} timeText={timeText} />
      </section>
    </>
  );
}

function WhereCard({ calls, path }: { calls: readonly CallStory[]; path: readonly PathStep[] }) {
  const times = pathTimes(calls, path);
  const total = WHERES.reduce((sum, where) => sum + times[where], 0);
  const shown = WHERES.filter((where) => times[where] > 0);
  return (
    <section class="card" aria-labelledby="where-title">
      <header class="card-head">
        <h2 id="where-title">Where its {formatMs(total)} went</h2>
        <p class="about">Along the critical path, so the parts add up to what its user waited for.</p>
      </header>
      <div
        class="where-bar"
        role="img"
        aria-label={shown.map((where) => `${where} ${formatShare(times[where] / total)}`).join(", ")}
      >
        {shown.map((where) => (
          <i key={where} class={`where-${where}`} style={{ width: `${(100 * times[where]) / total}%` }} />
        ))}
      </div>
      <ul class="where-list">
        {WHERES.map((where) => (
          <li key={where} class={times[where] > 0 ? "" : "zero"}>
            <i class={`where-${where}`} />
            <span class="where-name">{where === "gap" ? "tool gaps" : where}</span>
            <b>{formatMs(times[where])}</b>
            <span class="share">{total > 0 ? formatShare(times[where] / total) : ""}</span>
            <span class="why">{whereLines[where]}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

interface WaterfallProps extends StoryProps {
  path: readonly PathStep[];
  fromMs: number;
  toMs: number;
}

function Waterfall({ calls, path, fromMs, toMs, nowMs, timeText }: WaterfallProps) {
  const onPath = new Set(path.flatMap(({ call }) => call ?? []));
  const left = (ms: number) => `${(100 * (ms - fromMs)) / (toMs - fromMs)}%`;
  const wide = (ms: number) => `${(100 * ms) / (toMs - fromMs)}%`;
  const young = new Set([...calls].sort((a, b) => b.arrivedAtMs - a.arrivedAtMs).slice(0, ROWS_MAX));
  return (
    <div class="waterfall">
      <div class="water-row water-axis">
        <span />
        <div class="water-track">
          <span>{timeText(fromMs)}</span>
          <span class="end">{formatMs(toMs - fromMs)}</span>
        </div>
      </div>
      {threadsOf(calls).map(({ thread, calls: own }) => (
        <div key={thread} class="thread">
          <h3>{thread === "" ? "main thread" : `thread ${thread}`}</h3>
          <ul>
            {own
              .filter((call) => young.has(call))
              .map((call) => (
                <li key={call.call} class={`water-row ${onPath.has(call.call) ? "on-path" : ""}`}>
                  <span class="water-name" title={nameOf(call.call)}>
                    {nameOf(call.call).slice(0, 14)}
                    <small>
                      {call.promptTokens} + {call.completionTokens} tokens
                      {call.attempt > 1 ? `, attempt ${call.attempt}` : ""}
                    </small>
                  </span>
                  <div class="water-track">
                    <span class="visually-hidden">
                      {onPath.has(call.call) ? "on the critical path, " : ""}
                      {barsOf(call, nowMs)
                        .map((bar) => `${bar.where} ${formatMs(bar.toMs - bar.fromMs)}`)
                        .join(", ")}
                    </span>
                    {onPath.has(call.call) && (
                      <i
                        class="path-mark"
                        style={{
                          left: left(call.arrivedAtMs),
                          width: wide((call.endedAtMs ?? nowMs) - call.arrivedAtMs),
                        }}
                      />
                    )}
                    {barsOf(call, nowMs).map((bar) => (
                      <i
                        key={bar.fromMs}
                        class={`bar where-${bar.where}`}
                        style={{ left: left(bar.fromMs), width: wide(bar.toMs - bar.fromMs) }}
                        title={`${bar.where} in ${levelName(bar.level)}${bar.engine === undefined ? "" : ` on ${bar.engine}`}: ${formatMs(bar.toMs - bar.fromMs)}`}
                      />
                    ))}
                  </div>
                </li>
              ))}
          </ul>
        </div>
      ))}
      {calls.length > ROWS_MAX && (
        <p class="note">
          the youngest {ROWS_MAX} of {calls.length} calls
        </p>
      )}
    </div>
  );
}
