import { describe, expect, it } from "vitest";
import { COLOURED_MAX, Colours, LOOKS } from "../src/shared/colours.ts";
import { PendingChanges } from "../src/shared/merge.ts";
import { emptyShot, PoolModel, PROGRAMS_MAX } from "../src/shared/pool-model.ts";
import { reconcile } from "../src/shared/reconcile.ts";
import { ENDED_MS, SAMPLES_MAX } from "../src/shared/series.ts";
import { SPANS_MAX } from "../src/shared/timeline.ts";
import { call, changes, emptyModel, ended, engine, pool, program } from "./fixture.ts";

describe("a pool's model", () => {
  it("replaces what changes name, and forgets what is gone", () => {
    const model = emptyModel();
    model.apply(changes(10, { programs: [program("a")], calls: [call("1")], engines: [engine("e")] }));
    model.apply(changes(20, { calls: [call("1", { state: "running", engine: "e" })] }));
    expect(model.calls.get("t/1")?.state).toBe("running");
    const gone = { programs: [{ tenant: "t", program: "a" }], calls: ["t/1"], engines: ["e"] };
    model.apply(changes(30, { gone }));
    expect([model.programs.size, model.calls.size, model.engines.size, model.enteredMs.size]).toEqual([0, 0, 0, 0]);
  });

  it("survives the way to a browser: a shot of it and the same changes give the same shot", () => {
    const model = emptyModel();
    model.apply(
      changes(10, { programs: [program("a")], calls: [call("1"), call("2")], engines: [engine("e", ["1"])] }),
    );
    const copy = new PoolModel(JSON.parse(JSON.stringify(model.snapshot())));
    const next = changes(2_000, {
      calls: [call("1", { state: "parked", level: 1, engine: "e" })],
      engines: [engine("e", ["2"])],
      gone: { programs: [], calls: ["t/2"], engines: [] },
    });
    model.apply(next);
    copy.apply(JSON.parse(JSON.stringify(next)));
    expect(copy.snapshot()).toEqual(model.snapshot());
  });

  it("says what a new state means", () => {
    const model = emptyModel();
    model.apply(changes(1, { calls: [call("1", { state: "running", engine: "e" })] }));
    model.apply(changes(2, { calls: [call("1", { state: "swapped", engine: "e", level: 1 })] }));
    model.apply(changes(3, { calls: [call("1", { state: "running", engine: "e", level: 0 })] }));
    model.apply(changes(4, { calls: [call("1", { state: "waiting", engine: "f", attempt: 2 })] }));
    expect(model.happenings.last.map(({ kind }) => kind)).toEqual([
      "preempted",
      "swapped-out",
      "demoted",
      "swapped-in",
      "promoted",
      "retried",
    ]);
  });

  it.each([
    [{ state: "running", engine: "e" }, ["swapped-in"]],
    [{ state: "parked", engine: "e" }, ["swapped-in"]],
    [{ state: "starting", engine: "e" }, ["swapped-in"]],
    [{ state: "evicted", engine: "e" }, ["evicted"]],
    [{ state: "waiting" }, ["evicted"]],
    [{ state: "running", engine: "f" }, ["evicted"]],
    [{ state: "ending", engine: "e" }, []],
    [{ state: "running", engine: "f", attempt: 2 }, ["retried"]],
  ] as const)("says what becomes of a swapped context: %j", (next, kinds) => {
    const model = emptyModel();
    model.apply(changes(1, { calls: [call("1", { state: "swapped", engine: "e" })] }));
    model.apply(changes(2, { calls: [call("1", next)] }));
    expect(model.happenings.last.map(({ kind }) => kind)).toEqual(kinds);
  });

  it("keeps programs with calls when there are too many", () => {
    const model = emptyModel();
    const many = Array.from({ length: PROGRAMS_MAX + 1 }, (_, i) =>
      program(`p${i}`, { lastAtMs: i, calls: { waiting: i === 0 ? 1 : 0, running: 0, ended: 1 } }),
    );
    model.apply(changes(1, { programs: many }));
    expect(model.programs.size).toBeLessThanOrEqual(PROGRAMS_MAX);
    expect(model.programs.has("t/p0")).toBe(true);
    expect(model.programs.has("t/p1")).toBe(false);
    expect(model.programs.has(`t/p${PROGRAMS_MAX}`)).toBe(true);
  });

  it("measures calls from their arrival to their end, of the last minutes", () => {
    const model = emptyModel();
    const all = Array.from({ length: 100 }, (_, i) =>
      call(String(i), { arrivedAtMs: 1_000 - 10 * (i + 1), waitingMs: 5 }),
    );
    model.apply(changes(999, { calls: all }));
    model.apply(changes(1_000, { gone: { programs: [], calls: all.map((one) => one.call), engines: [] } }));
    const found = model.series.callPercentiles(1_000);
    expect([found?.count, found?.p50, found?.p95, found?.p99]).toEqual([100, 500, 950, 990]);
    expect(model.series.callPercentiles(1_001 + ENDED_MS)).toBeUndefined();
  });

  it("measures a call by its own facts, whether it was seen or not, and once", () => {
    const model = emptyModel();
    model.apply(changes(110, { calls: [call("1", { arrivedAtMs: 100 })] }));
    const gone = { programs: [], calls: ["t/1", "t/2"], engines: [] };
    model.apply(changes(250, { ended: [ended("1"), ended("2", { endedAtMs: 140 })], gone }));
    expect(model.calls.size).toBe(0);
    const found = model.series.callPercentiles(250);
    expect([found?.count, found?.p50, found?.p99]).toEqual([2, 40, 80]);
  });

  it("takes a sample a second, and keeps a bounded number", () => {
    const model = emptyModel();
    for (let at = 0; at < (SAMPLES_MAX + 50) * 1_000; at += 500) model.apply(changes(at));
    expect(model.series.samples.length).toBe(SAMPLES_MAX);
  });
});

