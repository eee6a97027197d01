/** What the service tells browsers: over one stream of events for each page, and as answers. */

import type { ViewMeasures, ViewProgram } from "@autellix/protocol/view";
import type { PoolChanges, PoolShot } from "./pool-model.ts";
import type { CallStory } from "./story.ts";

/** What a list of pools shows of one. */
export interface PoolSummary {
  pool: string;
  policy: string;
  queuedCalls: number;
  runningCalls: number;
  engines: number;
  programs: number;
}

/** Event `shot`: begin again with this. Event `changes`: apply. Event `pools`: the list. Event `away`: no leader. */
export type PoolEvent =
  | { kind: "shot"; shot: PoolShot }
  | { kind: "changes"; changes: PoolChanges }
  | { kind: "pools"; pools: PoolSummary[] }
  | { kind: "away"; pool: string; reason: string };

export interface ProgramAnswer {
  /** Undefined: the pool does not know it, or has forgotten it. */
  program: ViewProgram | undefined;
  calls: CallStory[];
  /** Of its calls, as many have been seen: `calls` are the youngest of them. */
  callsSeen: number;
  /** Unit of what it attained; undefined: time. */
  measures?: ViewMeasures | undefined;
  /** Look of its colour. */
  look: number;
  atMs: number;
  /** Earlier calls were not seen. */
  seenSinceMs: number;
}
