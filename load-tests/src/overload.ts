/**
 * `npm run load:overload`: three times what the system can do, for a minute. What it must show: refusals are 429 with
 * `Retry-After`, whatever was accepted ends, and no process grows. The same overload runs for another minute before,
 * in which heaps and caches reach the size that they keep: memory is compared after it.
 */
import { parseArgs } from "node:util";
import { runClosedLoop } from "./closed-loop.ts";
import { closeLine, progressText, say, showStatus } from "./console.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { type MemorySample, memoryPlot, memoryTrends, watchMemory } from "./memory.ts";
import { number } from "./options.ts";
import type { ProcessUse } from "./processes.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { type CallResult, type RunResult, runOpenLoop } from "./run.ts";
import { startStack } from "./stack.ts";
import { formatTable } from "./table.ts";
import { generateWorkload } from "./workload.ts";

const GROWTH_MAX = 0.1;
/** So small that the engine is the bottleneck, and not this machine's two cores. */
const BATCH_CALLS = 16;
const TOKENS = 16;
const CAPACITY_MS = 10_000;
const CAPACITY_WARM_UP_MS = 3_000;
/** Shells that wait beside a child, only to end it should its parent die. */
const SHELL_BYTES_MAX = 4 * 2 ** 20;
const PROMPT = "What is the capital of France?";

const { values } = parseArgs({
  options: {
    seconds: { type: "string" },
    "warm-up": { type: "string" },
    factor: { type: "string" },
    /** Calls that the pool holds before frontends answer 429. */
    queued: { type: "string" },
    seed: { type: "string" },
    out: { type: "string" },
  },
});
const seconds = number("seconds", values.seconds, 60, 5, 3_600);
const warmUpS = number("warm-up", values["warm-up"], 60, 0, 3_600);
const factor = number("factor", values.factor, 3, 1, 10);
const queued = number("queued", values.queued, 100, 1, 100_000);
const seed = number("seed", values.seed, 1, 0, 2 ** 31);

const stop = new AbortController();
// One Ctrl-C can arrive twice, from the terminal and forwarded by a parent.
process.on("SIGINT", () => stop.abort());
const args = [
  "--engine",
  "simulated",
  "--preset",
  "a100-8b",
  "--engines",
  "1",
  "--frontends",
  "1",
  "--log-level",
  "error",
];
say(`starting a stack: ${args.join(" ")}, a batch of ${BATCH_CALLS}, at most ${queued} calls queued`);
const stack = await startStack({
  args,
  env: { AUTELLIX_QUEUED_CALLS_MAX: String(queued), AUTELLIX_BATCH_CALLS_MAX: String(BATCH_CALLS) },
  signal: stop.signal,
  onProgress: showStatus,
});

interface Verdict {
  what: string;
  figure: string;
  ok: boolean;
}

try {
  const url = `${stack.baseUrl}/v1`;
  const capacity = await measureCapacity(url);
  const rate = factor * capacity;
  say(`capacity ${capacity.toFixed(1)} calls/s; offering ${rate.toFixed(1)} calls/s for ${warmUpS} + ${seconds} s`);
  const durationMs = 1_000 * (warmUpS + seconds);
  const programs = generateWorkload({ workload: "single", rate, durationMs, seed }).map((program) => ({
    ...program,
    calls: program.calls.map((call) => ({ ...call, completionTokens: TOKENS, prompt: PROMPT })),
  }));
  const memory = watchMemory(() => stack.processes());
  const run = await runOpenLoop({ name: "overload", url }, programs, {
    seed,
    signal: stop.signal,
    onProgress: (progress) => showStatus(progressText("overload", progress)),
  });
  memory.stop();
  closeLine();
  const during = memory.samples.filter((sample) => sample.atMs <= durationMs);
  const verdicts = [...judgeCalls(run), ...judgeMemory(during)];
  const text = [
    formatTable(
      ["what", "figure", "as wanted"],
      verdicts.map(({ what, figure, ok }) => [what, figure, ok ? "yes" : "NO"]),
    ),
    `capacity ${capacity.toFixed(1)} calls/s, offered ${((1_000 * run.programs.length) / durationMs).toFixed(1)} calls/s for ${warmUpS} + ${seconds} s; memory: median of the first and of the last quarter of the second part`,
  ].join("\n\n");
  const machine = await describeMachine(commandLine("load:overload", process.argv.slice(2)));
  const load = { capacity, rate, seconds, warmUpS, queued, seed, stack: args, batchCalls: BATCH_CALLS };
  const result = { name: "overload", machine, load, verdicts, memory: during };
  const plot = memoryPlot(`${factor}× overload`, during);
  const folder = await writeReport(values.out ?? RESULTS_FOLDER, result, text, { memory: plot });
  console.log(`${text}\n\nwritten to ${folder}`);
  if (verdicts.some((verdict) => !verdict.ok)) process.exitCode = 1;
} finally {
  await stack.stop();
}

