/** Starts one scheduler of one pool: it leads, or stands by. */
import { randomUUID } from "node:crypto";
import { doublingLadder } from "@autellix/core";
import { answerFacts, isConnected, openBus } from "@autellix/protocol";
import { addSpanMetrics, openSpans, runService, spansSetup } from "@autellix/runtime";
import { SchedulerService } from "./adapter.ts";
import {
  CANCEL_MEMORY_MAX,
  CANCEL_MEMORY_MS,
  LEASE_MARGIN_MS,
  OUTCOMES_DISPATCH_SHARE_MAX,
  PLAN_RESEND_MS,
  type SchedulerConfig,
  schedulerConfig,
} from "./config.ts";
import type { MachineConfig } from "./events.ts";

function machineConfig(config: SchedulerConfig, leader: string): MachineConfig {
  return {
    pool: config.AUTELLIX_POOL,
    leader,
    policy: config.AUTELLIX_POLICY,
    ladder: ladderOf(config),
    balancer: config.AUTELLIX_BALANCER,
    binding: config.AUTELLIX_BINDING,
    misfit: config.AUTELLIX_MISFIT,
    ...(config.AUTELLIX_BETA === undefined ? {} : { beta: config.AUTELLIX_BETA }),
    ...(config.AUTELLIX_PROMOTED_SHARE === undefined ? {} : { promotedShare: config.AUTELLIX_PROMOTED_SHARE }),
    windowSteps: config.AUTELLIX_WINDOW_STEPS,
    reserveCallsMax: config.AUTELLIX_RESERVE_CALLS_MAX,
    attemptsCrashedMax: config.AUTELLIX_ATTEMPTS_CRASHED_MAX,
    programIdleMaxMs: config.AUTELLIX_PROGRAM_IDLE_MAX_MS,
    queuedCallsMax: config.AUTELLIX_QUEUED_CALLS_MAX,
    callLifetimeMaxMs: config.AUTELLIX_CALL_LIFETIME_MAX_MS,
    cancelMemoryMs: CANCEL_MEMORY_MS,
    cancelMemoryMax: CANCEL_MEMORY_MAX,
    planResendMs: PLAN_RESEND_MS,
    agentSuspectMs: config.AUTELLIX_AGENT_SUSPECT_MS,
    agentLostMs: config.AUTELLIX_AGENT_LOST_MS,
    outcomesShareMax: OUTCOMES_DISPATCH_SHARE_MAX,
  };
}

function ladderOf(config: SchedulerConfig): MachineConfig["ladder"] {
  const first = config.AUTELLIX_LADDER_FIRST_MS;
  const levels = config.AUTELLIX_LADDER_LEVELS;
  const factor = config.AUTELLIX_LADDER_FACTOR;
  return config.AUTELLIX_LADDER === "fixed" ? doublingLadder(first, levels, factor) : { first, levels, factor };
}

await runService({
  name: "scheduler",
  env: process.env,
  config: schedulerConfig,
  async start(config, { log: processLog, metrics, fail }) {
    const leader = randomUUID();
    const log = processLog.child({ pool: config.AUTELLIX_POOL });
    const onStatus = (reason: string) => log.warn({ reason }, "the connection to NATS");
    const bus = await openBus({ url: config.AUTELLIX_NATS_URL, name: `scheduler ${config.AUTELLIX_POOL}`, onStatus });
    const tracing = spansSetup(config);
    const instance = config.AUTELLIX_INSTANCE ?? leader;
    const spans = tracing && (await openSpans(tracing, { service: "scheduler", instance, log }));
    if (metrics && spans) addSpanMetrics(metrics, spans);
    const service = new SchedulerService({
      bus,
      machine: { ...machineConfig(config, leader), ...(spans ? { traceSample: spans.sample } : {}) },
      spans,
      leadership: {
        leader,
        leaseMs: config.AUTELLIX_LEASE_MS,
        leaseMarginMs: LEASE_MARGIN_MS,
        standbyMs: config.AUTELLIX_STANDBY_MS,
      },
      replicas: config.AUTELLIX_REPLICAS,
      ...(config.AUTELLIX_INPUT_LOG === undefined
        ? {}
        : { inputLog: { file: config.AUTELLIX_INPUT_LOG, bytesMax: config.AUTELLIX_INPUT_LOG_BYTES_MAX } }),
      metrics,
      log,
      fail,
    });
    const facts = () => ({
      service: "scheduler",
      pool: config.AUTELLIX_POOL,
      epoch: service.epoch,
      replicas: config.AUTELLIX_REPLICAS,
    });
    answerFacts(bus, facts, (error) => log.warn({ err: error }, "a question for facts stays without answer"));
    await service.start();
    return {
      unreadyReason: () => (isConnected(bus) ? undefined : "NATS is not connected"),
      async stop() {
        await service.stop();
        await spans?.stop();
        await bus.nc.close();
      },
    };
  },
});
