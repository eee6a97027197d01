export * from "./bodies.ts";
export * from "./bus.ts";
export * from "./calls.ts";
export * from "./facts.ts";
export * from "./outcomes.ts";
export * from "./pool-watch.ts";
export * from "./state.ts";
export * from "./streams.ts";
