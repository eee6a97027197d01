/** What just happened, in words of the glossary: the last ones only. */
import type { ViewCall } from "@autellix/protocol/view";

export const HAPPENINGS_MAX = 100;

export type HappeningKind =
  | "preempted"
  | "swapped-out"
  | "swapped-in"
  | "evicted"
  | "demoted"
  | "promoted"
  | "retried"
  | "joined"
  | "silent"
  | "lost"
  | "leader";

export interface Happening {
  atMs: number;
  kind: HappeningKind;
  /** Program's key. */
  program?: string;
  call?: string;
  engine?: string;
  /** Levels of a demotion or promotion. */
  from?: number;
  to?: number;
}

/** How often each kind happened. */
export type HappeningCounts = Partial<Record<HappeningKind, number>>;

export interface HappeningsShot {
  last: Happening[];
  /** Also of what is no longer among the last ones. */
  counts: HappeningCounts;
}

const IDLE = new Set(["waiting", "parked", "swapped", "evicted"]);
/** Its context is on the engine, or on its way there. */
const ON_ENGINE = new Set(["starting", "running", "parked"]);

export class Happenings {
  /** Newest last. */
  readonly last: Happening[];
  readonly counts: HappeningCounts;

  constructor(shot: HappeningsShot) {
    this.last = [...shot.last];
    this.counts = { ...shot.counts };
  }

  add(happening: Happening): void {
    this.last.push(happening);
    if (this.last.length > HAPPENINGS_MAX) this.last.shift();
    this.counts[happening.kind] = (this.counts[happening.kind] ?? 0) + 1;
  }

  /** What a call's new state means. @param before undefined for a call that is new. */
  compare(before: ViewCall | undefined, now: ViewCall, program: string, atMs: number): void {
    if (!before) return;
    const one = { atMs, program, call: now.call, ...(now.engine === undefined ? {} : { engine: now.engine }) };
    if (before.attempt !== now.attempt) this.add({ ...one, kind: "retried" });
    else {
      if (before.state === "running" && IDLE.has(now.state)) this.add({ ...one, kind: "preempted" });
      if (before.state !== "swapped" && now.state === "swapped") this.add({ ...one, kind: "swapped-out" });
      if (isSwappedIn(before, now)) this.add({ ...one, kind: "swapped-in" });
      if (isContextLost(before, now)) this.add({ ...one, kind: "evicted" });
    }
    if (now.level !== before.level)
      this.add({ ...one, kind: now.level > before.level ? "demoted" : "promoted", from: before.level, to: now.level });
  }

  shot(): HappeningsShot {
    return { last: [...this.last], counts: { ...this.counts } };
  }
}

function isSwappedIn(before: ViewCall, now: ViewCall): boolean {
  return before.state === "swapped" && before.engine === now.engine && ON_ENGINE.has(now.state);
}

/** A swapped call that waits again, or goes on elsewhere, has left its context behind. */
function isContextLost(before: ViewCall, now: ViewCall): boolean {
  if (before.state === "evicted") return false;
  if (now.state === "evicted") return true;
  const isGoingOn = now.state === "waiting" || ON_ENGINE.has(now.state);
  return before.state === "swapped" && isGoingOn && !isSwappedIn(before, now);
}
