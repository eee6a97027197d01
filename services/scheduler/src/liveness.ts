/**
 * Which agents are up (design §4, Agent lost). Silence counts only while the scheduler hears itself over NATS: a
 * scheduler that is cut off must not declare its agents dead.
 */

import type { EngineState } from "@autellix/protocol";

export interface LivenessConfig {
  agentSuspectMs: number;
  agentLostMs: number;
}

/** The own beat must have come back within this time for silence to count. */
export const ECHO_MAX_MS = 500;
/** A stalled process counts at most this much silence per tick: it heard nobody because it did not listen. */
const TICK_COUNTED_MAX_MS = 500;

export interface LiveAgent {
  incarnation: string;
  silentMs: number;
  suspected: boolean;
  /** It has said that it is about to leave. */
  draining: boolean;
}

export class Liveness {
  readonly agents = new Map<string, LiveAgent>();
  private readonly config: LivenessConfig;
  private echoAt: number | undefined;
  private tickedAt: number | undefined;

  constructor(config: LivenessConfig) {
    this.config = config;
  }

  echo(at: number): void {
    this.echoAt = at;
  }

  /** @returns whether the agent was suspected until now, and whether it says for the first time that it is about to leave. */
  heard(engine: string, incarnation: string, draining = false): { isBack: boolean; leaves: boolean } {
    const known = this.agents.get(engine);
    const agent = known?.incarnation === incarnation ? known : undefined;
    // Reports may overtake each other; who leaves stays away.
    const wasDraining = agent?.draining === true;
    this.agents.set(engine, { incarnation, silentMs: 0, suspected: false, draining: draining || wasDraining });
    return { isBack: agent?.suspected === true, leaves: draining && !wasDraining };
  }

  stateOf(engine: string): EngineState {
    const { suspected, draining } = this.agents.get(engine) ?? {};
    if (suspected) return "suspect";
    return draining ? "draining" : "up";
  }

  forget(engine: string): void {
    this.agents.delete(engine);
  }

  /** @returns who became suspect and who is lost since the last tick. */
  tick(at: number): { suspected: string[]; lost: string[] } {
    const passedMs = Math.min(at - (this.tickedAt ?? at), TICK_COUNTED_MAX_MS);
    this.tickedAt = at;
    const changes = { suspected: [] as string[], lost: [] as string[] };
    if (this.echoAt === undefined || at - this.echoAt > ECHO_MAX_MS) return changes;
    for (const [engine, agent] of this.agents) {
      agent.silentMs += passedMs;
      if (agent.silentMs >= this.config.agentLostMs) changes.lost.push(engine);
      else if (agent.silentMs >= this.config.agentSuspectMs && !agent.suspected) {
        agent.suspected = true;
        changes.suspected.push(engine);
      }
    }
    for (const engine of changes.lost) this.agents.delete(engine);
    return changes;
  }
}
