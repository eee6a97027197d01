export { type Balancer, type BalancerName, balancers, isBalancerName, SHORT_PROMPT_TOKENS_MAX } from "./balancers.ts";
export type { Calibration, CoreConfig } from "./config.ts";
export * from "./contract.ts";
export * from "./ids.ts";
export { doublingLadder, FACTOR, type Ladder, LEVELS, type Level, levelOf, singleLevel } from "./ladder.ts";
export { isPolicyName, type Policy, type PolicyName, type ProgramPast, policies } from "./policies.ts";
export { type ActiveCall, type CallPlace, type ProgramTimes, Scheduler } from "./scheduler.ts";
export { BETA, BETA_FLOOR_MS, type Totals } from "./state.ts";
export type { CallView, ChangesView, EngineView, Page, ProgramView } from "./views.ts";
