/** The core's part of the machine's configuration, with the records that policy and balancer name. */
import { balancers, type CoreConfig, isBalancerName, isPolicyName, policies } from "@autellix/core";
import type { MachineConfig } from "./events.ts";

/** @throws Error for a policy or balancer that the core has no record of. */
export function coreConfig(config: MachineConfig): CoreConfig {
  const { policy, balancer, binding, misfit, beta, promotedShare } = config;
  if (!isPolicyName(policy) || !isBalancerName(balancer))
    throw new Error(`unknown policy ${policy} or balancer ${balancer}`);
  return {
    policy: policies[policy],
    ladder: config.ladder,
    balancer: balancers[balancer],
    ...(binding === undefined ? {} : { binding }),
    ...(misfit === undefined ? {} : { misfit }),
    windowSteps: config.windowSteps,
    reserveCallsMax: config.reserveCallsMax,
    ...(beta === undefined ? {} : { beta }),
    ...(promotedShare === undefined ? {} : { promotedShare }),
    attemptsCrashedMax: config.attemptsCrashedMax,
    programIdleMaxMs: config.programIdleMaxMs,
    cancelMemoryMs: config.cancelMemoryMs,
    cancelMemoryMax: config.cancelMemoryMax,
    planResendMs: config.planResendMs,
  };
}
