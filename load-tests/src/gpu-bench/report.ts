/** What `npm run bench:gpu` says of the engine. */
import { fitText } from "../calibrate/preset.ts";
import type { StepPoint } from "../calibrate/samples.ts";
import { type Cell, formatMs, formatTable } from "../table.ts";
import type { MeasuredEngine, PieceSwaps } from "./measure.ts";

export function gpuText({ samples, fitted, swaps }: MeasuredEngine): string {
  return [
    "step time over batch and context (mean context of a call)",
    stepTable(samples.steps.filter(({ kind }) => kind === "decode")),
    "the cost model of these points, and how it predicts held-out ones",
    fitText(fitted),
    swaps === undefined ? "no host tier: nothing was swapped" : swapText(swaps),
  ].join("\n\n");
}

/** A row for each context length, a column for each batch size. */
export function stepTable(points: readonly StepPoint[]): string {
  const batches = [...new Set(points.map(({ decodeTokens }) => Math.round(decodeTokens)))].sort((a, b) => a - b);
  const contextOf = (point: StepPoint) => Math.round(point.contextTokens / point.decodeTokens / CONTEXT_GRAIN);
  const rows = [...Map.groupBy(points, contextOf)]
    .sort(([a], [b]) => a - b)
    .map(([context, own]): Cell[] => [
      context * CONTEXT_GRAIN,
      ...batches.map((batch) => {
        const point = own.find(({ decodeTokens }) => Math.round(decodeTokens) === batch);
        return point === undefined ? undefined : formatMs(point.durationMs);
      }),
    ]);
  return formatTable(["context", ...batches.map((batch) => `${batch} calls`)], rows);
}

/** Contexts of one level differ by some tokens. */
const CONTEXT_GRAIN = 64;

function swapText({ tokens, pieceTokens, callMs, piecesMs }: PieceSwaps): string {
  return (
    `${tokens} tokens out and back: ${formatMs(callMs)} in one transfer each way, ` +
    `${formatMs(piecesMs)} in pieces of ${pieceTokens} tokens (${(piecesMs / callMs).toFixed(1)} times as long)`
  );
}
