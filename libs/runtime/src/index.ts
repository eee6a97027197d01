export * from "./config.ts";
export * from "./log-fields.ts";
export * from "./logger.ts";
export * from "./metrics/index.ts";
export * from "./parts/index.ts";
export * from "./service.ts";
export * from "./telemetry/config.ts";
export * from "./telemetry/sink.ts";
