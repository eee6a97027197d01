/** A pool that was read again, as changes to what was known of it: its past stays. */
import type { ViewCall, ViewEngine, ViewPool, ViewProgram } from "@autellix/protocol/view";
import type { PoolChanges, PoolModel } from "./pool-model.ts";

/** A whole snapshot of a pool. */
export interface Picture {
  pool: ViewPool;
  atMs: number;
  programs: ReadonlyMap<string, ViewProgram>;
  calls: ReadonlyMap<string, ViewCall>;
  engines: ReadonlyMap<string, ViewEngine>;
}

export function reconcile(model: PoolModel, picture: Picture): PoolChanges {
  const gone = <T>(known: ReadonlyMap<string, T>, now: ReadonlyMap<string, T>) =>
    [...known].filter(([key]) => !now.has(key));
  return {
    pool: picture.pool,
    atMs: picture.atMs,
    programs: [...picture.programs.values()],
    calls: [...picture.calls.values()],
    engines: [...picture.engines.values()],
    gone: {
      programs: gone(model.programs, picture.programs).map(([, { tenant, program }]) => ({ tenant, program })),
      calls: gone(model.calls, picture.calls).map(([key]) => key),
      engines: gone(model.engines, picture.engines).map(([key]) => key),
    },
  };
}
