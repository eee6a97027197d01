/**
 * `npm run bench:core`: what the scheduler's core costs, without NATS and without an engine.
 *
 * One call = its arrival, and its plans and windows until it is reported finished and acked. The queue is as long at
 * all times: an ended call is replaced by its program's next one, or by a new program. Each figure is measured in a
 * process of its own, under the V8 flags of the scheduler's process. What the driver does itself is timed apart.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { flagsOf, measureMemoryApart, measureSpeedApart } from "./bench-core/isolated.ts";
import { type CoreOptions, HELP, parseCoreOptions } from "./bench-core/options.ts";
import {
  type CoreReport,
  latencyTable,
  memoryTable,
  pauseTable,
  speedTable,
  type Table,
  verdicts,
  verdictTable,
} from "./bench-core/report.ts";
import { closeLine, showStatus } from "./console.ts";
import { commandLine, describeMachine, type Machine } from "./machine.ts";
import { UsageError } from "./options.ts";
import { RESULTS_FOLDER } from "./report.ts";
import { formatTable } from "./table.ts";

const HOW = `One call = arrival, plans and windows until it is reported finished and acked; one engine.
Core: time inside \`Scheduler.apply\`, with the collections that fall into it. All: with the driver's own work, which is
no part of the scheduler. Per CPU s: the same
by the time that this process had a core; CPU % says how much of it others took (their use of caches and memory counts still). Ids come as
fresh strings each time, as from a decoder. A report names every held call, running or parked. The longest times are one
report's, and those of all arrivals of one moment; collections and growing tables are in them. Bytes of a queued call:
heap after a full collection, its strings and its program's entry included. Bytes/call after: the same when the run has
ended, one call per program, with the entries of ended programs. Kept/ended call: what the heap has grown by per call.`;

const stop = new AbortController();
// One Ctrl-C can arrive twice, from the terminal and forwarded by a parent.
process.on("SIGINT", () => stop.abort());

try {
  const options = parseCoreOptions(process.argv.slice(2));
  if (options) await bench(options);
  else console.log(HELP);
} catch (error) {
  closeLine();
  if (!(error instanceof UsageError) && !stop.signal.aborted) throw error;
  console.error(error instanceof UsageError ? error.message : "stopped");
  process.exitCode = error instanceof UsageError ? 2 : 130;
}

async function bench(options: CoreOptions): Promise<void> {
  const { speeds, memories, measureMs } = options;
  const child = { ...options, signal: stop.signal };
  const report = {
    name: "bench-core" as const,
    machine: await describeMachine(commandLine("bench:core", process.argv.slice(2))),
    flags: flagsOf({ ...options, profileFolder: undefined }),
    measureMs,
    speeds: [] as CoreReport["speeds"][number][],
    memories: [] as CoreReport["memories"][number][],
  };
  // One after the other: two at once would measure each other.
  for (const load of memories) {
    showStatus(`memory: ${load.shape}, ${load.queuedCalls} queued`);
    report.memories.push(await measureMemoryApart(load, { ...child, profileFolder: undefined }));
  }
  for (const load of speeds) {
    showStatus(`speed: ${load.policy}, ${load.queuedCalls} queued`);
    report.speeds.push(await measureSpeedApart(load, measureMs, child));
  }
  closeLine();
  const blocks = blocksOf(report);
  console.log(blocks.map(({ title, text }) => `${title}\n\n${text}`).join("\n\n"));
  // What `--quick` says of speed is of no use: it must not replace a result.
  const folder = options.out ?? (options.quick ? undefined : RESULTS_FOLDER);
  if (folder === undefined) return;
  await write(folder, report, blocks);
  console.log(`\nwritten to ${join(folder, "bench-core.md")} and bench-core.json`);
}

interface Block {
  title: string;
  text: string;
}

function blocksOf(report: CoreReport): Block[] {
  const format = ({ head, rows }: Table) => formatTable(head, rows);
  const load = report.speeds[0]?.load;
  return [
    { title: "Figures beside what is asked", text: format(verdictTable(verdicts(report))) },
    { title: "Speed", text: format(speedTable(report.speeds)) },
    { title: "Planning, longest times, memory after the run", text: format(latencyTable(report.speeds)) },
    { title: "Collections while measuring", text: format(pauseTable(report.speeds)) },
    { title: "Memory of queued calls", text: format(memoryTable(report.memories)) },
    { title: "Load", text: load === undefined ? "none" : JSON.stringify(load) },
    { title: "Machine", text: machineText(report.machine, report) },
  ];
}

function machineText(machine: Machine, { flags, measureMs }: CoreReport): string {
  const memory = `${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  return [
    `${machine.cpu}, ${machine.cores} cores, ${memory}, ${machine.platform}, Node ${machine.node} ${flags.join(" ")}`,
    `commit ${machine.commit}`,
    `${machine.command} (${measureMs / 1_000} s each)`,
  ].join("\n");
}

async function write(folder: string, report: CoreReport, blocks: readonly Block[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "bench-core.json"), `${JSON.stringify(report, undefined, 1)}\n`);
  const parts = blocks.map(({ title, text }) => `## ${title}\n\n\`\`\`text\n${text}\n\`\`\``);
  await writeFile(join(folder, "bench-core.md"), `# bench:core\n\n${HOW}\n\n${parts.join("\n\n")}\n`);
}
