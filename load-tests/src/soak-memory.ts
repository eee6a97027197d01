/**
 * `npm run soak:memory`: programs whose contexts together are several times what the engine's memory holds, for minutes.
 * Does KV ever exceed its budget? The agent's reports say what it uses; the files of the host tier are weighed here.
 */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type AgentMessage,
  agentMessageSchema,
  ask,
  type Bus,
  type EngineInfo,
  listen,
  openBus,
  type Report,
  subjects,
  viewPageSchema,
} from "@autellix/protocol";
import { closeLine, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { type Endpoint, openEndpoint } from "./http.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { parseFlags, whole } from "./options.ts";
import { createRandom } from "./random.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { firstModel } from "./run.ts";
import { startStack } from "./stack.ts";
import { spread } from "./stats.ts";

const CALL_MS_MAX = 300_000;
const ASK_MS_MAX = 5_000;
const WEIGH_EVERY_MS = 50;
const BATCH = 2;
const RESIDENT = 4;
const CONTEXT_TOKENS = 512;
/** Of the host tier: some contexts of the tiny model, fewer than there are, so that some are recomputed. */
const HOST_BYTES = 5_000_000;
/** So many calls at once want what one that has its whole context would: at the mean they have half of it. */
const CALLS_PER_CONTEXT = 2;
const CALLS_OF_A_PROGRAM = 4;
/** Above `--over` times the contexts: seeds of lines do not meet. */
const LINES_MAX = 1_000;
const MEMORY_FOLDER = "/dev/shm";

const HELP = `npm run soak:memory -- [options]
  --minutes N        (default 10)
  --over N           KV wanted at once, about, as a multiple of what the engine holds (default 4)
  --quantum-ms N     of Q1 (default 50): the shorter, the more contexts are moved
  --seed N           (default 1)
  --model FILE       a GGUF file, or tiny (default tiny)
  --out FOLDER       (default load-tests/results)
`;

interface Load {
  minutes: number;
  over: number;
  quantumMs: number;
  seed: number;
  model: string;
}

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const given = parseFlags(args, {
    ...{ minutes: text, over: text, "quantum-ms": text, seed: text, model: text, out: text },
    help: { type: "boolean", short: "h" },
  });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  const load = {
    minutes: whole("minutes", given.minutes, 10, 1, 1_440),
    over: whole("over", given.over, 4, 1, 64),
    quantumMs: whole("quantum-ms", given["quantum-ms"], 50, 1, 60_000),
    seed: whole("seed", given.seed, 1, 0, 2 ** 31),
    model: given.model ?? "tiny",
  };
  const measured = await measure(load, signal);
  closeLine();
  const { reports, blocksMax, blocksUsedMax, hostBytesMax, hostBytesSeenMax, wanted, swaps } = measured;
  const isWithin = blocksUsedMax <= blocksMax && hostBytesSeenMax <= hostBytesMax;
  const summary = [
    `${(measured.tookMs / 60_000).toFixed(1)} min, ${measured.calls} calls of ${measured.programs} programs, ${measured.failed.length} failed, ${reports} reports`,
    `KV wanted: ${wanted.p50.toFixed(1)} × the engine's at the median, ${wanted.max.toFixed(1)} × at most, by ${load.over * RESIDENT * CALLS_PER_CONTEXT} calls at once`,
    `KV on the engine: ${blocksUsedMax} of ${blocksMax} blocks at most`,
    `host tier, its files weighed: ${hostBytesSeenMax} of ${hostBytesMax} bytes at most`,
    `${swaps.outs} saves and ${swaps.ins} loads, ${swaps.bytes} bytes`,
    isWithin ? "never over budget" : "OVER BUDGET",
  ].join("\n");
  const machine = await describeMachine(commandLine("soak:memory", args));
  const sizes = { batch: BATCH, resident: RESIDENT, contextTokens: CONTEXT_TOKENS };
  const report = { name: "soak-memory", machine, load: { ...load, ...sizes }, ...measured };
  const folder = await writeReport(given.out ?? RESULTS_FOLDER, report, summary, {});
  console.log(`${summary}\n\nwritten to ${folder}`);
  if (!isWithin || measured.failed.length > 0 || reports === 0 || swaps.outs === 0) process.exitCode = 1;
}

/** What the reports say, at its worst. */
class Watch {
  reports = 0;
  blocksUsedMax = 0;
  swaps = { outs: 0, ins: 0, bytes: 0 };
  /** Contexts of all calls that the agent holds, wherever they lie, in units of the engine's memory. */
  readonly wanted: number[] = [];
  readonly #engineTokens: number;

  constructor({ kvBlocks, blockTokens }: EngineInfo) {
    this.#engineTokens = kvBlocks * blockTokens;
  }

