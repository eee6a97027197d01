/**
 * `npm run bench:tracing`: what tracing of all programs costs. Two systems side by side, one that sends spans and one
 * that does not, loaded in turns; medians over the pairs. Each call is a program of its own, which is the dearest case.
 * Both are warmed up for long, so that what is measured is compiled. Each arm of a pair is loaded twice, around and
 * between the other's two times: a machine that becomes slower within half a minute does so for both.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { runClosedLoop } from "./closed-loop.ts";
import { closeLine, say, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { number, parseFlags, whole } from "./options.ts";
import { type ProcessUse, useBetween } from "./processes.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { type RunResult, runOpenLoop } from "./run.ts";
import { type Stack, startStack } from "./stack.ts";
import { median, type Spread, summarise } from "./stats.ts";
import { formatTable } from "./table.ts";
import type { Taken } from "./tracing/collector.ts";
import { generateWorkload } from "./workload.ts";

const CPU_US_WANTED = 150;
const P99_MS_WANTED = 1;
const WARM_UP_MS = 45_000;
const WARM_UP_CALLERS = 8;
const TURN_MS = 2_000;
/** Spans wait at most 5 s before they are sent. */
const SENT_MS = 6_000;
const PROMPT = "What is the capital of France?";
const STACK = [
  "--engine",
  "simulated",
  "--preset",
  "zero",
  "--engines",
  "1",
  "--frontends",
  "1",
  "--log-level",
  "warn",
];
const HELP = `npm run bench:tracing -- [options]
  --pairs N      with and without, in turns (default 10)
  --seconds N    of load on each in a pair (default 24)
  --rate N       calls per second, open loop (default 100)
  --tokens N     of each answer (default 16)
  --seed N       of the arrivals (default 1)
  --out FOLDER   (default load-tests/results)
`;

interface Load {
  durationMs: number;
  rate: number;
  tokens: number;
}

interface Arm {
  calls: number;
  callMs: Spread;
  /** Of all processes of the system. */
  cpuUsPerCall: number;
  /** By process, µs per call. */
  cpuUs: Record<string, number>;
  errors: Record<string, number>;
}

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const flags = { pairs: text, seconds: text, rate: text, tokens: text, seed: text, out: text };
  const given = parseFlags(args, { ...flags, help: { type: "boolean", short: "h" } as const });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  const pairs = whole("pairs", given.pairs, 10, 1, 100);
  const seed = whole("seed", given.seed, 1, 0, 2 ** 31);
  const load: Load = {
    durationMs: 1_000 * whole("seconds", given.seconds, 24, 2, 600),
    rate: number("rate", given.rate, 100, 0.1, 10_000),
    tokens: whole("tokens", given.tokens, 16, 1, 1_000),
  };
  const collector = await startCollector();
  const stacks: Stack[] = [];
  const arms: { off: Arm; on: Arm }[] = [];
  try {
    say("starting two systems");
    const off = await startStack({ args: STACK, signal, onProgress: showStatus });
    stacks.push(off);
    const on = await startStack({ args: [...STACK, "--otlp", collector.url], signal, onProgress: showStatus });
    stacks.push(on);
    showStatus(`warming both up, ${WARM_UP_MS / 1_000} s each`);
    for (const stack of stacks) await warmUp(stack, load, signal);
    for (let pair = 0; pair < pairs && !signal.aborted; pair++)
      arms.push(await loadedPair({ off, on }, `pair ${pair + 1} of ${pairs}`, load, { seed: seed + pair, signal }));
    closeLine();
    const taken = await collector.taken();
    const { summary, medians } = summariseArms(arms, taken);
    const machine = await describeMachine(commandLine("bench:tracing", args));
    const report = {
      name: "bench-tracing",
      machine,
      load: { ...load, pairs, seed, stack: STACK },
      medians,
      taken,
      arms,
    };
    const folder = await writeReport(given.out ?? RESULTS_FOLDER, report, summary, {});
    console.log(`${summary}\n\nwritten to ${folder}`);
    // A slow machine is no error; a call that fails is one.
    if (arms.some((pair) => [pair.off, pair.on].some(({ errors }) => Object.keys(errors).length > 0)))
      process.exitCode = 1;
  } finally {
    for (const stack of stacks) await stack.stop();
    collector.stop();
  }
}

async function startCollector() {
  const child = fork(join(import.meta.dirname, "tracing/collector.ts"));
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return {
    url: `http://127.0.0.1:${port}`,
    async taken(): Promise<Taken> {
      child.send("taken");
      const [taken] = (await once(child, "message")) as [Taken];
      return taken;
    },
    stop: () => void child.kill(),
  };
}

async function warmUp(stack: Stack, { tokens }: Load, signal: AbortSignal): Promise<void> {
  const body = { messages: [{ role: "user" as const, content: PROMPT }], max_tokens: tokens, stream: false };
  const url = `${stack.baseUrl}/v1`;
  await runClosedLoop({ url, callers: WARM_UP_CALLERS, durationMs: WARM_UP_MS, body, signal });
}

