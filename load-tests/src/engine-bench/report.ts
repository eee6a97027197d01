/** What `npm run bench:engine` says. */
import { median } from "../stats.ts";
import { formatMs, formatTable } from "../table.ts";
import type { ContextResult } from "./contexts.ts";
import type { PairsSummary } from "./pairs.ts";

/** Issue "engines": swap out and in against recomputing, and the first token with a kept history against a cold one. */
const SWAP_SHARE_WANTED = 0.02;
const WARM_SHARE_WANTED = 0.1;

export interface BatchResult extends PairsSummary {
  batch: number;
}

/** @param direct what the agent's arm is compared with. */
export function throughputText(direct: string, results: readonly BatchResult[], ratioWanted: number): string {
  const rows = results.map((one) => [
    one.batch,
    one.pairs.length,
    one.direct,
    one.agent,
    percent(one.share),
    `${percent(one.shareMin)} … ${percent(one.shareMax)}`,
    one.systemShares.map(percent).join(", "),
    verdict(one.share >= ratioWanted),
    one.beside,
    percent(one.shareBeside),
    one.directCpuMs,
    one.agentCpuMs,
  ]);
  const head = [
    "calls at once",
    "pairs",
    `${direct}, tokens/s`,
    "agent, tokens/s",
    "share",
    "of the pairs",
    "of each system's",
    `≥ ${percent(ratioWanted)}`,
    "beside the same traffic",
    "share of that",
    "CPU ms/token",
    "agent's",
  ];
  return formatTable(head, rows);
}

export function contextsText(result: ContextResult): string {
  const { swapOutMs, swapInMs, recomputeMs, coldMs, warmMs, hostMs } = result;
  const swapMs = median(swapOutMs) + median(swapInMs);
  const cold = median(coldMs);
  const row = (name: string, ms: number, of: number, wanted: number) => [
    name,
    formatMs(ms),
    percent(ms / of),
    `≤ ${percent(wanted)}: ${verdict(ms / of <= wanted)}`,
  ];
  const megabytes = (result.swapBytes / 1e6).toFixed(1);
  return [
    `a context of ${result.contextTokens} tokens; medians of ${coldMs.length}`,
    formatTable(
      ["", "time", "share", "wanted"],
      [
        ["compute it again", formatMs(median(recomputeMs)), "", ""],
        row(
          `swap out ${formatMs(median(swapOutMs))} + in ${formatMs(median(swapInMs))} (${megabytes} MB each)`,
          swapMs,
          median(recomputeMs),
          SWAP_SHARE_WANTED,
        ),
        ["next call's first token, cold", formatMs(cold), "", ""],
        row(`… from the kept context (${result.cachedTokens} tokens found)`, median(warmMs), cold, WARM_SHARE_WANTED),
        row("… from the host tier", median(hostMs), cold, WARM_SHARE_WANTED),
      ],
    ),
  ].join("\n");
}

/** Whether what was asked for was reached. */
export function contextsReached({ swapOutMs, swapInMs, recomputeMs, coldMs, warmMs, hostMs }: ContextResult): boolean {
  const cold = median(coldMs);
  return (
    median(swapOutMs) + median(swapInMs) <= SWAP_SHARE_WANTED * median(recomputeMs) &&
    Math.max(median(warmMs), median(hostMs)) <= WARM_SHARE_WANTED * cold
  );
}

function percent(share: number): string {
  return Number.isNaN(share) ? "–" : `${(100 * share).toFixed(1)} %`;
}

function verdict(reached: boolean): string {
  return reached ? "yes" : "NO";
}
