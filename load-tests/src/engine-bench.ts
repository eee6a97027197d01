/**
 * `npm run bench:engine`: decode throughput through the whole of Autellix against the engine driven directly, the
 * engine on a core of its own in both arms; and what a kept context is worth.
 */
import type { EngineInfo } from "@autellix/protocol";
import { closeLine, say, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { AgentArm } from "./engine-bench/agent-arm.ts";
import type { ContextResult } from "./engine-bench/contexts.ts";
import type { DecodeLoad } from "./engine-bench/load.ts";
import { modelFileOf } from "./engine-bench/model.ts";
import { llamaOptions } from "./engine-bench/open-engine.ts";
import { type EngineBenchOptions, HELP, parseEngineBenchOptions } from "./engine-bench/options.ts";
import { type Measured, measurePairs, summarisePairs } from "./engine-bench/pairs.ts";
import { type Cores, coresToPin, pin } from "./engine-bench/pin.ts";
import { type PinnedChild, startPinned } from "./engine-bench/pinned-child.ts";
import { type BatchResult, contextsReached, contextsText, throughputText } from "./engine-bench/report.ts";
import { Straight } from "./engine-bench/straight.ts";
import { NoWindow } from "./engine-bench/window.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";

const CONTEXT_MARGIN_TOKENS = 128;
/**
 * Of each arm, before its first pair: the first touches memory that was never touched, and V8 compiles what runs once
 * per token only after hundreds of tokens. An agent runs for days.
 */
const WARM_ROUNDS = 5;
/** With other prompts, when an answer ended before the batch was together. */
const ATTEMPTS_MAX = 5;

interface Findings {
  against: string;
  batches: BatchResult[];
  contexts: ContextResult | undefined;
}

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const options = parseEngineBenchOptions(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return;
  }
  const cores = await coresToPin();
  if (cores === undefined) say("nothing is pinned: that needs two cores and taskset");
  else await pin(process.pid, cores.others);
  const findings =
    options.url === undefined ? await llama(options, cores, signal) : await http(options.url, options, cores, signal);
  closeLine();
  const { against, batches, contexts } = findings;
  const text = [
    throughputText(against, batches, options.ratioWanted),
    ...(contexts === undefined ? [] : [contextsText(contexts)]),
  ].join("\n\n");
  const machine = await describeMachine(commandLine("bench:engine", args));
  const { seed, promptTokens, tokens, pairs } = options;
  const load = { seed, promptTokens, tokens, pairs, pinned: cores !== undefined };
  const report = { name: "bench-engine", machine, load, ...findings };
  const folder = await writeReport(options.out ?? RESULTS_FOLDER, report, text, {});
  console.log(`${text}\n\nwritten to ${folder}`);
  const reached = batches.every(({ share }) => share >= options.ratioWanted);
  if (!reached || (contexts !== undefined && !contextsReached(contexts))) process.exitCode = 1;
}

/** node-llama-cpp by itself, and the agent's llama engine. */
async function llama(options: EngineBenchOptions, cores: Cores | undefined, signal: AbortSignal): Promise<Findings> {
  const modelFile = await modelFileOf(options.modelFile, process.env, signal);
  const child = startPinned(cores?.engine);
  let agent: AgentArm | undefined;
  let traffic: AgentArm | undefined;
  try {
    const batchMax = Math.max(...options.batches);
    const contextTokens = Math.max(2_048, options.promptTokens + options.tokens + CONTEXT_MARGIN_TOKENS);
    const { gpu } = options;
    await child.ask({ kind: "openDirect", options: { modelFile, gpu, sequences: 2 * batchMax, contextTokens } });
    agent = await AgentArm.start({
      args: ["--model", modelFile, "--engines", "1", ...ONE_FRONTEND],
      env: {
        AUTELLIX_BATCH_CALLS_MAX: String(batchMax),
        AUTELLIX_RESIDENT_CALLS_MAX: String(2 * batchMax),
        AUTELLIX_CONTEXT_TOKENS_MAX: String(contextTokens),
        AUTELLIX_GPU: gpu === "auto" ? "auto" : "false",
      },
      cores,
      onProgress: showStatus,
      signal,
    });
    traffic = await startTraffic(cores, batchMax, signal);
    const through = agent;
    const around = traffic;
    const direct = async (load: DecodeLoad) => (await child.ask({ kind: "decode", load })) as Measured;
    const batches = await eachBatch(options, signal, {
      direct,
      beside: around && ((load) => around.during(load, () => direct(load))),
      agent: (load) => through.decode(load),
    });
    await Promise.all([agent.stop(), traffic?.stop()]);
    agent = traffic = undefined;
    return { against: "node-llama-cpp", batches, contexts: await contextsOf(child, modelFile, options) };
  } finally {
    await Promise.all([agent?.stop(), traffic?.stop()]);
    await child.stop();
  }
}

