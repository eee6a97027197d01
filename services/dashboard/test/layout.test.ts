import { describe, expect, it } from "vitest";
import { chipLabel, formatAttained, formatBytes, formatCount, formatMs } from "../src/shared/format.ts";
import { type Box, layOut } from "../src/shared/stage-layout.ts";
import { sortedRows, visibleRange } from "../src/shared/table-rows.ts";
import { layOutTimeline, ticksOf } from "../src/shared/timeline-layout.ts";
import { call, changes, emptyModel, engine, pool, program } from "./fixture.ts";

const inside = (outer: Box, { x, y, w, h }: Box) =>
  x >= outer.x && y >= outer.y && x + w <= outer.x + outer.w && y + h <= outer.y + outer.h;

const overlap = (a: Box, b: Box) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

describe.each([350, 600, 1_240])("the stage, %i pixels wide", (width) => {
  const model = emptyModel();
  const calls = Array.from({ length: 90 }, (_, i) =>
    call(String(i), { level: i % 3, program: `p${i}`, arrivedAtMs: i }),
  );
  const running = [call("r1", { state: "running", engine: "e" }), call("r2", { state: "running", engine: "e" })];
  const parked = call("k", { state: "parked", level: 2, engine: "e", serviceMs: 5, arrivedAtMs: -5 });
  model.apply(
    changes(100, {
      calls: [...calls, ...running, parked],
      engines: [engine("e", ["r1", "r2"], { keep: [{ call: "t/k", tier: "engine" }] }), engine("f")],
    }),
  );
  const layout = layOut(model, width);

  it("has everything inside, and nothing on top of another", () => {
    const all = { x: 0, y: 0, w: layout.width, h: layout.height };
    for (const chip of layout.chips) expect(inside(all, chip), JSON.stringify(chip)).toBe(true);
    for (const box of layout.engines) expect(inside(all, box)).toBe(true);
    for (const [i, one] of layout.chips.entries())
      for (const other of layout.chips.slice(i + 1)) expect(overlap(one, other)).toBe(false);
  });

  it("counts what it has no room for", () => {
    for (const [level, lane] of layout.lanes.entries()) {
      const drawn = layout.chips.filter((chip) => chip.where === "queue" && chip.call.level === level).length;
      expect(drawn + lane.hidden).toBe(lane.waiting);
    }
  });

  it("has running calls in slots, and a parked one in the queue of its level, counted by its engine", () => {
    const slots = layout.chips.filter(({ where }) => where === "slot").map((chip) => chip.call.call);
    expect(slots.sort()).toEqual(["t/r1", "t/r2"]);
    expect(layout.chips.find((chip) => chip.call.call === "t/k")).toMatchObject({ where: "queue", call: { level: 2 } });
    const [e] = layout.engines;
    expect(e?.trays.find(({ name }) => name === "parked")?.count).toBe(1);
  });

  it("has the head of a queue at its engines' end, in order of arrival", () => {
    const [head] = layout.chips.filter(({ where, call: { level } }) => where === "queue" && level === 0);
    const others = layout.chips.filter(({ where, call: { level } }) => where === "queue" && level === 0);
    expect(head?.call.call).toBe("t/0");
    expect(Math.max(...others.map(({ x }) => x))).toBe(head?.x);
  });
});

it("a single queue has rows", () => {
  const model = emptyModel();
  model.apply(
    changes(1, {
      pool: pool({ waitingByLevel: [60], levelBoundsMs: [] }),
      calls: Array.from({ length: 60 }, (_, i) => call(String(i))),
    }),
  );
  const layout = layOut(model, 500);
  expect(layout.lanes).toHaveLength(1);
  expect(new Set(layout.chips.map(({ y }) => y)).size).toBeGreaterThan(1);
});

it("attained service is in the policy's unit, and so are the bounds of the levels", () => {
  expect([formatAttained(1_400, undefined), formatAttained(1_400, "time")]).toEqual(["1.4 s", "1.4 s"]);
  expect(formatAttained(12_345, "tokens")).toBe("12.3k tok");
  const model = emptyModel();
  const boundsOf = (measures?: "tokens") => {
    model.apply(changes(1, { pool: pool({ levelBoundsMs: [500, 1_500], ...(measures ? { measures } : {}) }) }));
    return layOut(model, 500).lanes.map(({ bound }) => bound);
  };
  expect(boundsOf()).toEqual(["500 ms", "1.5 s", undefined]);
  expect(boundsOf("tokens")).toEqual(["500 tok", "1500 tok", undefined]);
});

