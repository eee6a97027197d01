/** Why a traced call waited, as its trace tells it. */
import { TRACED_PROGRAMS_MAX, type Traced } from "@autellix/protocol";
import type { KnownCall } from "./arrival.ts";

/** A batch; its calls may have ended since. */
export type Ran = readonly (KnownCall | undefined)[];

export interface LastPlan {
  atMs: number;
  ran: Ran;
}

/** What a call that is dispatched waited behind. */
export interface Queue {
  last: LastPlan | undefined;
  ran: Ran | undefined;
  /** Of the engine. */
  batchCallsMax: number;
}

/**
 * Why a call was not in the engine's batch before: asked once, when it is dispatched.
 *
 * @param readAtMs when this leader read the call. @returns undefined when it did not wait.
 */
export function behind(readAtMs: number, { last, ran, batchCallsMax }: Queue): Traced["behind"] {
  if (!last || !ran) return { reason: "engine", calls: 0, programs: [] };
  const isFull = ran.length >= batchCallsMax;
  // No plan was made since it came, and there was a slot.
  if (ran.length === 0 || (!isFull && last.atMs <= readAtMs)) return undefined;
  return { reason: isFull ? "slots" : "memory", calls: ran.length, programs: programsOf(ran) };
}

/** The first ones. */
function programsOf(ran: Ran): string[] {
  const programs = new Set<string>();
  for (const known of ran) {
    if (known) programs.add(`${known.address.tenant}/${known.program}`);
    if (programs.size >= TRACED_PROGRAMS_MAX) break;
  }
  return [...programs];
}
