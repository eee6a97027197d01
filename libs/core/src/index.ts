export { type Balancer, type BalancerName, balancers, isBalancerName } from "./balancers.ts";
export * from "./contract.ts";
export * from "./ids.ts";
export { doublingLadder, type Ladder, type Level, levelOf, singleLevel } from "./ladder.ts";
export { isPolicyName, type Policy, type PolicyName, policies } from "./policies.ts";
export { Scheduler } from "./scheduler.ts";
export type { CoreConfig } from "./state.ts";
