import { formatInputLog, InputLogError } from "@autellix/protocol/input-log";
import { describe, expect, test } from "vitest";
import { parseReplayOptions, type ReplayOptions } from "../src/replay/options.ts";
import { outcomeText, readRecording } from "../src/replay/outcome.ts";
import { header as logHeader } from "./input-log.ts";

const header = { ...logHeader, config: { ...logHeader.config, balancer: "round-robin" } };
const capacity = {
  batchCallsMax: 2,
  residentCallsMax: 8,
  heldCallsMax: 64,
  kvBlocks: 1_000,
  blockTokens: 16,
  preemption: "recompute",
} as const;
const joined = (engine: string) => ({ kind: "engineJoined", at: 1, engine, incarnation: "i", capacity });
const arrived = (id: string, program: string, at: number) => ({
  kind: "callArrived",
  at,
  call: { id, seq: at, program, arrivedAt: at, deadlineAt: 1e9, promptTokens: 30 },
});
const ended = (call: string, at: number, completionTokens: number) => ({
  kind: "reported",
  at,
  report: {
    engine: "e1",
    incarnation: "i",
    number: at,
    planNumber: 1,
    calls: [],
    finished: [
      { call, attempt: 1, status: "completed", found: false, contextTokens: 40 + completionTokens, completionTokens },
    ],
    fenced: [],
  },
});

/** Two chains side by side; what the core made of them does not matter here. */
const inputs = [
  joined("e1"),
  joined("e2"),
  arrived("t/a1", "t/a", 10),
  arrived("t/b1", "t/b", 20),
  ended("t/a1", 500, 50),
  ended("t/b1", 600, 10),
  arrived("t/a2", "t/a", 700),
  ended("t/a2", 900, 20),
  arrived("t/b2", "t/b", 1_000),
];

async function* linesOf(all: readonly object[]) {
  yield formatInputLog(header);
  for (const input of all) yield formatInputLog({ input, commands: [] });
}

function optionsOf(...args: string[]): ReplayOptions {
  const options = parseReplayOptions(["in.jsonl", ...args]);
  if (!options) throw new Error("help");
  return options;
}

describe("the traffic of a log", () => {
  test("is its ended calls, on the engines that there were", async () => {
    const recording = await readRecording(linesOf(inputs), false);
    expect(recording).toMatchObject({ engines: 2, capacity, balancer: "round-robin" });
    expect(recording.text).toBe("3 calls of 2 programs, without 1 that had not ended when the log did");
    expect(recording.programs.map(({ arrivesAtMs, calls }) => [arrivesAtMs, calls.length])).toEqual([
      [0, 2],
      [10, 1],
    ]);
    expect(recording.programs[0]?.calls).toMatchObject([
      { parents: [], gapMs: 0, newPromptTokens: 40, decodeTokens: 50 },
      { parents: [0], gapMs: 200, decodeTokens: 20 },
    ]);
  });

  test("comes at its recorded times in the open loop", async () => {
    const { programs } = await readRecording(linesOf(inputs), true);
    expect(programs[0]?.calls).toMatchObject([
      { parents: [], arrivesMs: 0 },
      { parents: [0], arrivesMs: 690 },
    ]);
  });

  test("is read up to a line that is none", async () => {
    await expect(readRecording(linesOf([...inputs, { kind: "planDue" }, joined("e3")]), false)).rejects.toThrow(
      InputLogError,
    );
    const call = { kind: "callArrived", at: 9 };
    await expect(readRecording(linesOf([...inputs, call]), false)).rejects.toMatchObject({
      code: "log_line_invalid",
      message: expect.stringMatching(/^line \d+: callArrived cannot be read: /),
    });
    await expect(readRecording(linesOf([...inputs, joined("e3")]), false)).rejects.toMatchObject({
      code: "log_line_invalid",
      message:
        "line 11: engineJoined cannot be read: at must be a time of 1000 (the input before) to 8796093022208, not 1",
    });
  });

  const [, , firstArrival, , firstEnd] = inputs as [object, object, object, object, object];
  test.each<[string, object]>([
    ["batchCallsMax", { ...joined("e0"), capacity: { ...capacity, batchCallsMax: 0 } }],
    ["kvBlocks", { ...joined("e0"), capacity: { ...capacity, kvBlocks: 10.5 } }],
    ["blockTokens", { ...joined("e0"), capacity: { ...capacity, blockTokens: null } }],
    ["hostBlocks", { ...joined("e0"), capacity: { ...capacity, hostBlocks: -1 } }],
    ["promptTokens", { ...firstArrival, call: { ...arrived("t/c", "t/c", 5).call, promptTokens: "many" } }],
    [
      "contextTokens",
      { ...firstEnd, report: { ...ended("t/a1", 5, 1).report, calls: [{ call: "t/a1", contextTokens: 1e300 }] } },
    ],
    ["completionTokens", ended("t/a1", 500, -4)],
  ])("is refused with the line whose %s is damaged", async (field, input) => {
    await expect(readRecording(linesOf([input, ...inputs]), false)).rejects.toMatchObject({
      code: "log_line_invalid",
      message: expect.stringMatching(new RegExp(`^line 2: \\w+ cannot be read: ${field} must be a whole number`)),
    });
  });
});

describe("the outcome under other policies", () => {
  test("is a row for each, on the recorded engines with the speed of the preset", async () => {
    const recording = await readRecording(linesOf(inputs), false);
    const text = outcomeText(recording, optionsOf("--policy", "fcfs,plas,srpt"));
    expect(text).toContain("on 2 × a100-8b with batches of 2 calls");
    for (const policy of ["fcfs", "plas", "srpt"]) expect(text).toMatch(new RegExp(`^${policy} +2 `, "m"));
    expect(outcomeText(recording, optionsOf("--policy", "plas", "--engines", "3"))).toContain("on 3 × a100-8b");
  });

  test("is refused for a call that the recorded engine cannot have run", async () => {
    const recording = await readRecording(linesOf(inputs), false);
    const tiny = { ...capacity, kvBlocks: 1, blockTokens: 1 };
    expect(() => outcomeText({ ...recording, capacity: tiny }, optionsOf("--policy", "plas"))).toThrow(
      /^context_too_long: a call comes to \d+ tokens of context, and an engine holds 1$/,
    );
  });

  test("is slower on a slower preset", async () => {
    const recording = await readRecording(linesOf(inputs), false);
    const meanOf = (preset: string) => {
      const text = outcomeText(recording, optionsOf("--policy", "plas", "--preset", preset));
      return Number(/^plas +2 +([\d.]+)/m.exec(text)?.[1]);
    };
    expect(meanOf("a100-8b")).toBeGreaterThan(0);
    expect(meanOf("a100x4-70b")).toBeGreaterThan(meanOf("a100-8b"));
  });
});
