/**
 * `npm run bench:path`: what the way of a call costs, with an engine that takes no time.
 *
 * 1. Calls per second: a closed loop with ever more callers, until more callers bring nothing.
 * 2. Latency added at 20 calls per second, open loop. The engine takes no time, so all of it is the path's, but for one
 *    HTTP exchange between two processes, which any server costs: it is measured at the same rate in the same run, and
 *    both figures are printed.
 */
import { Agent, get } from "node:http";
import { parseArgs } from "node:util";
import { type ClosedLoopResult, runClosedLoop } from "./closed-loop.ts";
import { closeLine, progressText, say, showStatus } from "./console.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { number } from "./options.ts";
import { ownUse, type ProcessUse, useBetween } from "./processes.ts";
import { formatUse, RESULTS_FOLDER, writeReport } from "./report.ts";
import { runOpenLoop } from "./run.ts";
import { type Stack, startStack } from "./stack.ts";
import { type Spread, spread, summarise } from "./stats.ts";
import { formatTable } from "./table.ts";
import { generateWorkload } from "./workload.ts";

/** What issue "main path" asks for, on 2 cores. */
const CALLS_PER_SECOND_WANTED = 300;
const P50_MS_WANTED = 5;
const OPEN_RATE = 20;
const CALLERS = [8, 16, 32, 64, 128];
const WARM_UP_MS = 1_500;
/** More callers that bring less than this are not tried further. */
const GAIN_MIN = 1.05;
const PROMPT = "What is the capital of France?";

const { values } = parseArgs({
  options: {
    /** Seconds of each step of the ramp, and of the open loop. */
    "step-seconds": { type: "string" },
    "open-seconds": { type: "string" },
    tokens: { type: "string" },
    seed: { type: "string" },
    frontends: { type: "string" },
    engines: { type: "string" },
    out: { type: "string" },
  },
});
const stepMs = 1_000 * number("step-seconds", values["step-seconds"], 5, 1, 120);
const openMs = 1_000 * number("open-seconds", values["open-seconds"], 20, 1, 600);
const tokens = number("tokens", values.tokens, 16, 1, 10_000);
const seed = number("seed", values.seed, 1, 0, 2 ** 31);
const stackArgs = ["--engine", "simulated", "--preset", "zero", "--log-level", "warn"];
const sizes = ["--engines", values.engines ?? "1", "--frontends", values.frontends ?? "1"];

interface Phase {
  name: string;
  calls: number;
  callMs: Spread;
  perSecond: number;
  errors: Record<string, number>;
  use: ProcessUse[];
}

/** Runs one phase and takes what every process used meanwhile, this one too. */
async function measured(stack: Stack, name: string, run: () => Promise<Omit<Phase, "name" | "use">>): Promise<Phase> {
  const before = [...stack.processes(), ownUse()];
  const result = await run();
  return { name, ...result, use: useBetween(before, [...stack.processes(), ownUse()]) };
}

async function ramp(stack: Stack, url: string, stream: boolean): Promise<Phase[]> {
  const phases: Phase[] = [];
  for (const callers of CALLERS) {
    const name = `${callers} callers, ${stream ? "streamed" : "whole"}`;
    showStatus(`closed loop: ${name}`);
    const messages = [{ role: "user" as const, content: PROMPT }];
    const body = { messages, max_tokens: tokens, stream };
    const options = { url, callers, durationMs: stepMs, warmUpMs: WARM_UP_MS, body, signal: stop.signal };
    const phase = await measured(stack, name, async () => ofClosedLoop(await runClosedLoop(options)));
    const best = Math.max(0, ...phases.map((other) => other.perSecond));
    phases.push(phase);
    if (stop.signal.aborted || phase.perSecond < best * GAIN_MIN) break;
  }
  return phases;
}

function ofClosedLoop(result: ClosedLoopResult): Omit<Phase, "name" | "use"> {
  const { completed, perSecond, errors, callMs } = result;
  return { calls: completed, perSecond, errors, callMs: spread(callMs) };
}

/** One HTTP exchange with the frontend, which does nothing for it. */
async function bareHttp(stack: Stack): Promise<Phase> {
  const name = `bare HTTP exchange, ${OPEN_RATE}/s`;
  showStatus(name);
  const agent = new Agent({ keepAlive: true });
  const startMs = performance.now();
  const ms: number[] = [];
  const phase = await measured(stack, name, async () => {
    while (performance.now() - startMs < openMs / 2 && !stop.signal.aborted) {
      ms.push(await exchange(`${stack.baseUrl}/healthz`, agent));
      await new Promise((done) => setTimeout(done, 1_000 / OPEN_RATE));
    }
    return {
      calls: ms.length,
      callMs: spread(ms),
      perSecond: (1_000 * ms.length) / (performance.now() - startMs),
      errors: {},
    };
  });
  agent.destroy();
  return phase;
}