describe("the timeline's layout", () => {
  it("clips bars to the window and leaves out what is outside", () => {
    const model = emptyModel();
    model.apply(changes(0, { calls: [call("1"), call("2")], engines: [engine("e", ["1"])] }));
    model.apply(changes(1_000, { engines: [engine("e", ["2"])], gone: { programs: [], calls: ["t/1"], engines: [] } }));
    const { bars } = layOutTimeline(model, 100, { fromMs: 500, toMs: 1_500, nowMs: 1_500 });
    expect(bars.map(({ x, w }) => [x, w])).toEqual([
      [0, 50],
      [50, 50],
    ]);
    expect(layOutTimeline(model, 100, { fromMs: 1_100, toMs: 1_500, nowMs: 1_500 }).bars).toHaveLength(1);
  });

  it("has ticks at round times with room between them", () => {
    const ticks = ticksOf({ fromMs: 61_500, toMs: 121_500, nowMs: 0 }, 600);
    expect(ticks.every(({ atMs }) => atMs % 1_000 === 0)).toBe(true);
    for (const [i, tick] of ticks.entries())
      if (i > 0) expect(tick.x - (ticks[i - 1]?.x ?? 0)).toBeGreaterThanOrEqual(90);
  });
});

describe("the process table", () => {
  const rows = [
    program("p10", { serviceMs: 5, calls: { waiting: 1, running: 0, ended: 0 } }),
    program("p2", { serviceMs: 5 }),
    program("p1", { serviceMs: 9, state: "ended", tenant: "other" }),
  ];
  const names = (
    column: "program" | "service",
    descending: boolean,
    text = "",
    show: "all" | "active" | "ended" = "all",
  ) => sortedRows(rows, { column, descending }, { text, show }).rows.map((row) => row.program);

  it("sorts numbers in names as numbers", () => {
    expect(names("program", false)).toEqual(["p1", "p2", "p10"]);
    expect(names("program", true)).toEqual(["p10", "p2", "p1"]);
  });

  it("keeps equal rows in the order of their names", () => {
    expect(names("service", true)).toEqual(["p1", "p2", "p10"]);
    expect(names("service", false)).toEqual(["p2", "p10", "p1"]);
  });

  it("filters by words of tenant and name, and by state", () => {
    expect(names("program", false, "OTHER p")).toEqual(["p1"]);
    expect(names("program", false, "", "active")).toEqual(["p10"]);
    expect(names("program", false, "", "ended")).toEqual(["p1"]);
    expect(sortedRows(rows, { column: "last", descending: true }, { text: "none", show: "all" })).toEqual({
      rows: [],
      total: 3,
    });
  });

  it("shows the rows in view and a few more", () => {
    expect(visibleRange(0, 400, 32, 10_000)).toEqual({ from: 0, to: 19 });
    expect(visibleRange(32_000, 400, 32, 10_000)).toEqual({ from: 994, to: 1_019 });
    expect(visibleRange(320_000, 400, 32, 10_000)).toEqual({ from: 9_994, to: 10_000 });
    expect(visibleRange(320_000, 400, 32, 3)).toEqual({ from: 3, to: 3 });
  });
});

describe("texts", () => {
  it("times", () => {
    expect([0, 0.000_4, 0.25, 0.999_6, 950, 1_400, 12_300, 200_000, 7_500_000].map(formatMs)).toEqual([
      "0 ms",
      "0 ms",
      "250 µs",
      "1 ms",
      "950 ms",
      "1.4 s",
      "12 s",
      "3 m 20 s",
      "2 h 5 m",
    ]);
    expect(formatMs(Number.POSITIVE_INFINITY)).toBe("∞");
  });

  it("counts and bytes", () => {
    expect([9_999, 12_300, 4_500_000].map(formatCount)).toEqual(["9999", "12.3k", "4.5M"]);
    expect([512, 1_536, 200 * 1_048_576].map(formatBytes)).toEqual(["512 B", "1.5 KiB", "200 MiB"]);
  });

  it("labels of chips tell neighbours apart", () => {
    expect(
      ["long-3", "short-12", "research-8058", "tea", "3f2a77c1-9b", "agent 7"].map((name) => chipLabel(name, 3)),
    ).toEqual(["L3", "S12", "R58", "tea", "3f2", "A7"]);
    expect(chipLabel("research-8058", 4)).toBe("R058");
  });
});