interface Arrivals {
  seed: number;
  signal: AbortSignal;
}

/** Both in turns: off and on, on and off, and so on. */
async function loadedPair(
  stacks: Record<"off" | "on", Stack>,
  title: string,
  load: Load,
  { seed, signal }: Arrivals,
): Promise<{ off: Arm; on: Arm }> {
  const turns = Math.max(1, Math.round(load.durationMs / TURN_MS));
  const runs: Record<"off" | "on", RunResult[]> = { off: [], on: [] };
  const before = { off: stacks.off.processes(), on: stacks.on.processes() };
  for (let turn = 0; turn < turns; turn++) {
    for (const name of turn % 2 === 0 ? (["off", "on"] as const) : (["on", "off"] as const)) {
      const arrivals = { seed: seed * turns + turn, signal };
      showStatus(`${title}, turn ${turn + 1} of ${turns}`);
      runs[name].push(await loaded(stacks[name], name, { ...load, durationMs: load.durationMs / turns }, arrivals));
    }
  }
  await setTimeout(SENT_MS, undefined, { signal });
  const armOfRuns = (name: "off" | "on") => armOf(runs[name], useBetween(before[name], stacks[name].processes()));
  return { off: armOfRuns("off"), on: armOfRuns("on") };
}

async function loaded(stack: Stack, name: string, load: Load, { seed, signal }: Arrivals): Promise<RunResult> {
  const { rate, durationMs, tokens } = load;
  const programs = generateWorkload({ workload: "single", rate, durationMs, seed }).map((program) => ({
    ...program,
    calls: program.calls.map((call) => ({ ...call, completionTokens: tokens, prompt: PROMPT })),
  }));
  // Each program is ended after its call, as a client that knows us does: its totals are sent, and its context goes.
  return runOpenLoop({ name, url: `${stack.baseUrl}/v1` }, programs, {
    stream: false,
    endPrograms: true,
    seed,
    signal,
  });
}

function armOf(runs: readonly RunResult[], use: readonly ProcessUse[]): Arm {
  const [first] = runs;
  if (first === undefined) throw new Error("nothing was measured");
  const { calls, callMs, errors } = summarise({
    ...first,
    elapsedMs: runs.reduce((sum, { elapsedMs }) => sum + elapsedMs, 0),
    programs: runs.flatMap(({ programs }) => programs),
  });
  const cpuUs: Record<string, number> = {};
  for (const { name, cpuMs } of use) cpuUs[name] = (cpuUs[name] ?? 0) + (1_000 * cpuMs) / calls.completed;
  return { calls: calls.completed, callMs, cpuUsPerCall: cpuUsOf(use, calls.completed), cpuUs, errors };
}

function cpuUsOf(use: readonly ProcessUse[], calls: number): number {
  return (1_000 * use.reduce((sum, { cpuMs }) => sum + cpuMs, 0)) / calls;
}

function summariseArms(arms: readonly { off: Arm; on: Arm }[], taken: Taken) {
  const processes = Object.keys(arms[0]?.off.cpuUs ?? {});
  const figures: [string, (arm: Arm) => number][] = [
    ["call p50, ms", ({ callMs }) => callMs.p50],
    ["call p99, ms", ({ callMs }) => callMs.p99],
    ["CPU per call, µs", ({ cpuUsPerCall }) => cpuUsPerCall],
    ...processes.map((name): [string, (arm: Arm) => number] => [`  ${name}`, ({ cpuUs }) => cpuUs[name] ?? Number.NaN]),
  ];
  const medians = figures.map(([name, read]) => ({
    name,
    off: median(arms.map((pair) => read(pair.off))),
    on: median(arms.map((pair) => read(pair.on))),
    added: median(arms.map((pair) => read(pair.on) - read(pair.off))),
  }));
  const table = formatTable(
    ["median of pairs", "off", "on", "on − off"],
    medians.map(({ name, off, on, added }) => [name, off, on, added]),
  );
  const cpuUs = medians.find(({ name }) => name.startsWith("CPU"))?.added ?? Number.NaN;
  const p99Ms = medians.find(({ name }) => name.startsWith("call p99"))?.added ?? Number.NaN;
  const verdict = (isMet: boolean) => (isMet ? "yes" : "NO");
  const summary = [
    table,
    "",
    `CPU per call: ${cpuUs.toFixed(0)} µs more; wanted ≤ ${CPU_US_WANTED}: ${verdict(cpuUs <= CPU_US_WANTED)}`,
    `p99: ${p99Ms.toFixed(2)} ms more; wanted ≤ ${P99_MS_WANTED}: ${verdict(p99Ms <= P99_MS_WANTED)}`,
    `${arms.length} pairs; the collector took ${taken.bytes} bytes in ${taken.messages} messages, warm-up included`,
  ].join("\n");
  return { summary, medians };
}

await runInterruptible(main, "npm run bench:tracing");
