/** What just happened, newest first. */
import { levelName } from "../../shared/format.ts";
import type { Happening, HappeningKind } from "../../shared/happenings.ts";
import { nameOf, type PoolModel } from "../../shared/pool-model.ts";

const SHOWN = 12;

const words: Record<HappeningKind, (happening: Happening) => string> = {
  preempted: () => "left the batch for another program",
  "swapped-out": () => "its context went to host memory",
  "swapped-in": () => "its context came back to the engine",
  evicted: () => "its context was dropped; it will be recomputed",
  demoted: ({ from = 0, to = 0 }) => `used up its quantum: ${levelName(from)} → ${levelName(to)}`,
  promoted: ({ from = 0, to = 0 }) => `had waited too long: ${levelName(from)} → ${levelName(to)}`,
  retried: () => "goes on in a new attempt",
  joined: ({ engine }) => `${engine} joined`,
  silent: ({ engine }) => `${engine} is silent; it gets no new calls`,
  lost: ({ engine }) => `${engine} is lost; its calls go on elsewhere`,
  leader: () => "another scheduler leads now",
};

const names: Record<HappeningKind, string> = {
  preempted: "preempted",
  "swapped-out": "swapped out",
  "swapped-in": "swapped in",
  evicted: "evicted",
  demoted: "demoted",
  promoted: "promoted",
  retried: "retried",
  joined: "engine",
  silent: "engine",
  lost: "engine",
  leader: "leader",
};

const COUNTED: ReadonlySet<HappeningKind> = new Set([
  "preempted",
  "swapped-out",
  "swapped-in",
  "evicted",
  "demoted",
  "promoted",
  "retried",
]);

export interface HappeningsProps {
  model: PoolModel;
  version: number;
  timeText: (atMs: number) => string;
  /** Where there are two of them. */
  id?: string;
  shownMax?: number;
}

export function Happenings({ model, timeText, id = "happenings", shownMax = SHOWN }: HappeningsProps) {
  const counts = (Object.keys(names) as HappeningKind[])
    .filter((kind) => COUNTED.has(kind) && (model.happenings.counts[kind] ?? 0) > 0)
    .map((kind) => `${names[kind]} ${model.happenings.counts[kind]}`);
  const all = model.happenings.last.slice(-shownMax).reverse();
  return (
    <section class="card happenings" aria-labelledby={`${id}-title`}>
      <header class="card-head">
        <h2 id={`${id}-title`}>Just now</h2>
        <p class="about">Preemptions, swaps, demotions, promotions: the scheduler at work.</p>
      </header>
      {all.length === 0 ? (
        <p class="empty">Nothing yet. It fills when calls compete for slots.</p>
      ) : (
        <ol>
          {all.map((one) => (
            <li key={`${one.atMs} ${one.kind} ${one.call ?? one.engine ?? ""}`} class={one.kind}>
              <time>{timeText(one.atMs)}</time>
              <span class={`tag ${one.kind}`}>{names[one.kind]}</span>
              <span class="what">
                {one.program !== undefined && (
                  <>
                    <i class={`dot look-${model.colours.of(one.program)}`} />
                    <b title={nameOf(one.program)}>{nameOf(one.program)}</b>{" "}
                  </>
                )}
                {words[one.kind](one)}
              </span>
            </li>
          ))}
        </ol>
      )}
      {counts.length > 0 && <p class="note counts">Seen so far: {counts.join(", ")}</p>}
    </section>
  );
}
