/** Pairs of measurements that take turns: what slows the machine down for a while slows both arms. */
import { quantile } from "../stats.ts";

export interface Measured {
  tokensPerS: number;
  /** Of the engine's process, prompts included: what others do meanwhile hardly changes it. Undefined over HTTP. */
  cpuMsPerToken?: number;
}

export interface Pair {
  direct: Measured;
  agent: Measured;
}

export interface PairsSummary {
  /** Medians, tokens per second. */
  direct: number;
  agent: number;
  /** Median of the pairs' own shares, agent over direct. */
  share: number;
  shareMin: number;
  shareMax: number;
  /** Medians, ms per token; NaN where it was not measured. */
  directCpuMs: number;
  agentCpuMs: number;
  pairs: readonly Pair[];
}

/** A B, B A, A B …: neither arm always follows the other. */
export async function measurePairs(
  count: number,
  arms: Record<keyof Pair, (round: number) => Promise<Measured>>,
): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let round = 0; round < count; round++) {
    const pair: Partial<Pair> = {};
    for (const arm of round % 2 === 0 ? (["direct", "agent"] as const) : (["agent", "direct"] as const))
      pair[arm] = await arms[arm](round);
    const { direct, agent } = pair;
    if (direct && agent) pairs.push({ direct, agent });
  }
  return pairs;
}

export function summarisePairs(pairs: readonly Pair[]): PairsSummary {
  const sorted = (read: (pair: Pair) => number) => pairs.map(read).sort((a, b) => a - b);
  const median = (read: (pair: Pair) => number) => quantile(sorted(read), 0.5);
  const shares = sorted(({ direct, agent }) => agent.tokensPerS / direct.tokensPerS);
  return {
    direct: median(({ direct }) => direct.tokensPerS),
    agent: median(({ agent }) => agent.tokensPerS),
    share: quantile(shares, 0.5),
    shareMin: shares[0] ?? Number.NaN,
    shareMax: shares.at(-1) ?? Number.NaN,
    directCpuMs: median(({ direct }) => direct.cpuMsPerToken ?? Number.NaN),
    agentCpuMs: median(({ agent }) => agent.cpuMsPerToken ?? Number.NaN),
    pairs,
  };
}
