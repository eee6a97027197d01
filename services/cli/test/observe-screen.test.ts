import { PoolPicture, type ViewCall, type ViewEngine, type ViewPool, type ViewProgram } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { cells } from "../src/observe/text.ts";
import { Letters } from "../src/observe/top/letters.ts";
import { type Size, type TopView, topLines } from "../src/observe/top/screen.ts";
import { keysOf } from "../src/observe/top/terminal.ts";

const pool: ViewPool = {
  pool: "smollm2",
  epoch: 3,
  leader: "l",
  policy: "plas",
  waitingByLevel: [1, 0, 3, 0, 0, 0, 12],
  levelBoundsMs: [100, 300, 700, 1_500, 3_100, 6_300],
  queuedCalls: 18,
  runningCalls: 2,
  queuedCallsMax: 10_000,
  programs: 3,
  endsPerSecond: 2.5,
  dispatching: true,
  totals: { demotions: 4, promotions: 1, preemptions: 2, ended: 99, failovers: 1 },
};
const program = (id: string, over: Partial<ViewProgram> = {}): ViewProgram => ({
  tenant: "default",
  program: id,
  state: "open",
  serviceMs: 5_000,
  waitingMs: 1_000,
  attained: 5_000,
  level: 2,
  calls: { waiting: 1, running: 1, ended: 4 },
  startedAtMs: 0,
  lastAtMs: 0,
  ...over,
});
const call = (id: string, of: string): ViewCall => ({
  ...{ call: `default/${id}`, program: of, state: "running", level: 2, engine: "e1", attempt: 1, arrivedAtMs: 0 },
  ...{ waitingMs: 0, serviceMs: 0, promptTokens: 1, completionTokens: 1 },
});
const engine = (id: string, over: Partial<ViewEngine> = {}): ViewEngine => ({
  engine: id,
  incarnation: "i",
  state: "up",
  info: {
    ...{ kind: "llama", models: ["smollm2"], preemption: "swap", batchCallsMax: 4, residentCallsMax: 8 },
    ...{ heldCallsMax: 64, kvBlocks: 100, blockTokens: 16, contextTokensMax: 2_048 },
  },
  run: ["default/c1", "default/c2"],
  reserve: [],
  keep: [{ call: "default/c3", tier: "host" }],
  retained: [],
  counters: { steps: 10, stepCalls: 20, busyMs: 5, tokens: 40, batchMax: 4 },
  kv: { running: 20, parked: 5, retained: 5, host: 3 },
  ...over,
});

function view(
  over: Partial<TopView> = {},
  engines = [engine("e1"), engine("e2", { run: [], state: "suspect" })],
): TopView {
  const picture = new PoolPicture();
  const programs = [
    program("tea"),
    program("coffee", { serviceMs: 90_000 }),
    program("done", { calls: { waiting: 0, running: 0, ended: 9 } }),
  ];
  picture.addPage({
    pool,
    number: 1,
    atMs: 1,
    programs,
    calls: [call("c1", "tea"), call("c2", "coffee"), call("c3", "tea")],
    engines,
  });
  return {
    url: "nats://127.0.0.1:4222",
    clock: "12:00:00",
    pools: [{ pool: "smollm2", picture, hasLeader: true }],
    sort: "service",
    offset: 0,
    rateOf: () => ({ tokensPerSecond: 123.4, busyShare: 0.93 }),
    letters: new Letters(),
    problem: undefined,
    colors: false,
    ...over,
  };
}

const sizes: Size[] = [
  { columns: 80, rows: 24 },
  { columns: 200, rows: 60 },
  { columns: 40, rows: 10 },
  { columns: 133, rows: 17 },
];

it("shows attained service in the pool's unit", () => {
  const shownAs = (more: Partial<ViewPool>) => {
    const shown = view();
    const [one] = shown.pools;
    if (one?.picture?.pool) one.picture.pool = { ...one.picture.pool, ...more };
    return topLines(shown, { columns: 133, rows: 24 }).find((line) => line.includes("tea"));
  };
  expect(shownAs({})).toMatch(/ 5\.0 s +running/);
  expect(shownAs({ measures: "tokens" })).toMatch(/ 5\.0k tok +running/);
});