/** Calls per second with the batch full and some waiting. */
async function measureCapacity(url: string): Promise<number> {
  showStatus("measuring the capacity");
  const body = { messages: [{ role: "user" as const, content: PROMPT }], max_tokens: TOKENS, stream: true };
  const loop = { url, callers: 2 * BATCH_CALLS, durationMs: CAPACITY_MS, warmUpMs: CAPACITY_WARM_UP_MS, body };
  const { perSecond, errors } = await runClosedLoop({ ...loop, signal: stop.signal });
  if (perSecond === 0) throw new Error(`no call completed: ${JSON.stringify(errors)}`);
  return perSecond;
}

function judgeCalls(run: RunResult): Verdict[] {
  const calls = run.programs.flatMap((program) => program.calls);
  const accepted = calls.filter((call) => call.httpStatus === 200);
  const ended = accepted.filter((call) => call.complete && call.error === undefined);
  const refused = calls.filter((call) => call.httpStatus === 429);
  const polite = refused.filter((call) => (call.retryAfterS ?? 0) > 0);
  const others = calls.filter((call) => call.httpStatus !== 200 && call.httpStatus !== 429);
  const unfinished = run.programs.filter((program) => program.status === "unfinished" || program.status === "skipped");
  return [
    { what: "calls refused with 429", figure: String(refused.length), ok: refused.length > 0 },
    { what: "… of them with Retry-After", figure: String(polite.length), ok: polite.length === refused.length },
    { what: "calls accepted", figure: String(accepted.length), ok: accepted.length > 0 },
    { what: "… of them ended well", figure: String(ended.length), ok: ended.length === accepted.length },
    { what: "calls without an end", figure: String(unfinished.length), ok: unfinished.length === 0 },
    { what: "other answers", figure: others.length === 0 ? "0" : countStatuses(others), ok: others.length === 0 },
  ];
}

function countStatuses(calls: readonly CallResult[]): string {
  const groups = Map.groupBy(calls, (call) => `${call.httpStatus || "no answer"} ${call.error ?? ""}`.trim());
  return [...groups].map(([name, group]) => `${group.length}× ${name}`).join(", ");
}

function judgeMemory(samples: readonly MemorySample[]): Verdict[] {
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
  const trends = memoryTrends(samples, 1_000 * warmUpS).filter((trend) => trend.afterBytes > SHELL_BYTES_MAX);
  const steady = new Set(trends.map((trend) => trend.name));
  const names = new Set(samples.flatMap(({ processes }) => processes.filter(isLarge).map((use) => use.name)));
  const restarted = [...names].filter((name) => !steady.has(name));
  return [
    ...trends.map(({ name, beforeBytes, afterBytes, growth }) => ({
      what: `memory of ${name}`,
      figure: `${mib(beforeBytes)} → ${mib(afterBytes)} MiB (${growth >= 0 ? "+" : ""}${(100 * growth).toFixed(1)} %)`,
      ok: growth <= GROWTH_MAX,
    })),
    ...restarted.map((name) => ({ what: `memory of ${name}`, figure: "not there all the time", ok: false })),
  ];
}

function isLarge({ rssBytes }: ProcessUse): boolean {
  return rssBytes > SHELL_BYTES_MAX;
}
