/** What `npm run replay` says. */
import type { Command } from "@autellix/core";
import { commandDigest, formatInputLog, type InputLogConfig } from "@autellix/protocol/input-log";
import { type Divergence, type Replay, type ReplayedInput, THROWS } from "@autellix/simulation";
import { formatMs } from "../table.ts";

const LABEL_CHARS = 11;

const row = (label: string, text: string) => `${label.padEnd(LABEL_CHARS)}${text}`;

/** One input with its commands, as `--commands` shows it. @param startedAt time of the first input. */
export function inputText({ line, input, commands }: ReplayedInput, startedAt: number): string {
  const head = `line ${line}, +${formatMs(input.at - startedAt)}: ${formatInputLog(input)}`;
  return [head, ...commands.map((command) => `  → ${formatInputLog(command)}`)].join("\n");
}

/** @param file as the person named it. */
export function replayText(file: string, replay: Replay): string {
  const { header, inputs, commands, firstAt = 0, lastAt = 0, divergence } = replay;
  const lines = [
    row("log", `${file}: pool ${header.pool}, epoch ${header.epoch}`),
    row("core", configText(header.config)),
    row("inputs", `${countsText(inputs)}, in ${formatMs(lastAt - firstAt)}`),
    row("commands", countsText(commands)),
    row("recording", endText(replay)),
    `same commands: ${divergence ? "no" : "yes"}`,
  ];
  return [...lines, ...(divergence ? divergenceLines(divergence) : [])].join("\n");
}

function configText({
  policy,
  balancer,
  ladder,
  binding,
  misfit,
  beta,
  promotedShare,
  windowSteps,
}: InputLogConfig): string {
  const ladderText =
    "first" in ladder
      ? `ladder calibrated from ${ladder.first} × ${ladder.levels} by ${ladder.factor}`
      : `fixed ladder of ${ladder.length} levels from ${ladder[0]?.hi}`;
  const shareText = Number.isFinite(promotedShare) ? ` to ${promotedShare} of the places` : "";
  const betaText = Number.isFinite(beta) ? `β ${beta}${shareText}` : "no promotion";
  const rules = `bound ${binding === "late" ? "late" : "on arrival"}, ${misfit} at a misfit`;
  return `${policy}, ${balancer}, ${ladderText}, ${betaText}, ${rules}, windows of ${windowSteps} steps`;
}

function countsText(counts: ReadonlyMap<string, number>): string {
  const parts = [...counts].sort(([, a], [, b]) => b - a).map(([kind, count]) => `${kind} ${count}`);
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  return parts.length === 0 ? "0" : `${total}: ${parts.join(", ")}`;
}

function endText({ end, torn, threw, divergence }: Replay): string {
  if (divergence) return `read up to line ${divergence.line}`;
  if (threw !== undefined) return `ends where the core threw, then as now: ${threw}`;
  if (torn !== undefined) return `its last line (${torn}) is not whole: it was being written when the process ended`;
  return end ?? "goes on, or the process was killed: no line says why it ended";
}

function divergenceLines({ line, input, index, recorded, made, thrown }: Divergence): string[] {
  return [
    row("line", `${line}, command ${index + 1} of this input: ${formatInputLog(input)}`),
    row("recorded", recorded === THROWS ? "the core threw" : (recorded ?? "no further command")),
    row("now", thrown === undefined ? commandText(made) : `the core throws: ${thrown}`),
  ];
}

function commandText(command: Command | undefined): string {
  return command ? `${commandDigest(command)} ${formatInputLog(command)}` : "no further command";
}