describe("the screen of top", () => {
  it.each(sizes)("fills $columns×$rows exactly, with and without colours", (size) => {
    for (const colors of [false, true]) {
      const many = Array.from({ length: 90 }, (_, n) =>
        engine(`engine-with-a-long-name-${n}`, { run: ["default/c1"] }),
      );
      for (const shown of [
        view({ colors }),
        view({ colors }, many),
        view({ colors, pools: [] }),
        view({ colors, problem: "x".repeat(300) }),
      ]) {
        const lines = topLines(shown, size);
        expect(lines).toHaveLength(size.rows);
        for (const line of lines) expect(cells(line)).toBeLessThanOrEqual(size.columns);
      }
    }
  });

  it("shows pools, levels, engines with their slots, and programs, on 80×24", () => {
    const lines = topLines(view(), { columns: 80, rows: 24 });
    const text = lines.join("\n");
    expect(lines[0]).toMatch(/autellix top {2}nats:\/\/127\.0\.0\.1:4222 .*sort service.*12:00:00/);
    expect(text).toMatch(/smollm2 {2}plas {2}running 2 {2}waiting 16 {2}ends 2\.5\/s/);
    expect(text).toMatch(/Q1 1 .*Q3 3 .*Q7 12/);
    // The letters of the slots are those of the programs below.
    const [, first, second] =
      /e1 +\[(\w)(\w)··\] {2}2\/4 {2}swapped 1 {2}kv 30% {2}123 tok\/s {2}busy 93%/.exec(text) ?? [];
    expect(text).toMatch(new RegExp(` ${first} tea +Q3 `));
    expect(text).toMatch(new RegExp(` ${second} coffee +Q3 `));
    expect(text).toMatch(/e2 +\[····\] SILENT/);
    // By service, and what has no call last.
    expect(lines.findIndex((line) => line.includes("coffee"))).toBeLessThan(
      lines.findIndex((line) => line.includes("tea")),
    );
    expect(lines.findIndex((line) => line.includes("tea"))).toBeLessThan(
      lines.findIndex((line) => line.includes("done")),
    );
  });

  it("keeps its last picture when the leader is silent, and says so", () => {
    const [shown] = view().pools;
    if (!shown) throw new Error("no pool");
    const text = topLines(view({ pools: [{ ...shown, hasLeader: false }] }), { columns: 80, rows: 24 }).join("\n");
    expect(text).toContain("the leader is silent");
    expect(text).toContain("coffee");
    const none = topLines(view({ pools: [{ pool: "x", picture: undefined, hasLeader: false }] }), {
      columns: 80,
      rows: 24,
    });
    expect(none.join("\n")).toContain("no leader answers; ask: autellix doctor");
  });

  it("scrolls through 10,000 programs and sorts them at once", () => {
    const picture = new PoolPicture();
    const programs = Array.from({ length: 10_000 }, (_, n) => program(`p${n}`, { serviceMs: n }));
    picture.addPage({ pool, number: 1, atMs: 1, programs, calls: [], engines: [] });
    const lines = topLines(view({ pools: [{ pool: "x", picture, hasLeader: true }], offset: 5 }), {
      columns: 80,
      rows: 24,
    });
    expect(lines.find((line) => / p\d/.test(line))).toContain(" p9994 ");
    expect(lines.at(-1)).toMatch(/programs 6 to \d+ of 10000/);
  });

  it("gives letters back when their programs are gone", () => {
    const letters = new Letters();
    const first = letters.of("a")?.text;
    for (let n = 0; n < 61; n++) expect(letters.of(`b${n}`)).toBeDefined();
    expect(letters.of("one too many")).toBeUndefined();
    for (let n = 0; n < 30; n++) {
      letters.begin();
      letters.of("b1");
    }
    expect(letters.of("another")?.text).toBe(first);
  });

  it("reads keys, also several in one piece", () => {
    expect(keysOf("s\u001b[B\u001b[5~x\u0003q")).toEqual(["sort", "down", "page up", "quit", "quit"]);
  });
});
