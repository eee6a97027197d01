/**
 * Where everything stands on the stage: queues Q1 … QK on the left, their heads towards the engines; engines on the
 * right, each with the slots of its batch. A call that left a batch stands in the queue of its level, marked as parked,
 * swapped or evicted; its engine shows whose contexts it keeps. Pure, so that a call that moves is a chip whose place
 * changes. Sizes in CSS pixels.
 */
import type { ViewCall, ViewEngine, ViewPool } from "@autellix/protocol/view";
import { chipLabel, formatAttained, levelName } from "./format.ts";
import { type PoolModel, programKeyOf } from "./pool-model.ts";

/** Engines on the stage; the process table and the timeline name the others. */
export const ENGINES_SHOWN_MAX = 12;
/** Slots of one engine that are drawn. */
export const SLOTS_SHOWN_MAX = 128;
export const LEVELS_SHOWN_MAX = 12;

const NARROW_PX = 720;
const LANE_PX = 30;
const CHIP_PX = 24;
const GAP_PX = 4;
const LANE_LABEL_PX = 118;
/** A single queue has rows instead of levels. */
const SINGLE_ROWS = 5;
const ENGINE_PX_MIN = 250;
const ENGINE_PADDING_PX = 10;
const ENGINE_HEAD_PX = 26;
const SLOT_PX = 44;
const SLOT_HEIGHT_PX = 30;
const SMALL_SLOT_PX = 14;
const SLOT_PX_MAX = 400;
const TRAY_PX = 19;
const BAR_PX = 24;
/** Of contexts that an engine keeps. */
const DOTS_MAX = 16;
/** Batches up to this have slots that are large enough for a label. */
const LABELLED_BATCH_MAX = 32;

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface Lane extends Box {
  name: string;
  /** `to 2.0 s`, in words of the ladder; empty for a single queue. */
  bound: string | undefined;
  waiting: number;
  /** Waiting calls that have no room on the stage. */
  hidden: number;
}

export interface Tray extends Box {
  name: "next" | "parked" | "swapped";
  count: number;
  /** Looks of the programs; the first ones. */
  looks: number[];
}

export interface EngineBox extends Box {
  engine: ViewEngine;
  slots: Box[];
  hiddenSlots: number;
  trays: Tray[];
  bar: Box;
}

export interface Chip extends Box {
  call: ViewCall;
  program: string;
  look: number;
  /** Empty when there is no room for one. */
  label: string;
  where: "queue" | "slot";
}

export interface StageLayout {
  width: number;
  height: number;
  lanes: Lane[];
  engines: EngineBox[];
  hiddenEngines: number;
  chips: Chip[];
  isNarrow: boolean;
}

export function layOut(model: PoolModel, width: number): StageLayout {
  const isNarrow = width < NARROW_PX;
  const queueWidth = isNarrow ? width : Math.round(width * 0.42);
  const chips: Chip[] = [];
  const levels = Math.min(LEVELS_SHOWN_MAX, Math.max(1, model.pool.waitingByLevel.length));
  const inBatch = new Set<string>();
  for (const { run } of model.engines.values()) for (const id of run) inBatch.add(id);
  const lanes = layOutLanes(model, levels, queueWidth, inBatch, chips);
  const lanesEnd = lanes.reduce((end, { y, h }) => Math.max(end, y + h), 0);
  const left = isNarrow ? 0 : queueWidth + 28;
  const top = isNarrow ? lanesEnd + 16 : 0;
  const all = [...model.engines.values()].sort((a, b) => (a.engine < b.engine ? -1 : 1));
  const shown = all.slice(0, ENGINES_SHOWN_MAX);
  const engines = layOutEngines(model, shown, { x: left, y: top, w: width - left, h: 0 }, chips);
  const enginesEnd = engines.reduce((end, { y, h }) => Math.max(end, y + h), top);
  return {
    width,
    height: Math.max(lanesEnd, enginesEnd),
    lanes,
    engines,
    hiddenEngines: all.length - shown.length,
    chips,
    isNarrow,
  };
}

function chip(model: PoolModel, call: ViewCall, box: Box, where: Chip["where"], hasLabel: boolean): Chip {
  const program = programKeyOf(call);
  return {
    ...box,
    call,
    program,
    look: model.colours.of(program),
    label: hasLabel ? chipLabel(call.program, where === "slot" ? 4 : 3) : "",
    where,
  };
}

