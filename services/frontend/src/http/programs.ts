/**
 * A program has one entry per pool; clients see one program.
 */
import type { ProgramView } from "@autellix/protocol";

/** The same fields over several pools, with each pool's own view. */
export type MergedProgram = Omit<ProgramView, "pool"> & { pools: ProgramView[] };

/**
 * Service, waiting and calls are sums. The attained service, by which each pool ranks the program's calls, is never
 * added up over pools: the highest is shown.
 *
 * @param views at least one.
 */
export function mergeViews(views: readonly [ProgramView, ...ProgramView[]]): ProgramView | MergedProgram {
  const [first, ...others] = views;
  if (others.length === 0) return first;
  const sum = (value: (view: ProgramView) => number) => views.reduce((total, view) => total + value(view), 0);
  return {
    id: first.id,
    object: "program",
    state: views.some(({ state }) => state === "open") ? "open" : "ended",
    service_ms: sum((view) => view.service_ms),
    waiting_ms: sum((view) => view.waiting_ms),
    attained_service_ms: Math.max(...views.map((view) => view.attained_service_ms)),
    calls: {
      waiting: sum((view) => view.calls.waiting),
      running: sum((view) => view.calls.running),
      ended: sum((view) => view.calls.ended),
    },
    pools: [...views].sort((a, b) => (a.pool < b.pool ? -1 : 1)),
  };
}
