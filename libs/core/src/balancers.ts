/**
 * Load balancers: which engine a call is bound to when it arrives (paper §4.3, Algorithm 2).
 */
import type { Call } from "./call.ts";
import type { Engine } from "./engine.ts";

/** Prompts up to here are cheap to compute anywhere (Algorithm 2). */
export const SHORT_PROMPT_TOKENS_MAX = 2048;

export interface Balancer {
  readonly name: string;
  /** @param engines the engines that take new calls, in the order they joined; at least one. */
  readonly bind: (call: Call, engines: readonly Engine[], turn: number) => Engine;
}

/** Fewest calls in the system; the first of equals. */
function leastUsed(engines: readonly Engine[]): Engine {
  const first = engines[0];
  if (!first) throw new Error("no engine to bind to");
  let least = first;
  for (const engine of engines) if (engine !== first && engine.callCount < least.callCount) least = engine;
  return least;
}

/** The program's pinned engine; the least used one while it is silent, which becomes the pin of a program that has none. */
function pinned({ program }: Call, engines: readonly Engine[]): Engine {
  const engine = engines.find((e) => e.id === program.pin) ?? leastUsed(engines);
  program.pin ??= engine.id;
  return engine;
}

export const balancers = {
  /** Algorithm 2: short prompts go to the least used engine without pinning, long ones to their program's engine. */
  locality: {
    name: "locality",
    bind: (call, engines) =>
      call.contextTokens <= SHORT_PROMPT_TOKENS_MAX ? leastUsed(engines) : pinned(call, engines),
  },
  "least-used": { name: "least-used", bind: (_call, engines) => leastUsed(engines) },
  "round-robin": {
    name: "round-robin",
    bind: (_call, engines, turn) => engines[turn % engines.length] ?? leastUsed(engines),
  },
  /** Pinned from the first call. */
  sticky: { name: "sticky", bind: (call, engines) => pinned(call, engines) },
} as const satisfies Record<string, Balancer>;

export type BalancerName = keyof typeof balancers;

export function isBalancerName(text: string): text is BalancerName {
  return Object.hasOwn(balancers, text);
}