/**
 * What stands around an agent's engine, without the engine: the same calls through another Autellix, whose engine only
 * waits as long as a step would take. A core computes more slowly while its neighbours work.
 */
async function startTraffic(cores: Cores | undefined, batchMax: number, signal: AbortSignal) {
  if (cores === undefined) return undefined;
  return await AgentArm.start({
    args: ["--engine", "simulated", "--preset", "smollm2-cpu", "--engines", "1", ...ONE_FRONTEND],
    env: { AUTELLIX_BATCH_CALLS_MAX: String(batchMax) },
    cores: { engine: cores.others, others: cores.others },
    onProgress: showStatus,
    signal,
  });
}

const ONE_FRONTEND = ["--frontends", "1", "--log-level", "warn"];

async function contextsOf(
  child: PinnedChild,
  modelFile: string,
  { gpu, contextTokens, repeats, seed }: EngineBenchOptions,
): Promise<ContextResult | undefined> {
  if (contextTokens === 0) return undefined;
  showStatus(`contexts of ${contextTokens} tokens`);
  const contextTokensMax = contextTokens + CONTEXT_MARGIN_TOKENS;
  const engine = llamaOptions({ modelFile, gpu, batchCallsMax: 1, residentCallsMax: 2, contextTokensMax });
  const info = (await child.ask({ kind: "openEngine", options: engine })) as EngineInfo;
  if (info.contextTokensMax < contextTokensMax)
    say(`the model holds ${info.contextTokensMax} tokens: contexts are shorter`);
  const fitting = Math.min(contextTokens, info.contextTokensMax - CONTEXT_MARGIN_TOKENS);
  return (await child.ask({
    kind: "contexts",
    options: { contextTokens: fitting, repeats, seed },
  })) as ContextResult;
}

/** A server that runs, straight and through the agent's HTTP engine. Whoever started it has pinned it. */
async function http(
  url: string,
  options: EngineBenchOptions,
  cores: Cores | undefined,
  signal: AbortSignal,
): Promise<Findings> {
  const straight = await Straight.open(`${url}/v1`);
  let agent: AgentArm | undefined;
  try {
    agent = await AgentArm.start({
      args: ["--engine", "http", "--url", url, ...options.serverArgs, ...ONE_FRONTEND],
      env: {},
      // The agent only forwards: it is one of those around the engine.
      cores: cores === undefined ? undefined : { engine: cores.others, others: cores.others },
      onProgress: showStatus,
      signal,
    });
    const through = agent;
    const batches = await eachBatch(options, signal, {
      direct: async (load) => ({ tokensPerS: await straight.tokensPerS(load) }),
      agent: async (load) => ({ tokensPerS: await through.tokensPerS(load) }),
    });
    return { against: "straight", batches, contexts: undefined };
  } finally {
    straight.close();
    await agent?.stop();
  }
}

type Arm = (load: DecodeLoad) => Promise<Measured>;

async function eachBatch(
  options: EngineBenchOptions,
  signal: AbortSignal,
  arms: { direct: Arm; beside?: Arm | undefined; agent: Arm },
): Promise<BatchResult[]> {
  const { promptTokens, tokens, seed, pairs, batches } = options;
  const results: BatchResult[] = [];
  for (const batch of batches) {
    const measure = (arm: string, run: Arm) => async (round: number) => {
      signal.throwIfAborted();
      const pair = round < pairs ? `pair ${round + 1} of ${pairs}` : "warming up";
      showStatus(`${batch} calls at once, ${pair}, ${arm}`);
      for (let attempt = 0; ; attempt++) {
        try {
          return await run({ batch, promptTokens, tokens, seed: seed + round * ATTEMPTS_MAX + attempt });
        } catch (error) {
          if (!(error instanceof Error) || error.name !== NoWindow.name || attempt + 1 >= ATTEMPTS_MAX) throw error;
        }
      }
    };
    const direct = measure("direct", arms.direct);
    const agent = measure("agent", arms.agent);
    for (let round = pairs; round < pairs + WARM_ROUNDS; round++) {
      await direct(round);
      await agent(round);
    }
    const beside = arms.beside && measure("direct beside traffic", arms.beside);
    const measured = await measurePairs(pairs, { direct, beside, agent });
    results.push({ batch, ...summarisePairs(measured) });
  }
  return results;
}

await runInterruptible(main, "npm run bench:engine");
