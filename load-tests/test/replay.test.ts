import { systems } from "@autellix/simulation";
import { describe, expect, test } from "vitest";
import { UsageError } from "../src/options.ts";
import { HELP, parseReplayOptions } from "../src/replay/options.ts";
import { inputText, replayText } from "../src/replay/text.ts";
import { header } from "./input-log.ts";

describe("the command line of replay", () => {
  test("has defaults: nothing is printed but the result, and nothing simulated", () => {
    expect(parseReplayOptions(["in.jsonl"])).toEqual({
      log: "in.jsonl",
      printsCommands: false,
      policies: [],
      preset: "a100-8b",
      engines: undefined,
      isOpenLoop: false,
    });
  });

  test("takes several policies of the laboratory, which its help names", () => {
    const names = Object.keys(systems);
    expect(parseReplayOptions(["in.jsonl", "--policy", names.join(",")])?.policies).toEqual(names);
    for (const name of names) expect(HELP).toContain(name);
    expect(parseReplayOptions(["--help"])).toBeUndefined();
  });

  test.each([
    [[], "name one log"],
    [["a", "b"], "name one log"],
    [["a", "--policy", "plas,best"], 'not "best"'],
    [["a", "--policy", ""], 'not ""'],
    [["a", "--policy", "plas", "--preset", "abacus"], "--preset must be one of "],
    [["a", "--policy", "plas", "--engines", "0"], "--engines must be a number from 1 to"],
    [["a", "--policy", "plas", "--engines", "1.5"], "--engines must be a whole number"],
    [["a", "--policy", "plas", "--commands"], "--commands is for a replay without --policy"],
    [["a", "--preset", "a100-8b"], "--preset is for --policy"],
    [["a", "--open-loop"], "--open-loop is for --policy"],
    [["a", "--bogus"], "Unknown option"],
  ])("refuses %j", (args, message) => {
    expect(() => parseReplayOptions(args)).toThrow(UsageError);
    expect(() => parseReplayOptions(args)).toThrow(message);
  });
});

const inputs = new Map([
  ["callArrived", 2],
  ["planDue", 3],
]);
const commands = new Map([["sendPlan", 3]]);
const same = { header, inputs, commands, firstAt: 1_000, lastAt: 13_340 };
const wake = { kind: "wakeAt", at: 6 } as const;

describe("what replay says", () => {
  test("is the configuration, the counts and that the commands are the same", () => {
    const text = replayText("in.jsonl", { ...same, end: "stopped" });
    expect(text.split("\n")).toEqual([
      "log        in.jsonl: pool sim, epoch 7",
      "core       plas, locality, ladder calibrated from 1000 × 7 by 2, β 8, bound on arrival, stop at a misfit, windows of 8 steps",
      "inputs     5: planDue 3, callArrived 2, in 12.3 s",
      "commands   3: sendPlan 3",
      "recording  stopped",
      "same commands: yes",
    ]);
  });

  test.each([
    [{ torn: 12 }, "its last line (12) is not whole"],
    [{ threw: "no such call" }, "ends where the core threw, then as now: no such call"],
    [{}, "no line says why it ended"],
  ])("includes how the recording ended: %j", (over, text) => {
    expect(replayText("in.jsonl", { ...same, ...over })).toContain(text);
  });

  test("shows both sides of the first difference", () => {
    const at = { line: 9, input: { kind: "planDue", at: 5 }, index: 1 } as const;
    const differs = { ...at, recorded: "sendPlan 00ff", made: wake, thrown: undefined };
    const text = replayText("in.jsonl", { ...same, divergence: differs });
    expect(text).toContain("same commands: no");
    expect(text).toContain('line       9, command 2 of this input: {"kind":"planDue","at":5}');
    expect(text).toContain("recorded   sendPlan 00ff");
    expect(text).toMatch(/^now +wakeAt [0-9a-f]{16} \{"kind":"wakeAt","at":6\}$/m);
    const missing = { ...at, recorded: undefined, made: undefined, thrown: "broken" };
    const throws = replayText("in.jsonl", { ...same, divergence: missing });
    expect(throws).toContain("recorded   no further command");
    expect(throws).toContain("now        the core throws: broken");
  });

  test("can be each input with its commands", () => {
    expect(inputText({ line: 3, input: { kind: "planDue", at: 1_500 }, commands: [wake] }, 1_000)).toBe(
      'line 3, +500 ms: {"kind":"planDue","at":1500}\n  → {"kind":"wakeAt","at":6}',
    );
  });
});
