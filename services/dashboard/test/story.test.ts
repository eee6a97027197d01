import { describe, expect, it } from "vitest";
import { SEGMENTS_MAX, Stories } from "../src/shared/stories.ts";
import { barsOf, type CallStory, criticalPath, pathTimes, threadsOf, WHERES } from "../src/shared/story.ts";
import { call, ended } from "./fixture.ts";

function story(
  id: string,
  arrivedAtMs: number,
  endedAtMs: number | undefined,
  segments: CallStory["segments"] = [],
): CallStory {
  return {
    call: id,
    arrivedAtMs,
    ...(endedAtMs === undefined ? {} : { endedAtMs }),
    segments,
    promptTokens: 1,
    completionTokens: 1,
    attempt: 1,
  };
}

const runs = (fromMs: number) => ({ fromMs, state: "running" as const, level: 0, engine: "e" });

describe("the critical path", () => {
  it("of a chain is all of it, with the tools between", () => {
    const calls = [story("1", 0, 1_000, [runs(200)]), story("2", 3_000, 4_000, [runs(3_000)])];
    expect(criticalPath(calls, 9_000)).toEqual([
      { kind: "call", call: "1", fromMs: 0, toMs: 1_000 },
      { kind: "gap", fromMs: 1_000, toMs: 3_000 },
      { kind: "call", call: "2", fromMs: 3_000, toMs: 4_000 },
    ]);
  });

  it("goes through the branch that ended last (Fig. 9: a fork and its join)", () => {
    const calls = [
      story("root", 0, 2_000),
      story("quick", 2_000, 3_000),
      story("slow", 2_000, 6_000),
      story("join", 6_000, 7_000),
    ];
    expect(criticalPath(calls, 7_000).map((step) => step.call)).toEqual(["root", "slow", "join"]);
  });

  it("has no holes and no overlaps, and adds up to the latency, when ends seem later than what they led to", () => {
    // Changes are gathered for 100 ms: call 2 seems to have come before call 1 had ended.
    const calls = [story("1", 0, 1_080), story("2", 1_010, 2_000), story("3", 2_500, undefined)];
    const path = criticalPath(calls, 3_000);
    expect(path.map((step) => step.call)).toEqual(["1", "2", undefined, "3"]);
    for (const [i, step] of path.entries()) expect(step.fromMs).toBe(path[i - 1]?.toMs ?? 0);
    const times = pathTimes(calls, path);
    expect(WHERES.reduce((sum, where) => sum + times[where], 0)).toBe(3_000);
  });

  it("says where the time went", () => {
    const calls = [
      story("1", 0, 5_000, [
        { fromMs: 0, state: "waiting", level: 0 },
        runs(1_000),
        { fromMs: 2_000, state: "parked", level: 1, engine: "e" },
        { fromMs: 3_000, state: "swapped", level: 1, engine: "e" },
        runs(4_500),
      ]),
      story("2", 6_000, 7_000, [{ fromMs: 6_000, state: "evicted", level: 0 }, runs(6_500)]),
    ];
    expect(pathTimes(calls, criticalPath(calls, 7_000))).toEqual({
      queue: 1_000,
      starting: 0,
      running: 2_000,
      parked: 1_000,
      swapped: 1_500,
      recompute: 500,
      gap: 1_000,
    });
  });

  it("of no calls is empty", () => {
    expect(criticalPath([], 5)).toEqual([]);
  });
});

describe("the bars of a call", () => {
  it("follow each other from its arrival to its end", () => {
    const bars = barsOf(
      story("1", 0, 50, [runs(10), { fromMs: 20, state: "parked", level: 1, engine: "e" }, runs(30)]),
      99,
    );
    expect(bars.map(({ fromMs, toMs, where }) => [fromMs, toMs, where])).toEqual([
      [0, 10, "queue"],
      [10, 20, "running"],
      [20, 30, "parked"],
      [30, 50, "running"],
    ]);
  });
});

it("threads are listed by their first call", () => {
  const calls = [
    { ...story("2", 5, 9), thread: "b" },
    { ...story("1", 1, 2), thread: "a" },
    { ...story("3", 6, 8), thread: "a" },
  ];
  expect(threadsOf(calls).map(({ thread, calls: own }) => [thread, own.map((one) => one.call)])).toEqual([
    ["a", ["1", "3"]],
    ["b", ["2"]],
  ]);
});

