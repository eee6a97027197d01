/**
 * `npm run bench:frontends`: calls per second and CPU per call with 1, 2 and 4 frontends behind a real HAProxy, and one
 * without it, on an engine that takes no time. Everything shares the machine's cores, so more frontends cannot bring
 * more calls than it has cores for: what a frontend itself costs per call says how many a larger system needs.
 */
import { parseArgs } from "node:util";
import { runClosedLoop } from "./closed-loop.ts";
import { closeLine, say, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { startProxy, type TestProxy } from "./frontends/proxy.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { number, UsageError } from "./options.ts";
import { ownUse, type ProcessUse, useBetween } from "./processes.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { type Stack, startStack } from "./stack.ts";
import { median, type Spread, spread } from "./stats.ts";
import { formatTable } from "./table.ts";

const FRONTENDS = [1, 2, 4];
const WARM_UP_MS = 2_000;
const HAPROXY = process.env.HAPROXY_BIN || "haproxy";
const PROMPT = "What is the capital of France?";
const HELP = `npm run bench:frontends -- [--rounds N] [--step-seconds N] [--callers N] [--tokens N] [--out FOLDER]

  --rounds N        how often each number of frontends is measured, interleaved; medians are shown (default: 3)
  --step-seconds N  of each measurement (default: 5)
  --callers N       calls at once (default: 64)
  --tokens N        of each answer (default: 16)
  --out FOLDER      where the results go (default: load-tests/results)
`;

/** Processes by what they do; a name is matched by its beginning. */
const PARTS = ["frontend", "haproxy", "scheduler", "worker-agent", "nats-server", "load generator"] as const;
type Part = (typeof PARTS)[number];

interface Load {
  stepMs: number;
  callers: number;
  tokens: number;
}

interface Measurement {
  /** `1 frontend, no proxy`, … */
  setup: string;
  frontends: number;
  stream: boolean;
  perSecond: number;
  calls: number;
  callMs: Spread;
  /** CPU µs per call. */
  cpuUs: Record<Part, number>;
  errors: Record<string, number>;
}

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const values = parse(args);
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const rounds = number("rounds", values.rounds, 3, 1, 100);
  const load: Load = {
    stepMs: 1_000 * number("step-seconds", values["step-seconds"], 5, 1, 120),
    callers: number("callers", values.callers, 64, 1, 1_000),
    tokens: number("tokens", values.tokens, 16, 1, 10_000),
  };
  const measurements: Measurement[] = [];
  let version = "";
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    // Forth and back: what warms up or tires over time does so for all.
    const order = round % 2 === 0 ? FRONTENDS : FRONTENDS.toReversed();
    for (const frontends of order) {
      if (signal.aborted) break;
      say(`round ${round + 1} of ${rounds}: ${frontends} frontends`);
      const found = await measureStack(frontends, load, signal);
      measurements.push(...found.measurements);
      version = found.version;
    }
  }
  closeLine();
  const text = `${table(measurements)}\n\nHAProxy ${version}, ${load.callers} callers, ${load.tokens} tokens per answer, ${rounds} rounds, medians; CPU in µs per call`;
  const machine = await describeMachine(commandLine("bench:frontends", process.argv.slice(2)));
  const result = { name: "bench-frontends", machine, load: { ...load, rounds, haproxy: version }, measurements };
  const folder = await writeReport(values.out ?? RESULTS_FOLDER, result, text, {});
  console.log(`${text}\n\nwritten to ${folder}`);
  // A slow machine is no error; a call that fails is one.
  if (measurements.some(({ errors }) => Object.keys(errors).length > 0)) process.exitCode = 1;
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const options = { rounds: text, "step-seconds": text, callers: text, tokens: text, out: text };
  try {
    return parseArgs({ args: [...args], options: { ...options, help: { type: "boolean" } } }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

async function measureStack(frontends: number, load: Load, signal: AbortSignal) {
  const args = ["--engine", "simulated", "--preset", "zero", "--engines", "1", "--log-level", "warn"];
  const stack = await startStack({ args: [...args, "--frontends", String(frontends)], onProgress: showStatus, signal });
  try {
    const first = Number(new URL(stack.baseUrl).port);
    const proxy = await startProxy(
      HAPROXY,
      Array.from({ length: frontends }, (_, index) => first + index),
    );
    try {
      const measurements: Measurement[] = [];
      for (const stream of [false, true]) {
        const name = `${frontends} frontend${frontends > 1 ? "s" : ""}`;
        // What the proxy itself costs is seen with one.
        if (frontends === 1)
          measurements.push(await measure(`${name}, no proxy`, stack, undefined, { frontends, stream, load, signal }));
        measurements.push(await measure(name, stack, proxy, { frontends, stream, load, signal }));
      }
      return { measurements, version: proxy.version };
    } finally {
      await proxy.stop();
    }
  } finally {
    await stack.stop();
  }
}

async function measure(
  setup: string,
  stack: Stack,
  proxy: TestProxy | undefined,
  { frontends, stream, load, signal }: { frontends: number; stream: boolean; load: Load; signal: AbortSignal },
): Promise<Measurement> {
  showStatus(`${setup}, ${stream ? "streamed" : "whole"}`);
  const use = () => [...stack.processes(), ...(proxy?.processes() ?? []), ownUse()];
  const url = `${proxy?.url ?? stack.baseUrl}/v1`;
  const body = { messages: [{ role: "user" as const, content: PROMPT }], max_tokens: load.tokens, stream };
  const loop = (durationMs: number) => runClosedLoop({ url, callers: load.callers, durationMs, body, signal });
  // Before the first reading, so that all CPU time that is read belongs to calls that are counted.
  await loop(WARM_UP_MS);
  const before = use();
  const { completed, perSecond, callMs, errors } = await loop(load.stepMs);
  const cpuUs = partsOf(useBetween(before, use()), completed);
  return { setup, frontends, stream, perSecond, calls: completed, callMs: spread(callMs), cpuUs, errors };
}

function partsOf(use: readonly ProcessUse[], calls: number): Record<Part, number> {
  const sum = (part: Part) =>
    use.filter(({ name }) => name.startsWith(part)).reduce((total, { cpuMs }) => total + cpuMs, 0);
  return Object.fromEntries(PARTS.map((part) => [part, (1_000 * sum(part)) / calls])) as Record<Part, number>;
}

function table(measurements: readonly Measurement[]): string {
  const groups = Map.groupBy(measurements, ({ setup, stream }) => `${setup}, ${stream ? "streamed" : "whole"}`);
  const rows = [...groups].map(([name, group]) => {
    const of = (read: (measurement: Measurement) => number) => median(group.map(read));
    const frontendUs = of(({ cpuUs }) => cpuUs.frontend);
    return [
      name,
      of(({ perSecond }) => perSecond),
      of(({ callMs }) => callMs.p50),
      of(({ callMs }) => callMs.p99),
      ...PARTS.map((part) => Math.round(of(({ cpuUs }) => cpuUs[part]))),
      Math.round(1_000_000 / frontendUs),
    ];
  });
  const heads = ["", "calls/s", "p50 ms", "p99 ms", ...PARTS, "calls/s of one frontend's core"];
  return formatTable(heads, rows);
}

await runInterruptible(main, "npm run bench:frontends");
