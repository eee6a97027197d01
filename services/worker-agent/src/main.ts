/** Process of one worker agent: configuration, engine, connection. */
import { type Engine, openSimulatedEngine, type PresetName, presets } from "@autellix/engines";
import { NAME_PATTERN, openBus } from "@autellix/protocol";
import { commonConfig, envChoice, envInt, envList, envText, type Logger, runService } from "@autellix/runtime";
import { z } from "zod";
import { startAgent, waitForStreams } from "./agent.ts";
import { defaultLimits } from "./limits.ts";

const envName = () => envText().regex(NAME_PATTERN, "may only have A-Z a-z 0-9 _ - and 64 characters");
const PRESETS = Object.keys(presets) as [PresetName, ...PresetName[]];

const config = z.object({
  ...commonConfig,
  /** The engines under one scheduler leader. */
  AUTELLIX_POOL: envName(),
  /** Unique in the whole system; the same after a restart. */
  AUTELLIX_ENGINE_ID: envName(),
  AUTELLIX_ENGINE: envChoice(["llama", "simulated"]).default("llama"),
  /** A GGUF file; for `llama` only, which needs it. */
  AUTELLIX_MODEL_FILE: envText().optional(),
  /** Names under which the model is offered, comma-separated; the first is its own. */
  AUTELLIX_MODEL_NAMES: envList(),
  /** Cost model of the simulated engine. */
  AUTELLIX_ENGINE_PRESET: envChoice(PRESETS).default("a100-8b"),
  /** `auto` needs the binaries of node-llama-cpp for the GPU. */
  AUTELLIX_GPU: envChoice(["false", "auto"]).default("false"),
  /** Sequences that one step may advance. Default: the engine's own, as for the next two. */
  AUTELLIX_BATCH_CALLS_MAX: envInt({ min: 1, max: 4_096 }).optional(),
  /** Contexts on the engine at once, running or parked: what its memory holds. */
  AUTELLIX_RESIDENT_CALLS_MAX: envInt({ min: 1, max: 65_536 }).optional(),
  /** Prompt and answer of one call, in tokens. */
  AUTELLIX_CONTEXT_TOKENS_MAX: envInt({ min: 16, max: 10_000_000 }).optional(),
  /** Results whose record is not stored yet; above it no new call is started. */
  AUTELLIX_UNSENT_OUTCOMES_MAX: envInt({ min: 1, max: 10_000 }).default(defaultLimits.unsentOutcomesMax),
  /** After SIGTERM running calls may go on so long, in ms. */
  AUTELLIX_DRAIN_MS_MAX: envInt({ min: 0, max: 5_000 }).default(defaultLimits.drainMsMax),
});
type Config = z.infer<typeof config>;

async function openEngine(config: Config, log: Logger): Promise<Engine> {
  const options = {
    models: config.AUTELLIX_MODEL_NAMES,
    ...(config.AUTELLIX_BATCH_CALLS_MAX === undefined ? {} : { batchCallsMax: config.AUTELLIX_BATCH_CALLS_MAX }),
    ...(config.AUTELLIX_RESIDENT_CALLS_MAX === undefined
      ? {}
      : { residentCallsMax: config.AUTELLIX_RESIDENT_CALLS_MAX }),
    ...(config.AUTELLIX_CONTEXT_TOKENS_MAX === undefined
      ? {}
      : { contextTokensMax: config.AUTELLIX_CONTEXT_TOKENS_MAX }),
  };
  if (config.AUTELLIX_ENGINE === "simulated") {
    return openSimulatedEngine({ ...options, preset: config.AUTELLIX_ENGINE_PRESET });
  }
  // Native code: loaded only where it is used.
  const { openLlamaEngine } = await import("@autellix/engines/llama");
  return await openLlamaEngine({
    ...options,
    modelFile: config.AUTELLIX_MODEL_FILE ?? "",
    gpu: config.AUTELLIX_GPU === "auto" ? "auto" : false,
    log: (level, message) => log.debug({ llama: level }, message),
  });
}

await runService({
  name: "worker-agent",
  env: process.env,
  config: config.refine((c) => c.AUTELLIX_ENGINE !== "llama" || c.AUTELLIX_MODEL_FILE !== undefined, {
    path: ["AUTELLIX_MODEL_FILE"],
    message: "must name a GGUF file",
  }),
  async start(config, { log, progress, fail, signal }) {
    progress("loading the model");
    const engine = await openEngine(config, log);
    progress("connecting to NATS");
    const bus = await openBus({
      url: config.AUTELLIX_NATS_URL,
      name: `worker-agent ${config.AUTELLIX_ENGINE_ID}`,
      onStatus: (text) => log.warn(text),
    });
    progress("waiting for the scheduler's streams");
    await waitForStreams(bus, signal);
    const { AUTELLIX_POOL: pool, AUTELLIX_ENGINE_ID: engineId } = config;
    const agent = startAgent({
      bus,
      engine,
      pool,
      engineId,
      limits: { unsentOutcomesMax: config.AUTELLIX_UNSENT_OUTCOMES_MAX, drainMsMax: config.AUTELLIX_DRAIN_MS_MAX },
      log: log.child({ pool, engine: engineId }),
      fail,
    });
    return {
      async stop() {
        await agent.stop();
        await bus.nc.drain();
        await engine.shutdown();
      },
    };
  },
});