describe("stories", () => {
  it("keep what a call did, with the engine and the level", () => {
    const stories = new Stories();
    stories.callChanged(call("1", { arrivedAtMs: 5 }), "t/a", 10);
    stories.callChanged(call("1", { arrivedAtMs: 5, state: "running", engine: "e" }), "t/a", 20);
    stories.callChanged(call("1", { arrivedAtMs: 5, state: "running", engine: "e", serviceMs: 9 }), "t/a", 25);
    stories.callGone(call("1"), "t/a", 40);
    expect(stories.of("t/a")).toMatchObject([
      {
        arrivedAtMs: 5,
        endedAtMs: 40,
        segments: [
          { fromMs: 5, state: "waiting", level: 0 },
          { fromMs: 20, state: "running", engine: "e" },
        ],
      },
    ]);
  });

  const straight = [
    { fromMs: 100, state: "waiting", level: 0 },
    { fromMs: 110, state: "starting", level: 0, engine: "e" },
    { fromMs: 130, state: "running", level: 0, engine: "e" },
  ];

  it("tell a call that was never seen by its facts", () => {
    const stories = new Stories();
    stories.callEnded(ended("1", { thread: "b" }), "t/a");
    const facts = { thread: "b", arrivedAtMs: 100, endedAtMs: 180, promptTokens: 31, completionTokens: 9 };
    expect(stories.of("t/a")).toMatchObject([{ ...facts, segments: straight }]);
    const times = pathTimes(stories.of("t/a"), criticalPath(stories.of("t/a"), 999));
    expect(times).toMatchObject({ queue: 10, starting: 20, running: 50 });
  });

  it("date what was seen late by the call's facts, and have its final tokens", () => {
    const stories = new Stories();
    stories.callChanged(call("1", { arrivedAtMs: 100, state: "starting", engine: "e" }), "t/a", 125);
    stories.callChanged(call("1", { arrivedAtMs: 100, state: "running", engine: "e", promptTokens: 12 }), "t/a", 170);
    stories.callEnded(ended("1"), "t/a");
    stories.callGone(call("1"), "t/a", 225);
    expect(stories.of("t/a")).toMatchObject([{ endedAtMs: 180, promptTokens: 31, segments: straight }]);
    expect(stories.countOf("t/a")).toBe(1);
  });

  it("keep what was seen of a call that was preempted, until its end", () => {
    const stories = new Stories();
    const seen = ["waiting", "running", "parked", "running", "ending"] as const;
    for (const [i, state] of seen.entries())
      stories.callChanged(call("1", { arrivedAtMs: 100, state }), "t/a", 100 + 100 * i);
    stories.callEnded(ended("1", { endedAtMs: 480 }), "t/a");
    expect(stories.of("t/a")[0]?.segments.map(({ fromMs }) => fromMs)).toEqual([100, 200, 300, 400]);
  });

  it("of a call that never ran are of waiting only, without tokens that nobody counted", () => {
    const stories = new Stories();
    stories.callChanged(call("1", { arrivedAtMs: 100 }), "t/a", 120);
    const { promptTokens: _, completionTokens: __, ...uncounted } = ended("1", { queuedMs: 80, waitingMs: 80 });
    stories.callEnded({ ...uncounted, serviceMs: 0, status: "cancelled" }, "t/a");
    expect(stories.of("t/a")).toMatchObject([{ segments: [{ state: "waiting", fromMs: 100 }], promptTokens: 10 }]);
  });

  it("of short calls that follow each other make a path of all of them", () => {
    const stories = new Stories();
    for (let i = 19; i >= 0; i--)
      stories.callEnded(ended(String(i), { arrivedAtMs: 100 * i, endedAtMs: 100 * i + 80 }), "t/a");
    const path = criticalPath(stories.of("t/a"), 9_999);
    expect(path.filter(({ kind }) => kind === "call")).toHaveLength(20);
    expect(pathTimes(stories.of("t/a"), path)).toMatchObject({ queue: 200, starting: 400, running: 1_000, gap: 380 });
  });

  it("are bounded for a call that changes for ever", () => {
    const stories = new Stories();
    for (let i = 0; i < 3 * SEGMENTS_MAX; i++)
      stories.callChanged(call("1", { state: i % 2 === 0 ? "running" : "parked" }), "t/a", i);
    expect(stories.of("t/a")[0]?.segments.length).toBe(SEGMENTS_MAX);
  });
});
