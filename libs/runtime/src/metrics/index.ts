export * from "./buckets.ts";
export * from "./bus.ts";
export * from "./metrics.ts";
export * from "./process.ts";
export * from "./server.ts";
export * from "./spans.ts";
