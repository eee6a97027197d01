/** Process of one worker agent: configuration, engine, connection. */
import { answerFacts, NAME_PATTERN, openBus } from "@autellix/protocol";
import {
  addSpanMetrics,
  commonConfig,
  envInt,
  envText,
  openSpans,
  runService,
  STOP_MS_MAX,
  spansConfig,
  spansSetup,
} from "@autellix/runtime";
import { z } from "zod";
import { startAgent, waitForStreams } from "./agent.ts";
import { agentFacts } from "./facts.ts";
import { defaultLimits } from "./limits.ts";
import { engineConfig, missingOf, openEngine } from "./open-engine.ts";

/** A person who ends the whole system does not wait longer for answers. */
const SUPERVISED_DRAIN_MS_MAX = 5_000;
/** What a stop takes at most beside the drain: results are stored, connections end. */
const AFTER_DRAIN_MS_MAX = STOP_MS_MAX - SUPERVISED_DRAIN_MS_MAX;

const envName = () => envText().regex(NAME_PATTERN, "may only have A-Z a-z 0-9 _ - and 64 characters");

const config = z
  .object({
    ...commonConfig,
    ...spansConfig,
    ...engineConfig,
    /** The engines under one scheduler leader. */
    AUTELLIX_POOL: envName(),
    /** Unique in the whole system; the same after a restart. */
    AUTELLIX_ENGINE_ID: envName(),
    /** Results whose record is not stored yet; above it no new call is started. */
    AUTELLIX_UNSENT_OUTCOMES_MAX: envInt({ min: 1, max: 10_000 }).default(defaultLimits.unsentOutcomesMax),
    /** After SIGTERM running calls may go on so long, in ms. Under a supervisor `SUPERVISED_DRAIN_MS_MAX` at most. */
    AUTELLIX_DRAIN_MS_MAX: envInt({ min: 0, max: 3_600_000 }).default(defaultLimits.drainMsMax),
    /** Contexts of ended calls that are kept for their programs' next ones. */
    AUTELLIX_RETAINED_MAX: envInt({ min: 0, max: 65_536 }).default(defaultLimits.retainedMax),
    /** An engine whose step takes longer hangs, and the process ends, to be started again. */
    AUTELLIX_STEP_WATCHDOG_MS: envInt({ min: 1_000, max: 3_600_000 }).default(defaultLimits.stepWatchdogMs),
    /** `http`: an agent whose server is down for longer leaves its pool until it is back. */
    AUTELLIX_ENGINE_DOWN_MS_MAX: envInt({ min: 100, max: 3_600_000 }).default(defaultLimits.engineDownMsMax),
  })
  .superRefine((values, context) => {
    const missing = missingOf(values);
    if (missing) context.addIssue({ code: "custom", path: [missing.path], message: missing.message });
  });

await runService({
  name: "worker-agent",
  env: process.env,
  config,
  async start(config, { log: processLog, metrics, progress, fail, isSupervised, signal }) {
    const { AUTELLIX_POOL: pool, AUTELLIX_ENGINE_ID: engineId } = config;
    const drainMsMax = Math.min(
      config.AUTELLIX_DRAIN_MS_MAX,
      isSupervised ? SUPERVISED_DRAIN_MS_MAX : Number.POSITIVE_INFINITY,
    );
    const log = processLog.child({ pool, engine: engineId });
    progress("opening the engine");
    const engine = await openEngine(config, { env: process.env, log, progress, signal });
    progress("connecting to NATS");
    const bus = await openBus({
      url: config.AUTELLIX_NATS_URL,
      name: `worker-agent ${config.AUTELLIX_ENGINE_ID}`,
      onStatus: (reason) => log.warn({ reason }, "the connection to NATS"),
    });
    progress("waiting for the scheduler's streams");
    await waitForStreams(bus, signal);
    const noFacts = (error: unknown) => log.warn({ err: error }, "a question for facts stays without answer");
    answerFacts(bus, () => agentFacts(config, pool, engineId, engine), noFacts);
    const tracing = spansSetup(config);
    const instance = config.AUTELLIX_INSTANCE ?? engineId;
    const spans = tracing && (await openSpans(tracing, { service: "worker-agent", instance, log }));
    if (metrics && spans) addSpanMetrics(metrics, spans);
    const agent = startAgent({
      bus,
      engine,
      pool,
      engineId,
      limits: {
        unsentOutcomesMax: config.AUTELLIX_UNSENT_OUTCOMES_MAX,
        drainMsMax,
        retainedMax: config.AUTELLIX_RETAINED_MAX,
        stepWatchdogMs: config.AUTELLIX_STEP_WATCHDOG_MS,
        engineDownMsMax: config.AUTELLIX_ENGINE_DOWN_MS_MAX,
      },
      metrics,
      spans,
      log,
      fail,
    });
    return {
      unreadyReason: () => agent.unreadyReason(),
      stopMsMax: drainMsMax + AFTER_DRAIN_MS_MAX,
      async stop() {
        await agent.stop();
        await spans?.stop();
        await bus.nc.drain();
        await engine.shutdown();
      },
    };
  },
});
