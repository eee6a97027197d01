/**
 * Line plots as SVG, small enough to read in a diff.
 */
import { quantile } from "./stats.ts";

export interface Line {
  name: string;
  points: readonly { x: number; y: number }[];
  /** Index of its colour; its place among the lines without it. */
  colour?: number;
  /** For what others measured. */
  dashed?: boolean;
}

export interface Plot {
  title: string;
  xLabel: string;
  yLabel: string;
  lines: readonly Line[];
  /** `log`: values ≤ 0 are left out. Default `linear`. */
  yScale?: "linear" | "log";
}

const WIDTH = 720;
const HEIGHT = 420;
const MARGIN = { top: 40, right: 170, bottom: 50, left: 60 };
const COLOURS = ["#0b6e99", "#d9730d", "#4d6461", "#ad1a72", "#6940a5", "#dfab01", "#e03e3e", "#0f7b6c"];
const TICKS = 5;
const LEGEND_LINE = 18;
const CDF_POINTS_MAX = 200;

/** Share of values up to x, in per cent. */
export function cdf(name: string, values: readonly number[]): Line {
  const sorted = [...values].sort((a, b) => a - b);
  const count = Math.min(CDF_POINTS_MAX, sorted.length);
  const points = Array.from({ length: count }, (_, index) => {
    const share = count === 1 ? 1 : index / (count - 1);
    return { x: quantile(sorted, share), y: 100 * share };
  });
  return { name: `${name} (n = ${sorted.length})`, points };
}

export function renderPlot({ title, xLabel, yLabel, lines, yScale = "linear" }: Plot): string {
  const drawn = lines.map((line) => ({ ...line, points: line.points.filter(({ y }) => yScale === "linear" || y > 0) }));
  const all = drawn.flatMap((line) => line.points);
  const xMax = niceCeiling(Math.max(...all.map((point) => point.x), 0));
  const ys = all.map((point) => point.y);
  const axis = yScale === "log" ? logAxis(ys) : linearAxis(ys);
  const plotWidth = WIDTH - MARGIN.left - MARGIN.right;
  const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const atX = (x: number) => round(MARGIN.left + (x / xMax) * plotWidth);
  const atY = (y: number) => round(MARGIN.top + plotHeight - axis.share(y) * plotHeight);

  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    text(MARGIN.left, 24, title, 'font-size="15" font-weight="bold"'),
  ];
  for (let tick = 0; tick <= TICKS; tick++) {
    const x = (xMax * tick) / TICKS;
    parts.push(text(atX(x), HEIGHT - MARGIN.bottom + 18, label(x), 'text-anchor="middle"'));
  }
  for (const y of axis.ticks)
    parts.push(
      `<path d="M${MARGIN.left} ${atY(y)}H${MARGIN.left + plotWidth}" stroke="#ddd"/>`,
      text(MARGIN.left - 8, atY(y) + 4, label(y), 'text-anchor="end"'),
    );
  parts.push(
    text(MARGIN.left + plotWidth / 2, HEIGHT - 10, xLabel, 'text-anchor="middle"'),
    text(0, 0, yLabel, `text-anchor="middle" transform="translate(16 ${MARGIN.top + plotHeight / 2}) rotate(-90)"`),
  );
  for (const [index, line] of drawn.entries()) {
    const hue = line.colour ?? index;
    const colour = COLOURS[hue % COLOURS.length];
    const dash = (line.dashed ?? hue >= COLOURS.length) ? ' stroke-dasharray="5 3"' : "";
    const points = line.points.map((point) => `${atX(point.x)},${atY(point.y)}`).join(" ");
    const y = MARGIN.top + 8 + index * LEGEND_LINE;
    const x = WIDTH - MARGIN.right + 12;
    parts.push(
      `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`,
      `<path d="M${x} ${y}h16" stroke="${colour}" stroke-width="3"${dash}/>`,
      text(x + 22, y + 4, line.name),
    );
  }
  return `${parts.join("\n")}\n</svg>\n`;
}

interface Axis {
  /** Place of a value on the axis: 0 at its lower end, 1 at its upper. */
  share: (value: number) => number;
  ticks: number[];
}

function linearAxis(values: readonly number[]): Axis {
  const max = niceCeiling(Math.max(...values, 0));
  return { share: (y) => y / max, ticks: Array.from({ length: TICKS + 1 }, (_, tick) => (max * tick) / TICKS) };
}

/** Whole powers of ten, one at least. @param values > 0 */
function logAxis(values: readonly number[]): Axis {
  const low = values.length === 0 ? 0 : Math.floor(Math.log10(Math.min(...values)));
  const high = values.length === 0 ? 1 : Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const ticks = Array.from({ length: high - low + 1 }, (_, power) => 10 ** (low + power));
  return { share: (y) => (Math.log10(y) - low) / (high - low), ticks };
}

function text(x: number, y: number, content: string, more = ""): string {
  const escaped = content.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign] ?? sign);
  return `<text x="${round(x)}" y="${round(y)}"${more === "" ? "" : ` ${more}`}>${escaped}</text>`;
}

/** The next of 1, 2, 2.5, 5 times a power of ten. */
function niceCeiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= value * (1 - 1e-9)) ?? 10;
  return step * power;
}

function label(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
