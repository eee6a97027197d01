/** Who ran when, on each engine: a canvas. */
import { useEffect, useRef, useState } from "preact/hooks";
import { chipLabel } from "../../shared/format.ts";
import { nameOf, type PoolModel } from "../../shared/pool-model.ts";
import {
  layOutTimeline,
  type TimelineBar,
  type TimelineLayout,
  type TimelineWindow,
} from "../../shared/timeline-layout.ts";
import { colour, theme } from "../theme.ts";
import { useWidth } from "./use-width.ts";

const LABEL_PX_MIN = 22;
/** A canvas of many bars is painted less often than chips move. */
const PAINT_EVERY_MS = 400;

export interface TimelineProps {
  model: PoolModel;
  version: number;
  window: TimelineWindow;
  /** Paint at each draw: a replay that is moved by hand. */
  isPrompt?: boolean;
  /** Of a tick. */
  timeText: (atMs: number) => string;
  onProgram?: (key: string) => void;
}

export function TimelineCanvas({ model, version, window, isPrompt = false, timeText, onProgram }: TimelineProps) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const painted = useRef({ atMs: 0, width: 0, theme: "", layout: undefined as TimelineLayout | undefined });
  const [hover, setHover] = useState<{ bar: TimelineBar; x: number; y: number }>();
  useEffect(() => {
    const last = painted.current;
    const now = performance.now();
    const isDue = isPrompt || now - last.atMs >= PAINT_EVERY_MS || last.width !== width || last.theme !== theme.value;
    if (!canvas.current || width === 0 || !isDue) return;
    const layout = layOutTimeline(model, width, window);
    painted.current = { atMs: now, width, theme: theme.value, layout };
    paint(canvas.current, layout, timeText);
  }, [version, width, theme.value, window.fromMs, window.toMs, model]);
  const find = (event: MouseEvent): TimelineBar | undefined => {
    const { offsetX: x, offsetY: y } = event;
    return painted.current.layout?.bars.findLast(
      (bar) => x >= bar.x && x <= bar.x + bar.w && y >= bar.y && y <= bar.y + bar.h + 2,
    );
  };
  const rows = [...model.engines.values()].map(({ engine, run }) => `${engine} runs ${run.length} calls`);
  return (
    <div class="timeline" ref={ref}>
      <canvas
        ref={canvas}
        role="img"
        aria-label={`Who ran when. Now: ${rows.length === 0 ? "no engine" : rows.join(", ")}`}
        onMouseMove={(event) => {
          const bar = find(event);
          setHover(bar && { bar, x: event.offsetX, y: event.offsetY });
        }}
        onMouseLeave={() => setHover(undefined)}
        onClick={(event) => {
          const bar = find(event);
          if (bar) onProgram?.(bar.span.program);
        }}
      />
      {hover && (
        <div
          class="tip"
          style={{ transform: `translate(${Math.min(hover.x + 12, Math.max(0, width - 220))}px, ${hover.y + 14}px)` }}
        >
          {nameOf(hover.bar.span.program)}, call {nameOf(hover.bar.span.call)}
          <br />
          {timeText(hover.bar.span.fromMs)} –{" "}
          {hover.bar.span.toMs === undefined ? "now" : timeText(hover.bar.span.toMs)}
          {hover.bar.span.end === "preempted" ? ", preempted" : ""}
        </div>
      )}
    </div>
  );
}

function paint(canvas: HTMLCanvasElement, layout: TimelineLayout, timeText: (atMs: number) => string): void {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const { width, height } = layout;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const looks = Array.from({ length: 8 }, (_, hue) => colour(`program-${hue}`));
  const ink = colour("on-program");
  const [line, faint, text] = [colour("line"), colour("slot"), colour("muted")];
  for (const { x } of layout.ticks) {
    context.fillStyle = line;
    context.fillRect(Math.round(x), 0, 1, height - 20);
  }
  for (const row of layout.rows) {
    context.fillStyle = faint;
    context.fillRect(0, row.lanesY - 1, width, row.h - (row.lanesY - row.y));
    context.fillStyle = text;
    const hidden = row.hiddenLanes > 0 ? ` (${row.lanes} of ${row.lanes + row.hiddenLanes} slots)` : "";
    context.fillText(`${row.engine}${hidden}`, 2, row.y + 9);
  }
  const marks = colour("text");
  for (const bar of layout.bars) paintBar(context, bar, looks, ink, marks);
  context.fillStyle = text;
  for (const { x, atMs } of layout.ticks) {
    const label = timeText(atMs);
    const half = context.measureText(label).width / 2;
    context.fillText(label, Math.min(Math.max(0, x - half), width - 2 * half), height - 9);
  }
}

function paintBar(
  context: CanvasRenderingContext2D,
  { x, y, w, h, span, look }: TimelineBar,
  looks: readonly string[],
  ink: string,
  marks: string,
): void {
  context.fillStyle = looks[look % looks.length] ?? ink;
  context.fillRect(x, y, Math.max(1, w - 1), h);
  if (look >= looks.length && w > 4) stripes(context, x, y, w - 1, h, ink);
  // Taken out of the batch before its end.
  if (span.end === "preempted" && h >= 4) {
    context.fillStyle = marks;
    context.fillRect(x + w - 3, y - 1, 2, h + 2);
  }
  if (w < LABEL_PX_MIN || h < 10) return;
  const label = chipLabel(nameOf(span.program));
  const textWidth = context.measureText(label).width;
  if (look >= looks.length) {
    context.fillStyle = looks[look % looks.length] ?? ink;
    context.fillRect(x + 2, y, textWidth + 4, h);
  }
  context.fillStyle = ink;
  context.fillText(label, x + 4, y + h / 2 + 0.5);
}

/** The second eight programs look like the first eight, striped. */
function stripes(context: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, ink: string): void {
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.globalAlpha = 0.3;
  context.strokeStyle = ink;
  context.lineWidth = 2;
  context.beginPath();
  for (let at = x - h; at < x + w; at += 6) {
    context.moveTo(at, y + h);
    context.lineTo(at + h, y);
  }
  context.stroke();
  context.restore();
}
