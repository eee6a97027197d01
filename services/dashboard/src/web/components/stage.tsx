/** Queues and engines, with calls as chips that move between them. */
import { useEffect, useRef } from "preact/hooks";
import { levelName } from "../../shared/format.ts";
import { nameOf, type PoolModel } from "../../shared/pool-model.ts";
import { type Chip, type EngineBox, type Lane, layOut, type StageLayout } from "../../shared/stage-layout.ts";
import { useWidth } from "./use-width.ts";

/** More moves at once than this nobody can follow: they jump, which also costs less. */
const ANIMATED_MOVES_MAX = 24;

export interface StageProps {
  model: PoolModel;
  /** Rises with each draw. */
  version: number;
  onProgram?: (key: string) => void;
  /** Shown in words for readers of the screen. */
  label: string;
}

export function Stage({ model, onProgram, label }: StageProps) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const places = useRef(new Map<string, string>());
  const layout = width > 0 ? layOut(model, width) : undefined;
  const moves = layout ? countMoves(layout, places.current) : 0;
  useEffect(() => {
    places.current = new Map(layout?.chips.map(({ call, x, y }) => [call.call, `${x},${y}`]));
  });
  const open = (event: MouseEvent) => {
    const found = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-program]") : null;
    if (found?.dataset.program !== undefined) onProgram?.(found.dataset.program);
  };
  return (
    <div class="stage-frame" ref={ref}>
      {layout && (
        // The same is in the table of programs, which can be reached by keyboard.
        // biome-ignore lint/a11y/useKeyWithClickEvents: see above
        <div
          class={`stage ${moves <= ANIMATED_MOVES_MAX ? "moving" : ""}`}
          role="img"
          aria-label={`${label}: ${describe(layout)}`}
          style={{ height: `${layout.height}px` }}
          onClick={open}
        >
          {layout.lanes.map((lane) => (
            <LaneView key={lane.name} lane={lane} isSingle={layout.lanes.length === 1} />
          ))}
          {layout.engines.map((box) => (
            <EngineView key={box.engine.engine} box={box} />
          ))}
          {layout.chips.map((chip) => (
            <ChipView key={chip.call.call} chip={chip} />
          ))}
        </div>
      )}
      {layout && layout.hiddenEngines > 0 && <p class="note">and {layout.hiddenEngines} more engines</p>}
    </div>
  );
}

function countMoves({ chips }: StageLayout, before: ReadonlyMap<string, string>): number {
  let moves = 0;
  for (const { call, x, y } of chips) if (before.has(call.call) && before.get(call.call) !== `${x},${y}`) moves++;
  return moves;
}

/** In one sentence, as the picture says it. */
function describe({ lanes, engines }: StageLayout): string {
  const waiting = lanes.filter((lane) => lane.waiting > 0).map((lane) => `${lane.waiting} in ${lane.name}`);
  const running = engines.map(({ engine, trays }) => {
    const kept = trays.filter(({ count }) => count > 0).map(({ name, count }) => `, ${count} ${name}`);
    return `${engine.engine} runs ${engine.run.length} of ${engine.info.batchCallsMax}${kept.join("")}`;
  });
  return `${waiting.length === 0 ? "no call waits" : `waiting: ${waiting.join(", ")}`}. ${running.join(". ")}`;
}

function LaneView({ lane, isSingle }: { lane: Lane; isSingle: boolean }) {
  return (
    <div
      class={`lane ${isSingle ? "single" : ""}`}
      style={{ transform: `translate(${lane.x}px, ${lane.y}px)`, width: `${lane.w}px`, height: `${lane.h}px` }}
    >
      <span class="lane-name">{isSingle ? "queue" : lane.name}</span>
      <span class="lane-bound">
        {isSingle ? "in order of arrival" : lane.bound === undefined ? "the rest" : `< ${lane.bound}`}
      </span>
      {lane.hidden > 0 && <span class="lane-hidden">+{lane.hidden}</span>}
    </div>
  );
}

const TRAYS = {
  next: "next: takes the slot that frees first",
  parked: "parked: left the batch, its context stays on the engine",
  swapped: "swapped: left the batch, its context is in host memory",
} as const;

function EngineView({ box }: { box: EngineBox }) {
  const { engine, x, y, w, h, slots, trays, bar } = box;
  const { info, state, run } = engine;
  return (
    <div
      class={`engine ${state}`}
      style={{ transform: `translate(${x}px, ${y}px)`, width: `${w}px`, height: `${h}px` }}
    >
      <div class="engine-head">
        <b>{engine.engine}</b>
        <span class="engine-use">
          {state === "suspect"
            ? "silent"
            : `${run.length} of ${info.batchCallsMax}${state === "draining" ? ", leaving" : ""}`}
          {box.hiddenSlots > 0 ? ` (${slots.length} drawn)` : ""}
        </span>
      </div>
      {slots.map((slot, i) => (
        <div
          key={i}
          class="slot"
          style={{
            transform: `translate(${slot.x - x}px, ${slot.y - y}px)`,
            width: `${slot.w}px`,
            height: `${slot.h}px`,
          }}
        />
      ))}
      {trays.map((tray) => (
        <div
          key={tray.name}
          class="tray"
          title={TRAYS[tray.name]}
          style={{ transform: `translate(${tray.x - x}px, ${tray.y - y}px)`, width: `${tray.w}px` }}
        >
          <span class="tray-name">{tray.name}</span>
          <b>{tray.count > 0 ? tray.count : "–"}</b>
          {tray.looks.map((look, i) => (
            <i key={`${i} ${look}`} class={`dot look-${look}`} />
          ))}
        </div>
      ))}
      <KvBar box={box} style={{ transform: `translate(${bar.x - x}px, ${bar.y - y}px)`, width: `${bar.w}px` }} />
    </div>
  );
}

/** KV memory by what it is for. */
function KvBar({ box, style }: { box: EngineBox; style: Record<string, string> }) {
  const { info, kv, retained } = box.engine;
  if (!kv) return null;
  const share = (blocks: number) => `${Math.min(100, (100 * blocks) / info.kvBlocks)}%`;
  const parts = [
    `KV ${Math.round((100 * (kv.running + kv.parked + kv.retained)) / info.kvBlocks)} %`,
    info.hostBlocks ? `host memory ${Math.round((100 * kv.host) / info.hostBlocks)} %` : "",
    retained.length > 0 ? `${retained.length} retained` : "",
  ];
  return (
    <div
      class="kv"
      style={style}
      title="KV memory of the engine: running, parked, retained for the programs' next calls"
    >
      <div class="kv-bar">
        <i class="kv-running" style={{ width: share(kv.running) }} />
        <i class="kv-parked" style={{ width: share(kv.parked) }} />
        <i class="kv-retained" style={{ width: share(kv.retained) }} />
      </div>
      <span>{parts.filter((part) => part !== "").join(", ")}</span>
    </div>
  );
}

function ChipView({ chip }: { chip: Chip }) {
  const { call, x, y, w, h, look, label, where, program } = chip;
  const title = `${nameOf(program)}, call ${nameOf(call.call)}: ${call.state}, ${levelName(call.level)}`;
  return (
    <div
      class={`chip look-${look} ${where} ${call.state}`}
      data-program={program}
      data-call={call.call}
      title={title}
      style={{ transform: `translate(${x}px, ${y}px)`, width: `${w}px`, height: `${h}px` }}
    >
      {label}
    </div>
  );
}