  report({ kv, calls, counters }: Report): void {
    if (kv === undefined) return;
    this.reports++;
    this.blocksUsedMax = Math.max(this.blocksUsedMax, kv.running + kv.parked + kv.retained);
    this.wanted.push(calls.reduce((sum, { contextTokens }) => sum + contextTokens, 0) / this.#engineTokens);
    const { swapOuts = 0, swapIns = 0, swapBytes = 0 } = counters;
    this.swaps = { outs: swapOuts, ins: swapIns, bytes: swapBytes };
  }
}

async function measure(load: Load, signal: AbortSignal) {
  const hostDir = await mkdtemp(join(MEMORY_FOLDER, "autellix-soak-")).catch(() =>
    mkdtemp(join(tmpdir(), "autellix-soak-")),
  );
  const hostBytesMax = HOST_BYTES;
  const stack = await startStack({
    args: [
      ...["--engines", "1", "--frontends", "1", "--log-level", "warn", "--model", load.model],
      ...["--host-kv-bytes", String(hostBytesMax)],
    ],
    env: {
      AUTELLIX_BATCH_CALLS_MAX: String(BATCH),
      AUTELLIX_RESIDENT_CALLS_MAX: String(RESIDENT),
      AUTELLIX_CONTEXT_TOKENS_MAX: String(CONTEXT_TOKENS),
      AUTELLIX_HOST_KV_DIR: hostDir,
      AUTELLIX_LADDER: "fixed",
      AUTELLIX_LADDER_FIRST_MS: String(load.quantumMs),
    },
    onProgress: showStatus,
    signal,
  });
  try {
    const endpoint = openEndpoint(`${stack.baseUrl}/v1`);
    const bus = await openBus({ url: stack.natsUrl, name: "soak:memory" });
    const model = await firstModel(endpoint, `${stack.baseUrl}/v1`);
    const info = await engineOf(bus, model);
    const watch = new Watch(info);
    let broken: unknown;
    const stopWatching = await watchReports(bus, watch, (error) => {
      broken ??= error;
    });
    const startedMs = performance.now();
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(), load.minutes * 60_000);
    const ends = AbortSignal.any([signal, over.signal]);
    const weighing = weigh(hostDir, ends);
    const traffic = new Traffic(endpoint, model, load.seed);
    const together = load.over * RESIDENT * CALLS_PER_CONTEXT;
    const lines = Array.from({ length: together }, (_, line) => traffic.run(line, ends));
    const status = setInterval(() => {
      showStatus(
        `${traffic.calls} calls, ${watch.swaps.outs} saves, ${watch.blocksUsedMax} of ${info.kvBlocks} blocks`,
      );
    }, 1_000);
    await Promise.all(lines);
    clearInterval(status);
    clearTimeout(timer);
    over.abort();
    const hostBytesSeenMax = await weighing;
    const tookMs = performance.now() - startedMs;
    stopWatching();
    await bus.nc.close();
    endpoint.close();
    if (broken !== undefined) throw broken;
    signal.throwIfAborted();
    const { reports, blocksUsedMax, swaps } = watch;
    const { calls, programs, failed } = traffic;
    return {
      ...{ tookMs, calls, programs, failed, reports, blocksMax: info.kvBlocks, blocksUsedMax },
      ...{ hostBytesMax, hostBytesSeenMax, wanted: spread(watch.wanted), swaps },
    };
  } finally {
    await stack.stop();
    await rm(hostDir, { recursive: true, force: true });
  }
}

async function engineOf(bus: Bus, pool: string): Promise<EngineInfo> {
  const page = await ask(bus, subjects.view(pool), { op: "page", what: "engines" }, viewPageSchema, ASK_MS_MAX);
  const info = page?.engines?.[0]?.info;
  if (info === undefined) throw new Error("the pool shows no engine");
  return info;
}

/** @returns ends it. */
async function watchReports(bus: Bus, watch: Watch, onError: (error: unknown) => void): Promise<() => void> {
  const onMessage = (message: AgentMessage) => {
    if (message.kind === "report") watch.report(message);
  };
  const heard = listen(bus, subjects.report("*"), agentMessageSchema, onMessage, onError);
  await bus.nc.flush();
  return () => heard.unsubscribe();
}

/** @returns the most bytes that the folder held at once. */
async function weigh(folder: string, signal: AbortSignal): Promise<number> {
  let bytesMax = 0;
  while (!signal.aborted) {
    let bytes = 0;
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      // A context may be dropped between the two looks.
      bytes += await stat(join(entry.parentPath, entry.name)).then(({ size }) => size, ifGone);
    }
    bytesMax = Math.max(bytesMax, bytes);
    await sleep(WEIGH_EVERY_MS, undefined, { signal }).catch(() => {});
  }
  return bytesMax;
}

function ifGone(error: NodeJS.ErrnoException): number {
  if (error.code !== "ENOENT") throw error;
  return 0;
}

/** Programs one after another on each line, so that so many calls are always under way. */
class Traffic {
  calls = 0;
  programs = 0;
  readonly failed: string[] = [];
  readonly #endpoint: Endpoint;
  readonly #model: string;
  readonly #seed: number;

  constructor(endpoint: Endpoint, model: string, seed: number) {
    this.#endpoint = endpoint;
    this.#model = model;
    this.#seed = seed;
  }

  async run(line: number, signal: AbortSignal): Promise<void> {
    const random = createRandom(this.#seed * LINES_MAX + line);
    while (!signal.aborted) {
      const program = `soak-${line}-${this.programs++}`;
      let history = "";
      for (let i = 0; i < CALLS_OF_A_PROGRAM && !signal.aborted; i++) {
        history += "word ".repeat(random.int(18, 30));
        const body = {
          model: this.#model,
          messages: [{ role: "user" as const, content: history }],
          max_tokens: random.int(20, 100),
          stream: true,
        };
        const answer = await this.#endpoint.send(body, { "Autellix-Program-Id": program }, CALL_MS_MAX);
        this.calls++;
        if (answer.complete && answer.error === undefined) continue;
        this.failed.push(answer.error ?? `status ${answer.httpStatus}`);
      }
    }
  }
}

await runInterruptible(main, "npm run soak:memory");
