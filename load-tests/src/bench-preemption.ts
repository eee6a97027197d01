/**
 * `npm run bench:preemption`: how promptly a call leaves the batch when its quantum is used up, and how long the engine
 * stands idle for plans. One llama.cpp engine, more short calls than its batch holds, so that in Q1 somebody always
 * waits for the slot of a call that has left it.
 */
import { agentMessageSchema, listen, openBus, subjects } from "@autellix/protocol";
import { closeLine, say, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { openEndpoint } from "./http.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { parseFlags, whole } from "./options.ts";
import { Quanta } from "./preemption/quanta.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { firstModel } from "./run.ts";
import { startStack } from "./stack.ts";
import { spread } from "./stats.ts";

const CALL_MS_MAX = 600_000;
const BATCH = 2;
/** Of the engine that `npm start` takes. */
const WINDOW_STEPS = 8;
const IDLE_SHARE_WANTED = 0.01;

const HELP = `npm run bench:preemption -- [options]
  --calls N         one-call programs, all at once (default 40)
  --tokens N        of each answer (default 60)
  --quantum-ms N    of Q1 (default 300)
  --model FILE      a GGUF file, or tiny (default: the model of npm start)
  --out FOLDER      (default load-tests/results)
`;

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", short: "h" } as const;
  const given = parseFlags(args, { calls: text, tokens: text, "quantum-ms": text, model: text, out: text, help: flag });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  const calls = whole("calls", given.calls, 40, 3, 1_000);
  const tokens = whole("tokens", given.tokens, 60, 1, 1_000);
  const quantumMs = whole("quantum-ms", given["quantum-ms"], 300, 1, 60_000);
  const measured = await measure({ calls, tokens, quantumMs, model: given.model }, signal);
  closeLine();
  const { late, idleShare } = measured;
  const summary = [
    `${late.count} calls left the batch after their quantum: ${late.p50.toFixed(0)} steps later at the median, ${late.p99.toFixed(1)} at p99, ${late.max} at most (wanted: p99 ≤ ${WINDOW_STEPS + 1})`,
    `engine idle for a plan: ${(100 * idleShare).toFixed(2)} % of the time (wanted: ≤ ${100 * IDLE_SHARE_WANTED} %)`,
  ].join("\n");
  const machine = await describeMachine(commandLine("bench:preemption", args));
  const load = { calls, tokens, quantumMs, batch: BATCH, windowSteps: WINDOW_STEPS };
  const report = { name: "bench-preemption", machine, load, ...measured };
  const folder = await writeReport(given.out ?? RESULTS_FOLDER, report, summary, {});
  console.log(`${summary}\n\nwritten to ${folder}`);
  // "Not (p99 ≤ …)": without any call that left, p99 is no number.
  if (!(late.p99 <= WINDOW_STEPS + 1) || idleShare > IDLE_SHARE_WANTED) process.exitCode = 1;
}

interface Load {
  calls: number;
  tokens: number;
  quantumMs: number;
  model: string | undefined;
}

async function measure({ calls, tokens, quantumMs, model }: Load, signal: AbortSignal) {
  const stack = await startStack({
    args: ["--engines", "1", "--frontends", "1", "--log-level", "warn", ...(model ? ["--model", model] : [])],
    env: {
      AUTELLIX_BATCH_CALLS_MAX: String(BATCH),
      AUTELLIX_WINDOW_STEPS: String(WINDOW_STEPS),
      AUTELLIX_LADDER: "fixed",
      AUTELLIX_LADDER_FIRST_MS: String(quantumMs),
      AUTELLIX_BETA: "off",
    },
    onProgress: showStatus,
    signal,
  });
  try {
    const url = `${stack.baseUrl}/v1`;
    const endpoint = openEndpoint(url);
    const bus = await openBus({ url: stack.natsUrl, name: "bench:preemption" });
    const quanta = new Quanta(quantumMs);
    let planIdleMs = 0;
    let broken: unknown;
    const onReport = (message: unknown) => {
      const report = agentMessageSchema.parse(message);
      if (report.kind !== "report") return;
      // Calls that no report has named wait in Q1, in front of all that have left it.
      quanta.report(report, calls - quanta.seenCalls > 2 * BATCH);
      planIdleMs = report.counters.planIdleMs ?? 0;
      showStatus(`${quanta.seenCalls} of ${calls} calls begun, ${quanta.left.length} preempted`);
    };
    listen(bus, subjects.report("*"), agentMessageSchema, onReport, (error) => {
      broken = error;
    });
    await bus.nc.flush();
    const name = await firstModel(endpoint, url);
    say(`${calls} calls on ${name}, quantum ${quantumMs} ms, batch ${BATCH}`);
    const startedMs = performance.now();
    const answers = await Promise.all(
      Array.from({ length: calls }, (_, index) => {
        const content = `Count from ${index} on, and say something about each number.`;
        const messages = [{ role: "user" as const, content }];
        return endpoint.send({ model: name, messages, max_tokens: tokens, stream: true }, {}, CALL_MS_MAX);
      }),
    );
    const tookMs = performance.now() - startedMs;
    await bus.nc.close();
    endpoint.close();
    if (broken !== undefined) throw broken;
    const failed = answers.find(({ complete, error }) => !complete || error !== undefined);
    if (failed !== undefined) throw new Error(`a call ended with ${failed.error ?? "half an answer"}`);
    const late = spread(quanta.left.map(({ stepsLate }) => stepsLate));
    return { late, planIdleMs, tookMs, idleShare: planIdleMs / tookMs, left: quanta.left };
  } finally {
    await stack.stop();
  }
}

await runInterruptible(main, "npm run bench:preemption");
