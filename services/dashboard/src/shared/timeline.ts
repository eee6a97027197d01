/**
 * Who ran when, on each engine: one lane for each slot of its batch, as in the paper's Fig. 2. A call keeps its lane
 * as long as it is in the batch.
 */
import type { ViewCall, ViewEngine } from "@autellix/protocol/view";

/** What is older goes. */
export const TIMELINE_MS = 5 * 60_000;
/** Of one engine; the oldest go first. */
export const SPANS_MAX = 5_000;

/** One stay of a call in a batch. */
export interface Span {
  lane: number;
  /** Program's key. */
  program: string;
  call: string;
  fromMs: number;
  /** Undefined while it runs. */
  toMs?: number;
  /** How it left: it ended, or others took its place. */
  end?: "ended" | "preempted";
}

export interface EngineTimeline {
  engine: string;
  spans: Span[];
}

export interface TimelineShot {
  engines: EngineTimeline[];
}

/** States of a call that was taken out of a batch and goes on later. */
const LEFT: ReadonlySet<ViewCall["state"]> = new Set(["waiting", "parked", "swapped", "evicted"]);

interface Track {
  spans: Span[];
  /** Open spans by lane. */
  lanes: (Span | undefined)[];
}

export class Timeline {
  private readonly tracks = new Map<string, Track>();

  constructor(shot: TimelineShot) {
    for (const { engine, spans } of shot.engines) {
      const track: Track = { spans: spans.map((span) => ({ ...span })), lanes: [] };
      for (const span of track.spans) if (span.toMs === undefined) track.lanes[span.lane] = span;
      this.tracks.set(engine, track);
    }
  }

  /** The engine's batch is this from now on. */
  engineRuns({ engine, run }: ViewEngine, calls: ReadonlyMap<string, ViewCall>, atMs: number): void {
    const track = this.tracks.get(engine) ?? { spans: [], lanes: [] };
    this.tracks.set(engine, track);
    const wanted = new Set(run);
    for (const span of track.lanes) {
      if (!span || wanted.delete(span.call)) continue;
      const left = calls.get(span.call);
      close(track, span, atMs, left && LEFT.has(left.state) ? "preempted" : "ended");
    }
    for (const id of wanted) {
      const call = calls.get(id);
      if (!call) continue;
      let lane = 0;
      while (track.lanes[lane]) lane++;
      const span: Span = { lane, program: `${id.slice(0, id.indexOf("/"))}/${call.program}`, call: id, fromMs: atMs };
      track.lanes[lane] = span;
      track.spans.push(span);
    }
    trim(track, atMs);
  }

  callGone({ call, engine }: ViewCall, atMs: number): void {
    const track = engine === undefined ? undefined : this.tracks.get(engine);
    const span = track?.lanes.find((open) => open?.call === call);
    if (track && span) close(track, span, atMs, "ended");
  }

  engineGone(engine: string, atMs: number): void {
    const track = this.tracks.get(engine);
    for (const span of track?.lanes ?? []) if (track && span) close(track, span, atMs, "preempted");
    if (track && track.spans.length === 0) this.tracks.delete(engine);
  }

  /** Oldest first. */
  spansOf(engine: string): readonly Span[] {
    return this.tracks.get(engine)?.spans ?? [];
  }

  /** The lane that a call has now. */
  laneOf(engine: string, call: string): number | undefined {
    return this.tracks.get(engine)?.lanes.find((span) => span?.call === call)?.lane;
  }

  shot(): TimelineShot {
    return { engines: [...this.tracks].map(([engine, { spans }]) => ({ engine, spans })) };
  }
}

function close(track: Track, span: Span, atMs: number, end: "ended" | "preempted"): void {
  span.toMs = atMs;
  span.end = end;
  track.lanes[span.lane] = undefined;
}

/** Now and then, so that it costs little: all that ended too long ago, and what is too much. */
function trim(track: Track, atMs: number): void {
  const first = track.spans[0];
  const isOld = first?.toMs !== undefined && first.toMs < atMs - TIMELINE_MS * 1.1;
  if (!isOld && track.spans.length <= SPANS_MAX) return;
  const kept = track.spans.filter(({ toMs }) => toMs === undefined || toMs >= atMs - TIMELINE_MS);
  const excess = Math.max(0, kept.length - Math.floor(SPANS_MAX * 0.9));
  let dropped = 0;
  track.spans = kept.filter(({ toMs }) => toMs === undefined || dropped++ >= excess);
}
