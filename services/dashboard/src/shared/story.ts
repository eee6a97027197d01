/**
 * A program's story: its calls over time, the path through them that its latency is made of, and where that time went.
 *
 * Who waited for whom is not in the feed; it is read off the times: a call follows the one that ended last before it
 * came. So the path walks back from the end: the call that ended last, what it followed, and so on; what lies between
 * the end of one and the arrival of the next is a gap (a tool, code, a person).
 */
import type { ViewState } from "@autellix/protocol/view";

/** What a call did from `fromMs` until the next segment, or its end. */
export interface Segment {
  fromMs: number;
  state: ViewState;
  /** 0 = Q1. */
  level: number;
  engine?: string;
}

export interface CallStory {
  call: string;
  thread?: string;
  arrivedAtMs: number;
  /** Undefined: it goes on. */
  endedAtMs?: number;
  /** Its end is the call's own, not that of the changes that told it. */
  isExact?: true;
  segments: Segment[];
  promptTokens: number;
  completionTokens: number;
  attempt: number;
}

/** Where time goes. `starting`: on its way into a batch. `gap`: between calls. */
export type Where = "queue" | "starting" | "running" | "parked" | "swapped" | "recompute" | "gap";

export const WHERES: readonly Where[] = ["queue", "starting", "running", "parked", "swapped", "recompute", "gap"];

export interface PathStep {
  kind: "call" | "gap";
  /** Of a call. */
  call?: string;
  fromMs: number;
  toMs: number;
}

/** Changes come gathered (10 a second), arrivals with their exact time: an end may seem later than what it led to. */
const SLACK_MS = 250;
/** A leader hears of an end a little later than the program, which may have sent its next call by then. */
const EXACT_SLACK_MS = 25;

const WHERE_OF: Record<ViewState, Where> = {
  waiting: "queue",
  starting: "starting",
  running: "running",
  parked: "parked",
  swapped: "swapped",
  evicted: "recompute",
  // Its result is being written.
  ending: "running",
};

/** @returns the path in the order of time, without holes, from the first call's arrival to the last end (or now). */
export function criticalPath(calls: readonly CallStory[], nowMs: number): PathStep[] {
  const endOf = (call: CallStory) => call.endedAtMs ?? nowMs;
  let at: CallStory | undefined;
  for (const call of calls) if (!at || endOf(call) > endOf(at)) at = call;
  const steps: PathStep[] = [];
  const walked = new Set<CallStory>();
  let until = at ? endOf(at) : 0;
  while (at) {
    walked.add(at);
    const from = Math.min(at.arrivedAtMs, until);
    steps.push({ kind: "call", call: at.call, fromMs: from, toMs: until });
    let before: CallStory | undefined;
    for (const call of calls) {
      if (walked.has(call) || call.endedAtMs === undefined || call.arrivedAtMs >= at.arrivedAtMs) continue;
      const slackMs = call.isExact ? EXACT_SLACK_MS : SLACK_MS;
      if (call.endedAtMs <= at.arrivedAtMs + slackMs && (!before || call.endedAtMs > (before.endedAtMs ?? 0)))
        before = call;
    }
    if (before) {
      const endedMs = Math.min(before.endedAtMs ?? from, from);
      if (from > endedMs) steps.push({ kind: "gap", fromMs: endedMs, toMs: from });
      until = endedMs;
    }
    at = before;
  }
  return steps.reverse();
}

/** The time of one call inside [fromMs, toMs], by where it went. */
export function timesOf(call: CallStory, fromMs: number, toMs: number, into: Record<Where, number>): void {
  let at = call.arrivedAtMs;
  let where: Where = "queue";
  const spend = (until: number) => {
    into[where] += Math.max(0, Math.min(until, toMs) - Math.max(at, fromMs));
    at = Math.max(at, until);
  };
  for (const segment of call.segments) {
    spend(segment.fromMs);
    where = WHERE_OF[segment.state];
  }
  spend(Math.max(at, call.endedAtMs ?? toMs));
}

export function noTimes(): Record<Where, number> {
  return { queue: 0, starting: 0, running: 0, parked: 0, swapped: 0, recompute: 0, gap: 0 };
}

/** Where the latency went: along the path, so that the parts add up to its length. */
export function pathTimes(calls: readonly CallStory[], path: readonly PathStep[]): Record<Where, number> {
  const byId = new Map(calls.map((call) => [call.call, call]));
  const times = noTimes();
  for (const { kind, call, fromMs, toMs } of path) {
    const story = call === undefined ? undefined : byId.get(call);
    if (kind === "gap" || !story) times.gap += toMs - fromMs;
    else timesOf(story, fromMs, toMs, times);
  }
  return times;
}

/** The part of a call that a page draws as one bar. */
export interface Bar {
  fromMs: number;
  toMs: number;
  where: Where;
  level: number;
  engine: string | undefined;
}

export function barsOf(call: CallStory, nowMs: number): Bar[] {
  const bars: Bar[] = [];
  const end = call.endedAtMs ?? nowMs;
  const push = (fromMs: number, toMs: number, where: Where, level: number, engine: string | undefined) => {
    if (toMs <= fromMs) return;
    const last = bars.at(-1);
    if (last?.where === where && last.level === level && last.engine === engine && last.toMs === fromMs)
      last.toMs = toMs;
    else bars.push({ fromMs, toMs, where, level, engine });
  };
  const first = call.segments[0];
  if (first) push(call.arrivedAtMs, first.fromMs, "queue", first.level, undefined);
  for (const [i, segment] of call.segments.entries()) {
    const from = Math.max(segment.fromMs, call.arrivedAtMs);
    push(
      from,
      Math.min(end, call.segments[i + 1]?.fromMs ?? end),
      WHERE_OF[segment.state],
      segment.level,
      segment.engine,
    );
  }
  return bars;
}

/** Rows of the call tree: threads by their first call, calls of a thread in order. */
export function threadsOf(calls: readonly CallStory[]): { thread: string; calls: CallStory[] }[] {
  const threads = new Map<string, CallStory[]>();
  for (const call of [...calls].sort((a, b) => a.arrivedAtMs - b.arrivedAtMs)) {
    const name = call.thread ?? "";
    const known = threads.get(name);
    if (known) known.push(call);
    else threads.set(name, [call]);
  }
  return [...threads].map(([thread, own]) => ({ thread, calls: own }));
}
