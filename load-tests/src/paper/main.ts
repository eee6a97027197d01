/** `npm run bench:paper`: the paper's evaluation on the simulator. */
import { join } from "node:path";
import { closeLine, say, showStatus } from "../console.ts";
import { endUnreadable } from "../ending.ts";
import { commandLine, describeMachine } from "../machine.ts";
import { UsageError } from "../options.ts";
import { Bench, Interrupted, progressLine } from "./bench.ts";
import { codeHash, frozenHash } from "./identity.ts";
import { helpText, type PaperOptions, parsePaperOptions } from "./options.ts";
import { pieces } from "./pieces/index.ts";
import { WorkerPool } from "./pool.ts";
import { writePaperReport } from "./render.ts";
import type { Scope, Section } from "./section.ts";
import { RunStore } from "./store.ts";

const USAGE_EXIT_CODE = 2;
const INTERRUPT_EXIT_CODE = 130;

async function main(args: readonly string[]): Promise<void> {
  const options = parsePaperOptions(args, pieces);
  if (!options) {
    process.stdout.write(helpText(pieces));
    return;
  }
  const startedMs = performance.now();
  const [frozen, code] = [frozenHash(), codeHash()];
  const executor = new WorkerPool(options.threads);
  const bench = new Bench({
    store: new RunStore(join(options.out, "runs.jsonl")),
    executor,
    frozen,
    code,
    fresh: options.fresh,
    seedsMin: options.seedsMin,
    ...(options.programsMin === undefined ? {} : { programsMin: options.programsMin }),
    onProgress: (progress) => showStatus(progressLine(progress, options.threads)),
  });
  process.on("SIGINT", () => bench.stop());
  try {
    const sections = await playPieces(bench, options);
    if (sections.length === 0)
      throw new UsageError("none of these pieces is of these workloads, systems and protocols");
    const machine = await describeMachine(commandLine("bench:paper", args));
    const runsByCode = Object.fromEntries(bench.runsByCode);
    const wallS = (performance.now() - startedMs) / 1_000;
    const { preset, quick, out } = options;
    writePaperReport(out, { machine, preset, frozen, code, runsByCode, quick, wallS, sections });
    closeLine();
    console.log(`${progressLine(bench.progress, options.threads)}, ${wallS.toFixed(0)} s\nwritten to ${out}`);
  } finally {
    await executor.close();
  }
}

/** Side by side: while one piece's bisection waits for its next point, others keep the cores busy. */
async function playPieces(bench: Bench, options: PaperOptions): Promise<Section[]> {
  const { workloads, systems, preset, quick, protocols, seedsMin, programsMin } = options;
  const scope: Scope = {
    workloads,
    systems,
    preset,
    quick,
    seedsMin,
    ...(programsMin === undefined ? {} : { programsMin }),
    finite: protocols.includes("finite"),
    steady: protocols.includes("steady"),
  };
  say(`pieces: ${options.pieces.map(({ id }) => id).join(", ")}; workloads: ${workloads.join(", ")}`);
  const sections = await Promise.all(options.pieces.map((piece) => piece.run(bench, scope)));
  return sections.flat();
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  closeLine();
  if (error instanceof Interrupted) {
    say("interrupted; the same command goes on from here");
    process.exitCode = INTERRUPT_EXIT_CODE;
  } else if (error instanceof UsageError) {
    console.error(`${error.message}\n\n${helpText(pieces)}`);
    process.exitCode = USAGE_EXIT_CODE;
  } else endUnreadable(error, "npm run bench:paper");
}
