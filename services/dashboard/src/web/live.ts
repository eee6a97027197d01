/**
 * The live model: a stream of events for the pool that is shown. It is closed while nobody looks at the page, and
 * begins again with a shot. A draw is asked for at most every `DRAW_EVERY_MS`.
 */
import { signal } from "@preact/signals";
import { PoolModel } from "../shared/pool-model.ts";
import type { PoolEvent, PoolSummary } from "../shared/wire.ts";
import { stats } from "./stats.ts";

const DRAW_EVERY_MS = 100;
/** A page may keep its thread busy with drawing for this share of the time; a slow machine draws less often. */
const DRAW_SHARE_MAX = 0.2;
const DRAW_EVERY_MS_MAX = 400;
const POOLS_AGAIN_MS = 1_000;

/** `unknown`: there is no such pool, yet. */
export type Connection = "connecting" | "unknown" | "live" | "lost" | "away" | "refused";

export const connection = signal<Connection>("connecting");
export const pools = signal<PoolSummary[] | undefined>(undefined);
export const model = signal<PoolModel | undefined>(undefined);
/** Rises with each draw; what shows the model reads it. */
export const draw = signal(0);

let source: EventSource | undefined;
let watched: string | undefined;
let lastDrawAt = 0;
/** Of the last draws: script, layout and paint. */
let drawCostMs = 0;
let drawTimer: ReturnType<typeof setTimeout> | undefined;

/** Follows this pool from now on. */
export function watch(pool: string): void {
  if (watched === pool) return;
  watched = pool;
  model.value = undefined;
  open();
}

/** Asks which pools there are until there is one. */
export async function findPools(): Promise<void> {
  while (pools.peek() === undefined || (pools.peek()?.length === 0 && watched === undefined)) {
    try {
      const answer = await fetch("/api/pools");
      const found = (await answer.json()) as { pools: PoolSummary[] };
      pools.value = found.pools;
    } catch {
      connection.value = "lost";
    }
    if ((pools.peek()?.length ?? 0) > 0) return;
    await new Promise((resolve) => setTimeout(resolve, POOLS_AGAIN_MS));
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) close();
  else open();
});

function close(): void {
  source?.close();
  source = undefined;
}

function open(): void {
  close();
  if (watched === undefined || document.hidden) return;
  connection.value = "connecting";
  const opened = new EventSource(`/api/pools/${encodeURIComponent(watched)}/events`);
  source = opened;
  opened.addEventListener("message", (event: MessageEvent<string>) => {
    stats.messages++;
    hear(JSON.parse(event.data) as PoolEvent);
  });
  opened.addEventListener("refused", () => {
    connection.value = "refused";
  });
  opened.addEventListener("error", () => {
    if (source !== opened || connection.peek() === "refused") return;
    connection.value = "lost";
    // The browser comes again by itself, unless the answer was none of ours.
    if (opened.readyState === EventSource.CLOSED)
      setTimeout(() => {
        if (source === opened) open();
      }, POOLS_AGAIN_MS);
  });
}

function hear(event: PoolEvent): void {
  switch (event.kind) {
    case "shot":
      stats.shots++;
      model.value = new PoolModel(event.shot);
      connection.value = "live";
      break;
    case "changes":
      model.peek()?.apply(event.changes);
      connection.value = "live";
      break;
    case "pools":
      pools.value = event.pools;
      if (isBeginning() && !event.pools.some(({ pool }) => pool === watched)) connection.value = "unknown";
      return;
    case "away":
      connection.value = "away";
      return;
  }
  askForDraw();
}

/** Nothing has been heard of the pool on this stream; of one that is shown, a service that has just begun may not know yet. */
function isBeginning(): boolean {
  const state = connection.peek();
  return state === "connecting" || (state === "lost" && model.peek() === undefined);
}

export function askForDraw(): void {
  if (drawTimer !== undefined) return;
  const everyMs = Math.min(DRAW_EVERY_MS_MAX, Math.max(DRAW_EVERY_MS, drawCostMs / DRAW_SHARE_MAX));
  const waitMs = Math.max(0, lastDrawAt + everyMs - performance.now());
  drawTimer = setTimeout(() => {
    drawTimer = undefined;
    lastDrawAt = performance.now();
    stats.draws++;
    draw.value++;
    measureDraw(lastDrawAt);
  }, waitMs);
}

/** Components are drawn in a microtask; layout and paint follow in the next frame. */
function measureDraw(beganAt: number): void {
  queueMicrotask(() => {
    const scriptMs = performance.now() - beganAt;
    requestAnimationFrame((frameAt) => {
      const frameBeganAt = Math.max(frameAt, performance.now());
      setTimeout(() => {
        drawCostMs = 0.7 * drawCostMs + 0.3 * (scriptMs + performance.now() - frameBeganAt);
      });
    });
  });
}
