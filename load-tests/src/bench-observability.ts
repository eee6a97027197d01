/**
 * `npm run bench:observability`: what metrics and a watched pool cost. Pairs of systems, one that is scraped each second
 * and watched as by a dashboard, one with neither, in turns; medians over the pairs.
 */
import { closeLine, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { type Arm, runArm } from "./observability/arm.ts";
import { parseFlags, whole } from "./options.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { median } from "./stats.ts";
import { formatTable } from "./table.ts";

const PLAN_RATIO_WANTED = 1.1;
const LOOP_ADDED_MS_WANTED = 2;

const HELP = `npm run bench:observability -- [options]
  --pairs N      systems with and without, in turns (default 10)
  --seconds N    of load on each (default 15)
  --callers N    that always have a call open; 16 are run at once (default 32)
  --tokens N     of each answer (default 16)
  --out FOLDER   (default load-tests/results)
`;

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", short: "h" } as const;
  const given = parseFlags(args, { pairs: text, seconds: text, callers: text, tokens: text, out: text, help: flag });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  const pairs = whole("pairs", given.pairs, 10, 1, 100);
  const durationMs = 1_000 * whole("seconds", given.seconds, 15, 1, 600);
  const callers = whole("callers", given.callers, 32, 1, 1_000);
  const tokens = whole("tokens", given.tokens, 16, 1, 1_000);
  const arms: { off: Arm; on: Arm }[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    const run = async (watched: boolean) => {
      showStatus(`pair ${pair + 1} of ${pairs}, ${watched ? "watched" : "not watched"}`);
      return await runArm({ watched, callers, tokens, durationMs, signal });
    };
    // In turns, so that a machine that warms up or is used by others favours none.
    if (pair % 2 === 0) {
      const off = await run(false);
      arms.push({ off, on: await run(true) });
    } else {
      const on = await run(true);
      arms.push({ off: await run(false), on });
    }
  }
  closeLine();
  const { summary, met, medians } = summarise(arms);
  const machine = await describeMachine(commandLine("bench:observability", args));
  const load = { pairs, durationMs, callers, tokens, engines: 2, batch: 8, scrapeMs: 1_000 };
  const report = { name: "bench-observability", machine, load, medians, arms };
  const folder = await writeReport(given.out ?? RESULTS_FOLDER, report, summary, {});
  console.log(`${summary}\n\nwritten to ${folder}`);
  if (!met) process.exitCode = 1;
}

function summarise(arms: readonly { off: Arm; on: Arm }[]) {
  const kinds = Object.keys(arms[0]?.off.loopP99Ms ?? {});
  const figures: [string, (arm: Arm) => number][] = [
    ["planning p50, ms", (arm) => arm.planP50Ms],
    ["planning p99, ms", (arm) => arm.planP99Ms],
    ...kinds.map((kind): [string, (arm: Arm) => number] => [
      `loop delay p99, ${kind}, ms`,
      (arm) => arm.loopP99Ms[kind] ?? Number.NaN,
    ]),
    ["calls/s", (arm) => arm.perSecond],
    ["call p50, ms", (arm) => arm.callP50Ms],
    ["call p99, ms", (arm) => arm.callP99Ms],
    ["CPU of our processes for a call, ms", (arm) => arm.cpuMsPerCall],
  ];
  const medians = figures.map(([name, read]) => {
    const off = median(arms.map((pair) => read(pair.off)));
    const on = median(arms.map((pair) => read(pair.on)));
    const added = median(arms.map((pair) => read(pair.on) - read(pair.off)));
    const ratio = median(arms.map((pair) => read(pair.on) / read(pair.off)));
    return { name, off, on, added, ratio };
  });
  const table = formatTable(
    ["median of pairs", "off", "on", "on − off", "on / off"],
    medians.map(({ name, off, on, added, ratio }) => [name, off, on, added, ratio]),
  );
  const plan = medians[0]?.ratio ?? Number.NaN;
  const loop = Math.max(...medians.filter(({ name }) => name.startsWith("loop delay")).map(({ added }) => added));
  const isPlanMet = plan <= PLAN_RATIO_WANTED;
  const isLoopMet = loop <= LOOP_ADDED_MS_WANTED;
  const seen = arms.reduce((sum, { on }) => sum + on.scrapes, 0);
  const changes = arms.reduce((sum, { on }) => sum + on.changes, 0);
  const summary = [
    table,
    "",
    `planning p50: ${plan.toFixed(2)} × (wanted: ≤ ${PLAN_RATIO_WANTED}): ${isPlanMet ? "yes" : "NO"}`,
    `loop delay p99, the worst service: ${loop.toFixed(2)} ms more (wanted: ≤ ${LOOP_ADDED_MS_WANTED}): ${isLoopMet ? "yes" : "NO"}`,
    `${seen} scrapes and ${changes} messages of changes while watched`,
  ].join("\n");
  return { summary, met: isPlanMet && isLoopMet, medians };
}

await runInterruptible(main, "npm run bench:observability");