/** @returns ms from the request to the end of the answer. */
function exchange(url: string, agent: Agent): Promise<number> {
  const sentMs = performance.now();
  return new Promise((done, failed) => {
    const request = get(url, { agent }, (response) => {
      response.resume().once("end", () => done(performance.now() - sentMs));
    });
    request.once("error", failed);
  });
}

async function openLoop(stack: Stack, url: string): Promise<Phase> {
  const programs = generateWorkload({ workload: "single", rate: OPEN_RATE, durationMs: openMs, seed }).map(
    (program) => ({
      ...program,
      calls: program.calls.map((call) => ({ ...call, completionTokens: tokens, prompt: PROMPT })),
    }),
  );
  const name = `open loop, ${OPEN_RATE} calls/s, whole`;
  return await measured(stack, name, async () => {
    const run = await runOpenLoop({ name, url }, programs, {
      stream: false,
      seed,
      signal: stop.signal,
      onProgress: (progress) => showStatus(progressText(name, progress)),
    });
    const { calls, callMs, errors } = summarise(run);
    return { calls: calls.completed, callMs, perSecond: calls.perSecond, errors };
  });
}

const stop = new AbortController();
// One Ctrl-C can arrive twice, from the terminal and forwarded by a parent.
process.on("SIGINT", () => stop.abort());
const args = [...stackArgs, ...sizes];
say(`starting a stack: ${args.join(" ")}`);
const stack = await startStack({ args, signal: stop.signal, onProgress: showStatus });
try {
  const url = `${stack.baseUrl}/v1`;
  // First, so that it is not measured on heaps that the ramp has filled; warmed up by calls of its own.
  await runClosedLoop({
    url,
    callers: 4,
    durationMs: WARM_UP_MS,
    body: { messages: [{ role: "user", content: PROMPT }], max_tokens: tokens, stream: false },
  });
  const bare = await bareHttp(stack);
  const open = await openLoop(stack, url);
  const whole = await ramp(stack, url, false);
  const streamed = await ramp(stack, url, true);
  closeLine();
  await report([bare, open, ...whole, ...streamed], { bare, open, whole });
} finally {
  await stack.stop();
}

async function report(
  phases: readonly Phase[],
  { bare, open, whole }: { bare: Phase; open: Phase; whole: readonly Phase[] },
): Promise<void> {
  const best = whole.reduce((a, b) => (b.perSecond > a.perSecond ? b : a));
  const rows = phases.map((phase) => [
    phase.name,
    phase.calls,
    phase.perSecond,
    phase.callMs.p50,
    phase.callMs.p95,
    phase.callMs.p99,
    Object.entries(phase.errors)
      .map(([error, count]) => `${count} ${error}`)
      .join(", ") || "none",
  ]);
  const table = formatTable(["phase", "calls", "calls/s", "p50 ms", "p95 ms", "p99 ms", "errors"], rows);
  const errors = phases.some((phase) => Object.keys(phase.errors).length > 0);
  const fast = best.perSecond >= CALLS_PER_SECOND_WANTED;
  const addedMs = open.callMs.p50 - bare.callMs.p50;
  const quick = addedMs <= P50_MS_WANTED;
  const verdict = [
    `throughput ${best.perSecond.toFixed(0)} whole calls/s (${best.name}); wanted ≥ ${CALLS_PER_SECOND_WANTED}: ${fast ? "yes" : "NO"}`,
    `latency at ${OPEN_RATE} calls/s: p50 ${open.callMs.p50.toFixed(2)} ms, p99 ${open.callMs.p99.toFixed(2)} ms; a bare HTTP exchange takes ${bare.callMs.p50.toFixed(2)} ms`,
    `latency added: p50 ${addedMs.toFixed(2)} ms; wanted ≤ ${P50_MS_WANTED} ms: ${quick ? "yes" : "NO"}`,
  ].join("\n");
  const text = [
    table,
    `CPU at ${best.name}\n${formatUse(best.use, best)}`,
    `CPU at ${open.name}\n${formatUse(open.use, open)}`,
    `${tokens} tokens per answer, ${args.join(" ")}`,
    verdict,
  ].join("\n\n");
  const machine = await describeMachine(commandLine("bench:path", process.argv.slice(2)));
  const result = { name: "bench-path", machine, load: { tokens, stepMs, openMs, seed, stack: args }, phases };
  const folder = await writeReport(values.out ?? RESULTS_FOLDER, result, text, {});
  console.log(`${text}\n\nwritten to ${folder}`);
  // A machine that is too slow for the figures is no error; a call that fails is one.
  if (errors) process.exitCode = 1;
}
