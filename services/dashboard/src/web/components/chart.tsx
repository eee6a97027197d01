/** A chart over time: uPlot in the colours of the page. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colour, theme } from "../theme.ts";
import { useWidth } from "./use-width.ts";

export interface Curve {
  name: string;
  /** Variable of the style sheet. */
  colour: string;
  fill?: boolean;
  dash?: boolean;
}

export interface ChartProps {
  curves: readonly Curve[];
  /** Times in s, then one list for each curve. */
  data: readonly (readonly (number | null)[])[];
  format: (value: number) => string;
  label: string;
}

const HEIGHT_PX = 150;

export function Chart({ curves, data, format, label }: ChartProps) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const plot = useRef<uPlot | undefined>(undefined);
  useEffect(() => {
    if (!ref.current || width === 0) return;
    plot.current = new uPlot(options(curves, width, format), data as uPlot.AlignedData, ref.current);
    return () => {
      plot.current?.destroy();
      plot.current = undefined;
    };
    // Data comes by the next effect.
  }, [width, theme.value]);
  useEffect(() => {
    plot.current?.setData(data as uPlot.AlignedData);
  }, [data]);
  const last = curves.map(({ name }, i) => {
    const value = data[i + 1]?.at(-1);
    return { name, text: value === null || value === undefined ? "–" : format(value) };
  });
  return (
    <figure class="chart">
      <div
        ref={ref}
        role="img"
        aria-label={`${label}. Now: ${last.map(({ name, text }) => `${name} ${text}`).join(", ")}`}
      />
      <figcaption>
        {curves.map((curve, i) => (
          <span key={curve.name} class="key">
            <i class={curve.dash ? "dash" : ""} style={{ background: `var(--${curve.colour})` }} />
            {curve.name} <b>{last[i]?.text}</b>
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

function options(curves: readonly Curve[], width: number, format: (value: number) => string): uPlot.Options {
  const axis = {
    stroke: colour("muted"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  return {
    width,
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 4, 0, 0],
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
    axes: [
      {
        ...axis,
        space: 80,
        size: 30,
        values: (_plot, times) =>
          times.map((time) =>
            new Date(time * 1_000).toLocaleTimeString([], {
              hour: "2-digit",
              minute: "2-digit",
              second: "2-digit",
              hour12: false,
            }),
          ),
      },
      { ...axis, size: 54, space: 28, values: (_plot, values) => values.map((value) => format(value)) },
    ],
    series: [
      {},
      ...curves.map(
        (curve): uPlot.Series => ({
          stroke: colour(curve.colour),
          width: 1.5,
          points: { show: false },
          ...(curve.fill ? { fill: `${colour(curve.colour)}33` } : {}),
          ...(curve.dash ? { dash: [6, 4] } : {}),
        }),
      ),
    ],
  };
}
