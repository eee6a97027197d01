/** Measurements of all arms that take turns: what slows the machine down for a while slows each of them. */
import { median } from "../stats.ts";

export interface Measured {
  tokensPerS: number;
  /** Of the engine's process, prompts included: what others do meanwhile hardly changes it. Undefined over HTTP. */
  cpuMsPerToken?: number;
}

export interface Pair {
  direct: Measured;
  /** The direct one again, while the other cores do what they do around an agent. */
  beside?: Measured;
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
  /** Median of each system's pairs. */
  systemShares: number[];
  /** Median of `beside`, and of the pairs' shares of it; NaN where it was not measured. */
  beside: number;
  shareBeside: number;
  /** Medians, ms per token; NaN where it was not measured. */
  directCpuMs: number;
  agentCpuMs: number;
  pairs: readonly Pair[];
}

type Arm = (round: number) => Promise<Measured>;

/** A B C, C B A, A B C …: no arm always follows the same other. */
export async function measurePairs(
  count: number,
  arms: { direct: Arm; beside?: Arm | undefined; agent: Arm },
): Promise<Pair[]> {
  const pairs: Pair[] = [];
  for (let round = 0; round < count; round++) {
    const pair: Partial<Pair> = {};
    const order = ["direct", "beside", "agent"] as const;
    for (const name of round % 2 === 0 ? order : order.toReversed()) {
      const measured = await arms[name]?.(round);
      if (measured !== undefined) pair[name] = measured;
    }
    const { direct, agent } = pair;
    if (direct && agent) pairs.push({ ...pair, direct, agent });
  }
  return pairs;
}

/** @param systems pairs that were measured with the same processes, each. */
export function summarisePairs(systems: readonly (readonly Pair[])[]): PairsSummary {
  const pairs = systems.flat();
  const medianOf = (read: (pair: Pair) => number) => median(pairs.map(read));
  const besides = pairs.flatMap(({ beside, agent }) =>
    beside === undefined ? [] : [{ beside: beside.tokensPerS, share: agent.tokensPerS / beside.tokensPerS }],
  );
  const shareOf = ({ direct, agent }: Pair) => agent.tokensPerS / direct.tokensPerS;
  const shares = pairs.map(shareOf).sort((a, b) => a - b);
  return {
    direct: medianOf(({ direct }) => direct.tokensPerS),
    agent: medianOf(({ agent }) => agent.tokensPerS),
    share: median(shares),
    shareMin: shares[0] ?? Number.NaN,
    shareMax: shares.at(-1) ?? Number.NaN,
    systemShares: systems.map((own) => median(own.map(shareOf))),
    beside: median(besides.map(({ beside }) => beside)),
    shareBeside: median(besides.map(({ share }) => share)),
    directCpuMs: medianOf(({ direct }) => direct.cpuMsPerToken ?? Number.NaN),
    agentCpuMs: medianOf(({ agent }) => agent.cpuMsPerToken ?? Number.NaN),
    pairs,
  };
}
