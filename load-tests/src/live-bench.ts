/**
 * `npm run bench:live`: policies on a real engine, whose memory holds a third of the programs under way: one stack
 * after the other, since two at once would share this machine's cores and measure each other.
 */
import { closeLine, progressText, say, showStatus } from "./console.ts";
import { endIncomplete, runInterruptible } from "./ending.ts";
import { runLive } from "./live/bench.ts";
import { HELP, parseLiveOptions } from "./live/options.ts";
import { liveText } from "./live/report.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const options = parseLiveOptions(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return;
  }
  const findings = await runLive(options, process.env, {
    onPhase: say,
    onStatus: showStatus,
    onProgress: (name, progress) => showStatus(progressText(name, progress)),
    signal,
  });
  closeLine();
  const text = `${liveText(findings.reports)}\n\n${findings.about}`;
  const machine = await describeMachine(commandLine("bench:live", args));
  const report = { name: "bench-live", machine, load: options, ...findings };
  const folder = await writeReport(options.out ?? RESULTS_FOLDER, report, text, {});
  console.log(`\n${text}\n\nwritten to ${folder}`);
  endIncomplete(findings.missing, signal);
}

await runInterruptible(main, "npm run bench:live");
