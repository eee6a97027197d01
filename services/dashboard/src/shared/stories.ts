/** Keeps the calls of programs, ended ones too, for the programs' pages. The oldest ended ones go first. */
import type { ViewCall, ViewEnded } from "@autellix/protocol/view";
import type { ModelListener } from "./pool-model.ts";
import type { CallStory, Segment } from "./story.ts";

/** Of one pool. */
export const STORIES_MAX = 20_000;
/** Of one call; then its last segment goes on. */
export const SEGMENTS_MAX = 200;
/** Of one program that a page shows; the youngest. */
export const PAGE_CALLS_MAX = 2_000;

export class Stories implements ModelListener {
  private readonly open = new Map<string, CallStory>();
  private readonly programs = new Map<string, CallStory[]>();
  /** In the order of their ends. */
  private ended: { program: string; story: CallStory }[] = [];

  callChanged(call: ViewCall, program: string, atMs: number): void {
    const story = this.open.get(call.call) ?? this.begin(call, program);
    story.promptTokens = call.promptTokens;
    story.completionTokens = call.completionTokens;
    story.attempt = call.attempt;
    const { segments } = story;
    const last = segments.at(-1);
    const { state, level, engine } = call;
    if (last && last.state === state && last.level === level && last.engine === engine) return;
    if (segments.length >= SEGMENTS_MAX) return;
    // What is new in the feed has been so since it came, as far as the page can know.
    const fromMs = last ? atMs : state === "waiting" ? Math.min(call.arrivedAtMs, atMs) : atMs;
    segments.push({ fromMs, state, level, ...(engine === undefined ? {} : { engine }) });
  }

  callGone(call: ViewCall, program: string, atMs: number): void {
    const story = this.open.get(call.call);
    if (!story) return;
    story.endedAtMs = atMs;
    this.close(story, program);
  }

  callEnded(ended: ViewEnded, program: string): void {
    const story = this.open.get(ended.call) ?? this.begin(ended, program);
    settle(story, ended);
    this.close(story, program);
  }

  /** Its story stays readable until it is the oldest. */
  programGone(): void {}

  /** Of one program, by arrival; the youngest `PAGE_CALLS_MAX`. */
  of(program: string): CallStory[] {
    const stories = [...(this.programs.get(program) ?? [])];
    return stories.sort((a, b) => a.arrivedAtMs - b.arrivedAtMs).slice(-PAGE_CALLS_MAX);
  }

  /** How many there are, also those beyond `PAGE_CALLS_MAX`. */
  countOf(program: string): number {
    return this.programs.get(program)?.length ?? 0;
  }

  private begin({ call, thread, arrivedAtMs, attempt }: ViewCall | ViewEnded, program: string): CallStory {
    const story: CallStory = { call, arrivedAtMs, segments: [], promptTokens: 0, completionTokens: 0, attempt };
    if (thread !== undefined) story.thread = thread;
    this.open.set(call, story);
    const known = this.programs.get(program);
    if (known) known.push(story);
    else this.programs.set(program, [story]);
    return story;
  }

  private close(story: CallStory, program: string): void {
    this.open.delete(story.call);
    this.ended.push({ program, story });
    if (this.open.size + this.ended.length > STORIES_MAX) this.trim();
  }

  private trim(): void {
    const dropped = this.ended.splice(0, Math.ceil(this.ended.length / 10));
    const stories = new Set(dropped.map(({ story }) => story));
    for (const program of new Set(dropped.map((one) => one.program))) {
      const left = (this.programs.get(program) ?? []).filter((story) => !stories.has(story));
      if (left.length > 0) this.programs.set(program, left);
      else this.programs.delete(program);
    }
  }
}

/** In the order in which a call goes through them that nothing preempts. */
const STRAIGHT: readonly Segment["state"][] = ["waiting", "starting", "running", "ending"];

/** Ends a story by the call's own facts: its end, its tokens, and its times where it went straight from queue to end. */
function settle(story: CallStory, ended: ViewEnded): void {
  story.endedAtMs = Math.max(ended.arrivedAtMs, ended.endedAtMs);
  story.isExact = true;
  story.attempt = ended.attempt;
  story.promptTokens = ended.promptTokens ?? story.promptTokens;
  story.completionTokens = ended.completionTokens ?? story.completionTokens;
  const { endedAtMs } = story;
  const seen = story.segments.filter(({ fromMs }) => fromMs < endedAtMs);
  const steps = seen.map(({ state }) => STRAIGHT.indexOf(state));
  const isStraight = ended.attempt === 1 && steps.every((step, i) => step >= (steps[i - 1] ?? 0));
  story.segments = isStraight ? straight(seen, ended) : seen;
}

/** What was seen is late by up to a gather, or was not seen: the facts know better. */
function straight(seen: readonly Segment[], ended: ViewEnded): Segment[] {
  const { arrivedAtMs, endedAtMs, queuedMs, waitingMs, serviceMs, level, engine } = ended;
  const plannedMs = arrivedAtMs + queuedMs;
  const ranMs = Math.min(endedAtMs, arrivedAtMs + waitingMs);
  const place = { level, ...(engine === undefined ? {} : { engine }) };
  const waits = seen.filter(({ state, fromMs }, i) => state === "waiting" && (i === 0 || fromMs < plannedMs));
  if (waits.length === 0) waits.push({ fromMs: arrivedAtMs, state: "waiting", level });
  if (ranMs > plannedMs) waits.push({ fromMs: plannedMs, state: "starting", ...place });
  if (serviceMs <= 0) return waits;
  // More than one: it was demoted while it ran.
  const runs = seen
    .filter(({ state }) => state === "running")
    .map((run) => ({ ...run, fromMs: Math.max(ranMs, run.fromMs) }));
  const [first = { state: "running", ...place }, ...others] = runs;
  return [...waits, { ...first, fromMs: ranMs }, ...others];
}
