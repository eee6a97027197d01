/** Keeps the calls of programs, ended ones too, for the programs' pages. The oldest ended ones go first. */
import type { ViewCall } from "@autellix/protocol/view";
import type { ModelListener } from "./pool-model.ts";
import type { CallStory } from "./story.ts";

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
    let story = this.open.get(call.call);
    if (!story) {
      const { arrivedAtMs, promptTokens, completionTokens, attempt } = call;
      story = { call: call.call, arrivedAtMs, segments: [], promptTokens, completionTokens, attempt };
      if (call.thread !== undefined) story.thread = call.thread;
      this.open.set(call.call, story);
      const known = this.programs.get(program);
      if (known) known.push(story);
      else this.programs.set(program, [story]);
    }
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
    this.open.delete(call.call);
    story.endedAtMs = atMs;
    this.ended.push({ program, story });
    if (this.open.size + this.ended.length > STORIES_MAX) this.trim();
  }

  /** Its story stays readable until it is the oldest. */
  programGone(): void {}

  /** Of one program, by arrival; the youngest `PAGE_CALLS_MAX`. */
  of(program: string): CallStory[] {
    return (this.programs.get(program) ?? []).slice(-PAGE_CALLS_MAX);
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