function layOutLanes(
  model: PoolModel,
  levels: number,
  width: number,
  inBatch: ReadonlySet<string>,
  chips: Chip[],
): Lane[] {
  const waiting: ViewCall[][] = Array.from({ length: levels }, () => []);
  for (const call of model.calls.values()) {
    if (call.state === "running" || call.state === "ending" || inBatch.has(call.call)) continue;
    waiting[Math.min(call.level, levels - 1)]?.push(call);
  }
  const rows = levels === 1 ? SINGLE_ROWS : 1;
  const perRow = Math.max(1, Math.floor((width - LANE_LABEL_PX - GAP_PX) / (CHIP_PX + GAP_PX)));
  let y = 0;
  return waiting.map((calls, level) => {
    const entered = ({ call, arrivedAtMs }: ViewCall) => model.enteredMs.get(call) ?? arrivedAtMs;
    calls.sort((a, b) => entered(a) - entered(b) || (a.call < b.call ? -1 : 1));
    const h = rows * (CHIP_PX + GAP_PX) + 2;
    const room = calls.length > perRow * rows ? perRow * rows - 1 : perRow * rows;
    for (const [place, call] of calls.slice(0, room).entries()) {
      const x = width - (CHIP_PX + GAP_PX) * ((place % perRow) + 1);
      const box = { x, y: y + 3 + Math.floor(place / perRow) * (CHIP_PX + GAP_PX), w: CHIP_PX, h: CHIP_PX };
      chips.push(chip(model, call, box, "queue", true));
    }
    const lane: Lane = {
      name: levelName(level),
      bound: boundOf(model.pool, level),
      waiting: calls.length,
      hidden: Math.max(0, calls.length - room),
      x: 0,
      y,
      w: width,
      h: Math.max(LANE_PX, h),
    };
    y += lane.h + GAP_PX;
    return lane;
  });
}

function layOutEngines(model: PoolModel, engines: readonly ViewEngine[], area: Box, chips: Chip[]): EngineBox[] {
  const columns = Math.max(1, Math.min(engines.length, Math.floor((area.w + 12) / (ENGINE_PX_MIN + 12))));
  const w = Math.floor((area.w - 12 * (columns - 1)) / columns);
  const boxes: EngineBox[] = [];
  const tops = Array.from({ length: columns }, () => area.y);
  for (const [i, engine] of engines.entries()) {
    const column = i % columns;
    const box = layOutEngine(model, engine, area.x + column * (w + 12), tops[column] ?? area.y, w, chips);
    tops[column] = box.y + box.h + 12;
    boxes.push(box);
  }
  return boxes;
}

function layOutEngine(model: PoolModel, engine: ViewEngine, x: number, y: number, w: number, chips: Chip[]): EngineBox {
  const inner = w - 2 * ENGINE_PADDING_PX;
  const left = x + ENGINE_PADDING_PX;
  const count = Math.min(SLOTS_SHOWN_MAX, engine.info.batchCallsMax);
  const isLarge = count <= LABELLED_BATCH_MAX;
  const least = isLarge ? SLOT_PX : SMALL_SLOT_PX;
  const slotHeight = isLarge ? SLOT_HEIGHT_PX : SMALL_SLOT_PX;
  const gap = isLarge ? GAP_PX : 2;
  const perRow = Math.max(1, Math.min(count, Math.floor((inner + gap) / (least + gap))));
  const slotWidth = isLarge ? Math.min(SLOT_PX_MAX, Math.floor((inner + gap) / perRow) - gap) : SMALL_SLOT_PX;
  const slots = Array.from({ length: count }, (_, i) => ({
    x: left + (i % perRow) * (slotWidth + gap),
    y: y + ENGINE_HEAD_PX + 6 + Math.floor(i / perRow) * (slotHeight + gap),
    w: slotWidth,
    h: slotHeight,
  }));
  for (const id of engine.run) {
    const call = model.calls.get(id);
    const slot = slots[model.timeline.laneOf(engine.engine, id) ?? slots.length];
    if (call && slot) chips.push(chip(model, call, slot, "slot", isLarge));
  }
  const slotsEnd = (slots.at(-1)?.y ?? y) + slotHeight + 8;
  const known = (ids: readonly string[]) => ids.flatMap((id) => model.calls.get(id) ?? []);
  const kept = known(engine.keep.map(({ call }) => call));
  const tiers = new Map(engine.keep.map(({ call, tier }) => [call, tier]));
  const isSwapped = ({ state, call }: ViewCall) =>
    state === "swapped" || (state !== "parked" && tiers.get(call) === "host");
  const contents = [
    ["next", known(engine.reserve)],
    ["parked", kept.filter((call) => !isSwapped(call))],
    ["swapped", kept.filter(isSwapped)],
  ] as const;
  const trays = contents.map(([name, calls], i) => {
    const looks = calls.slice(0, DOTS_MAX).map((call) => model.colours.of(programKeyOf(call)));
    return { name, count: calls.length, looks, x: left, y: slotsEnd + i * TRAY_PX, w: inner, h: TRAY_PX };
  });
  const barY = slotsEnd + contents.length * TRAY_PX + 6;
  const barHeight = engine.kv ? BAR_PX : 0;
  const h = barY + barHeight + ENGINE_PADDING_PX - y;
  const hiddenSlots = engine.info.batchCallsMax - count;
  return { engine, x, y, w, h, slots, hiddenSlots, trays, bar: { x: left, y: barY, w: inner, h: barHeight } };
}

/** The attained service below which calls enter the level, as people read it; undefined for the last one. */
function boundOf({ levelBoundsMs, measures }: ViewPool, level: number): string | undefined {
  const bound = levelBoundsMs[level];
  return bound === undefined ? undefined : formatAttained(bound, measures);
}
