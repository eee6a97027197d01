/**
 * Today's coding agents (AgentX, as quoted in `frozen.ts`): long sessions over one growing context, most of it found
 * in the cache, and in 44 % of them sub-agents that work side by side while the main thread waits.
 */
import type { Frozen } from "../frozen.ts";
import type { CallSpec } from "../program.ts";
import { type Maker, type Streams, sizes, streamsOf, toolMs } from "./content.ts";

export const agentx: Maker = (random, frozen) => {
  const session = new Session(streamsOf(random), frozen);
  return {
    workload: "agentx",
    sharedPrompt: "agent",
    sharedPromptTokens: frozen.agentx.sharedPromptTokens,
    calls: session.run(),
  };
};

/** One thread's end: its last call, and how long its context is. */
interface Tip {
  call: number | undefined;
  contextTokens: number;
}

class Session {
  readonly #streams: Streams;
  readonly #frozen: Frozen;
  readonly #calls: CallSpec[] = [];

  constructor(streams: Streams, frozen: Frozen) {
    this.#streams = streams;
    this.#frozen = frozen;
  }

  run(): CallSpec[] {
    const { shape } = this.#streams;
    const { agentx } = this.#frozen;
    const { turnsMedian, turnsVariation, turnsMax } = agentx;
    const turnsMean = turnsMedian * Math.sqrt(1 + turnsVariation * turnsVariation);
    const turns = Math.min(turnsMax, Math.max(1, Math.round(shape.logNormal(turnsMean, turnsVariation))));
    const forks = shape.chance(agentx.subAgentsShare) && turns > 1;
    const forkTurn = shape.int(1, Math.max(1, turns - 1));
    const agents = shape.int(1, agentx.subAgentsMax);
    let main: Tip = { call: undefined, contextTokens: agentx.sharedPromptTokens };
    for (let turn = 0; turn < turns; turn++) {
      const joins = forks && turn === forkTurn ? this.#subAgents(agents, main.call) : [];
      main = this.#turn("main", main, joins.length > 0 ? joins : parentsOf(main));
    }
    return this.#calls;
  }

  /** Sub-agents begin with an order of their own, not with the main thread's context. @returns their last calls. */
  #subAgents(count: number, parent: number | undefined): number[] {
    const { agentx } = this.#frozen;
    return Array.from({ length: count }, (_, index) => {
      const turns = Math.max(1, Math.round(this.#streams.shape.logNormal(agentx.subAgentTurns, agentx.variation)));
      let tip: Tip = { call: undefined, contextTokens: agentx.sharedPromptTokens };
      for (let turn = 0; turn < Math.min(turns, agentx.turnsMax); turn++) {
        const parents = tip.call === undefined && parent !== undefined ? [parent] : parentsOf(tip);
        tip = this.#turn(`agent-${index + 1}`, tip, parents);
      }
      return tip.call ?? 0;
    });
  }

  #turn(thread: string, tip: Tip, parents: readonly number[]): Tip {
    const { agentx } = this.#frozen;
    const { sharedPromptTokens, turnsMedian, decodeTokens, variation, contextTokens, briefTokens } = agentx;
    const newPromptTokens = (contextTokens - sharedPromptTokens) / turnsMedian - decodeTokens;
    const size = sizes(this.#streams, { newPromptTokens, decodeTokens, variation }, this.#frozen);
    const grown = size.newPromptTokens + size.decodeTokens;
    const isFull = tip.contextTokens + grown > agentx.contextTokensMax;
    const startsOver = tip.call === undefined ? thread !== "main" : isFull;
    const base = startsOver ? sharedPromptTokens + briefTokens : tip.contextTokens;
    this.#calls.push({
      ...size,
      newPromptTokens: size.newPromptTokens + (startsOver ? briefTokens : 0),
      parents,
      gapMs: parents.length === 0 ? 0 : toolMs(this.#streams, this.#frozen),
      thread,
      extends: startsOver ? undefined : tip.call,
    });
    return { call: this.#calls.length - 1, contextTokens: base + grown };
  }
}

const parentsOf = ({ call }: Tip): readonly number[] => (call === undefined ? [] : [call]);