describe("a pool that is read again", () => {
  it("keeps its past and loses what is gone", () => {
    const model = emptyModel();
    model.apply(
      changes(5, { programs: [program("a"), program("b")], calls: [call("1")], engines: [engine("e", ["1"])] }),
    );
    const picture = {
      pool: pool({ epoch: 2 }),
      atMs: 50,
      programs: new Map([["t/b", program("b")]]),
      calls: new Map(),
      engines: new Map([["e", engine("e")]]),
    };
    model.apply(reconcile(model, picture));
    expect([...model.programs.keys()]).toEqual(["t/b"]);
    expect(model.calls.size).toBe(0);
    expect(model.timeline.spansOf("e")).toMatchObject([{ call: "t/1", fromMs: 5, toMs: 50, end: "ended" }]);
    expect(model.happenings.last.map(({ kind }) => kind)).toEqual(["joined", "leader"]);
  });
});

describe("changes that wait for a browser", () => {
  it("are the newest of each item", () => {
    const pending = new PendingChanges();
    pending.add(changes(1, { calls: [call("1"), call("2")], engines: [engine("e")], pool: pool() }));
    pending.add(
      changes(2, { calls: [call("1", { state: "running" })], gone: { programs: [], calls: ["t/2"], engines: ["e"] } }),
    );
    pending.add(changes(3, { engines: [engine("e", ["1"])] }));
    const all = pending.take();
    expect(all.atMs).toBe(3);
    expect(all.calls.find((one) => one.call === "t/1")?.state).toBe("running");
    expect(all.gone).toEqual({ programs: [], calls: ["t/2"], engines: [] });
    expect(all.engines).toHaveLength(1);
    expect(pending.isEmpty).toBe(true);
  });

  it("give the same tables as one by one", () => {
    const one = emptyModel();
    const gathered = emptyModel();
    const pending = new PendingChanges();
    const list = [
      changes(1, { calls: [call("1")], programs: [program("a")] }),
      changes(2, { calls: [call("1", { state: "running" }), call("2")] }),
      changes(3, { gone: { programs: [], calls: ["t/1"], engines: [] }, programs: [program("a", { serviceMs: 7 })] }),
      changes(200, { ended: [ended("2"), ended("3")], calls: [call("4")] }),
      changes(210, { gone: { programs: [], calls: ["t/2"], engines: [] } }),
    ];
    for (const each of list) {
      one.apply(each);
      pending.add(each);
    }
    gathered.apply(pending.take());
    expect(gathered.calls).toEqual(one.calls);
    expect(gathered.programs).toEqual(one.programs);
    expect([...gathered.calls.keys()]).toEqual(["t/4"]);
    expect(gathered.series.callPercentiles(210)?.count).toBe(one.series.callPercentiles(210)?.count);
  });
});

