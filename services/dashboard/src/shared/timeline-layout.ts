/** Where the bars of a timeline stand. Pure; the canvas only paints what this says. */
import type { PoolModel } from "./pool-model.ts";
import type { Span } from "./timeline.ts";

export const ENGINES_SHOWN_MAX = 12;
/** Of one engine; a batch may be larger. */
export const LANES_SHOWN_MAX = 64;

const TALL_LANE_PX = 20;
const LANE_PX = 15;
const SMALL_LANE_PX = 5;
const TINY_LANE_PX = 3;
const HEAD_PX = 18;
const GAP_PX = 8;
export const AXIS_PX = 22;

export interface TimelineBar {
  x: number;
  y: number;
  w: number;
  h: number;
  span: Span;
  look: number;
}

export interface TimelineRow {
  engine: string;
  y: number;
  /** Of the lanes, without the head. */
  lanesY: number;
  h: number;
  lanes: number;
  hiddenLanes: number;
}

export interface TimelineTick {
  x: number;
  atMs: number;
}

export interface TimelineLayout {
  width: number;
  height: number;
  rows: TimelineRow[];
  bars: TimelineBar[];
  ticks: TimelineTick[];
  hiddenEngines: number;
}

export interface TimelineWindow {
  fromMs: number;
  toMs: number;
  /** Spans that are open end here. */
  nowMs: number;
}

export function layOutTimeline(model: PoolModel, width: number, window: TimelineWindow): TimelineLayout {
  const engines = [...model.engines.values()].sort((a, b) => (a.engine < b.engine ? -1 : 1));
  const shown = engines.slice(0, ENGINES_SHOWN_MAX);
  const scale = width / Math.max(1, window.toMs - window.fromMs);
  const rows: TimelineRow[] = [];
  const bars: TimelineBar[] = [];
  let y = 0;
  for (const { engine, info } of shown) {
    const lanes = Math.min(LANES_SHOWN_MAX, info.batchCallsMax);
    const lane =
      lanes <= 4
        ? TALL_LANE_PX
        : lanes <= 8
          ? LANE_PX
          : lanes <= 24
            ? SMALL_LANE_PX + 2
            : lanes <= 40
              ? SMALL_LANE_PX
              : TINY_LANE_PX;
    const lanesY = y + HEAD_PX;
    for (const span of model.timeline.spansOf(engine)) {
      const to = span.toMs ?? window.nowMs;
      if (to < window.fromMs || span.fromMs > window.toMs || span.lane >= lanes) continue;
      const x = Math.max(0, (span.fromMs - window.fromMs) * scale);
      const end = Math.min(width, (to - window.fromMs) * scale);
      const box = { x, y: lanesY + span.lane * lane, w: Math.max(1, end - x), h: Math.max(2, lane - 2) };
      bars.push({ ...box, span, look: model.colours.of(span.program) });
    }
    const h = HEAD_PX + lanes * lane;
    rows.push({ engine, y, lanesY, h, lanes, hiddenLanes: info.batchCallsMax - lanes });
    y += h + GAP_PX;
  }
  const hiddenEngines = engines.length - shown.length;
  return { width, height: y + AXIS_PX, rows, bars, ticks: ticksOf(window, width), hiddenEngines };
}

const STEPS_MS = [1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000];
const TICK_PX_MIN = 90;

/** Round times, not too close to each other. */
export function ticksOf({ fromMs, toMs }: TimelineWindow, width: number): TimelineTick[] {
  const span = Math.max(1, toMs - fromMs);
  const most = Math.max(1, Math.floor(width / TICK_PX_MIN));
  const step = STEPS_MS.find((ms) => span / ms <= most) ?? span / most;
  const ticks: TimelineTick[] = [];
  for (let atMs = Math.ceil(fromMs / step) * step; atMs <= toMs; atMs += step)
    ticks.push({ x: ((atMs - fromMs) / span) * width, atMs });
  return ticks;
}
