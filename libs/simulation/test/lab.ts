/** Small worlds whose times a reader can check by hand. */
import { balancers, type Policy, policies, singleLevel } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import { type CallSpec, type ProgramSpec, type SimulationResult, type System, simulate } from "../src/index.ts";

/** A step takes 10 ms, and nothing else costs anything. 10,000 blocks. */
export const plain: EnginePreset = {
  cost: { stepMs: 10, prefillTokenMs: 0, contextTokenMs: 0, decodeTokenMs: 0, planMs: 0 },
  batchCallsMax: 8,
  residentCallsMax: 100,
  contextTokensMax: 1e6,
  kvTokens: 160_000,
  sliceTokens: 512,
  kvTokenBytes: 1_000,
  hostKvTokens: 160_000,
  swap: { outBytesPerMs: 1_000, inBytesPerMs: 2_000, transferMs: 1, copiesPerBlock: 4, copyMs: 0.5 },
};

/** First come, first served, without a cache. */
export const simple: System = {
  name: "simple",
  policy: policies.fcfs,
  balancer: balancers["least-used"],
  windowSteps: 8,
  reserveCallsMax: 0,
  ladder: singleLevel,
  chunkTokens: 512,
  cache: "none",
  hostCache: false,
  preemption: "swap",
  swapPer: "call",
};

export function withCost(cost: Partial<EnginePreset["cost"]>, over: Partial<EnginePreset> = {}): EnginePreset {
  return { ...plain, cost: { ...plain.cost, ...cost }, ...over };
}

export function withPolicy(policy: Policy, over: Partial<System> = {}): System {
  return { ...simple, policy, ...over };
}

/** A call of so many prompt and answer tokens, with no parents unless told. */
export function call(newPromptTokens: number, decodeTokens: number, over: Partial<CallSpec> = {}): CallSpec {
  return { parents: [], gapMs: 0, extends: undefined, newPromptTokens, decodeTokens, ...over };
}

/** Each call goes on from the one before, after this interrupt. */
export function chain(gapMs: number, ...sizes: readonly (readonly [prompt: number, decode: number])[]): CallSpec[] {
  return sizes.map(([prompt, decode], index) =>
    index === 0 ? call(prompt, decode) : call(prompt, decode, { parents: [index - 1], extends: index - 1, gapMs }),
  );
}

export function program(arrivesAtMs: number, calls: readonly CallSpec[], over: Partial<ProgramSpec> = {}): ProgramSpec {
  return {
    id: `at-${arrivesAtMs}`,
    workload: "test",
    arrivesAtMs,
    sharedPrompt: "",
    sharedPromptTokens: 0,
    calls,
    ...over,
  };
}

export interface Played extends SimulationResult {
  calls: NonNullable<SimulationResult["calls"]>;
}

export function play(
  programs: readonly ProgramSpec[],
  over: Partial<Omit<Parameters<typeof simulate>[0], "programs">> = {},
): Played {
  const result = simulate({ engines: 1, preset: plain, system: simple, keepCalls: true, ...over, programs });
  const calls = (result.calls ?? []).toSorted((a, b) => a.program - b.program || a.call - b.call);
  return { ...result, calls };
}

/** Ends of calls by program and call. */
export function endsOf({ calls }: Played): number[] {
  return calls.map(({ endedAtMs }) => endedAtMs);
}
