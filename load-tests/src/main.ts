/** `npm run load`: one open-loop load, or A against B. */
import { readFile } from "node:fs/promises";
import { compare } from "./compare.ts";
import { closeLine, progressText, say, showStatus } from "./console.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { HELP, type LoadOptions, parseLoadOptions, UsageError } from "./options.ts";
import { formatReport, latencyPlot, RESULTS_FOLDER, type Report, writeReport } from "./report.ts";
import { formatTrace, generateWorkload, type ProgramSpec, parseTrace } from "./workload.ts";

const USAGE_EXIT_CODE = 2;

async function main(args: readonly string[]): Promise<void> {
  const options = parseLoadOptions(args);
  if (!options) {
    process.stdout.write(HELP);
    return;
  }
  const trace = options.trace === undefined ? undefined : parseTrace(await readFile(options.trace, "utf8"));
  const programsOf = (round: number): readonly ProgramSpec[] => trace ?? generated(options, round);
  if (options.printTrace) {
    process.stdout.write(formatTrace(programsOf(0)));
    return;
  }
  const stop = new AbortController();
  // One Ctrl-C can arrive twice, from the terminal and forwarded by a parent.
  process.on("SIGINT", () => stop.abort());
  const variants = await compare({
    sides: options.sides,
    rounds: options.rounds,
    programsOf,
    run: options,
    signal: stop.signal,
    onPhase: say,
    onStack: showStatus,
    onProgress: (side, progress) => showStatus(progressText(side, progress)),
  });
  closeLine();
  const report: Report = {
    name: options.name,
    machine: await describeMachine(commandLine("load", args)),
    load: loadOf(options),
    variants,
  };
  const text = formatReport(report);
  const folder = await writeReport(options.out ?? RESULTS_FOLDER, report, text, { latency: latencyPlot(report) });
  console.log(`${text}\n\nwritten to ${folder}`);
}

function generated({ workload, rate, durationMs, seed, programsMax, tokenScale }: LoadOptions, round: number) {
  const limit = programsMax === undefined ? {} : { programsMax };
  return generateWorkload({ workload, rate, durationMs, seed: seed + round, tokenScale, ...limit });
}

function loadOf(options: LoadOptions): Record<string, unknown> {
  const { workload, trace, rate, durationMs, seed, rounds, tokenScale, stream } = options;
  return trace === undefined
    ? { workload, rate, durationMs, seed, rounds, tokenScale, stream }
    : { trace, seed, rounds, stream };
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  closeLine();
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n\n${HELP}`);
  process.exitCode = USAGE_EXIT_CODE;
}
