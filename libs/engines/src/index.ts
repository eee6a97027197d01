export * from "./port.ts";
export * from "./simulated/index.ts";