describe("a timeline", () => {
  it("gives a call the same lane as long as it is in the batch", () => {
    const model = emptyModel();
    model.apply(changes(10, { calls: [call("1"), call("2"), call("3")], engines: [engine("e", ["1", "2"])] }));
    model.apply(changes(20, { calls: [call("1", { state: "parked" })], engines: [engine("e", ["2", "3"])] }));
    expect(model.timeline.laneOf("e", "t/2")).toBe(1);
    expect(model.timeline.laneOf("e", "t/3")).toBe(0);
    expect(model.timeline.spansOf("e")).toMatchObject([
      { call: "t/1", lane: 0, fromMs: 10, toMs: 20, end: "preempted" },
      { call: "t/2", lane: 1, fromMs: 10 },
      { call: "t/3", lane: 0, fromMs: 20 },
    ]);
  });

  it("ends the stay of a call that has ended", () => {
    const model = emptyModel();
    model.apply(changes(10, { calls: [call("1", { state: "running", engine: "e" })], engines: [engine("e", ["1"])] }));
    model.apply(changes(30, { gone: { programs: [], calls: ["t/1"], engines: [] } }));
    expect(model.timeline.spansOf("e")).toMatchObject([{ toMs: 30, end: "ended" }]);
  });

  it("is bounded", () => {
    const model = emptyModel();
    for (let i = 0; i < 2 * SPANS_MAX; i++)
      model.apply(
        changes(i, {
          calls: [call(String(i))],
          engines: [engine("e", [String(i)])],
          gone: { programs: [], calls: [`t/${i - 1}`], engines: [] },
        }),
      );
    expect(model.timeline.spansOf("e").length).toBeLessThanOrEqual(SPANS_MAX + 1);
    expect(model.timeline.spansOf("e").at(-1)?.call).toBe(`t/${2 * SPANS_MAX - 1}`);
  });
});

describe("colours", () => {
  it("are different for as many programs as there are looks, and stay", () => {
    const colours = new Colours();
    for (let i = 0; i < LOOKS; i++) colours.callCame(`t/${i}`);
    expect(new Set(Array.from({ length: LOOKS }, (_, i) => colours.of(`t/${i}`))).size).toBe(LOOKS);
    const third = colours.of("t/3");
    colours.callCame("t/more");
    expect(colours.of("t/3")).toBe(third);
    expect(new Colours(colours.shot()).of("t/3")).toBe(third);
  });

  it("give away what has become free", () => {
    const colours = new Colours();
    for (let i = 0; i < LOOKS; i++) colours.callCame(`t/${i}`);
    const free = colours.of("t/5");
    colours.callWent("t/5");
    expect(colours.of("t/5")).toBe(free);
    colours.callCame("t/new");
    expect(colours.of("t/new")).toBe(free);
  });

  it("are bounded", () => {
    const colours = new Colours();
    for (let i = 0; i < COLOURED_MAX + 10; i++) colours.callCame(`t/${i}`);
    expect(colours.shot().length).toBe(COLOURED_MAX);
    expect(colours.of(`t/${COLOURED_MAX + 5}`)).toBeLessThan(LOOKS);
  });
});

it("an empty shot makes an empty model", () => {
  expect(new PoolModel(emptyShot(pool(), 5)).snapshot().atMs).toBe(5);
});
