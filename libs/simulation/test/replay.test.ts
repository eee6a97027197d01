import { type Command, callId, engineId, type Input, programId, Scheduler } from "@autellix/core";
import { tracedCallSchema } from "@autellix/protocol/call-trace";
import { commandDigest, formatInputLog, InputLogError, type InputLogHeader } from "@autellix/protocol/input-log";
import { describe, expect, it } from "vitest";
import { RecordedCalls, traceOf } from "../src/recorded-calls.ts";
import { type ReplayedInput, recordedConfig, replay, THROWS } from "../src/replay.ts";
import { programsOfTrace } from "../src/trace.ts";

const header: InputLogHeader = {
  log: "autellix-inputs",
  version: 1,
  pool: "p",
  epoch: 7,
  config: {
    policy: "plas",
    balancer: "least-used",
    ladder: [
      { lo: 0, hi: 100, quantum: 100 },
      { lo: 100, hi: Number.POSITIVE_INFINITY, quantum: Number.POSITIVE_INFINITY },
    ],
    binding: "arrival",
    misfit: "stop",
    windowSteps: 8,
    reserveCallsMax: 0,
    beta: Number.POSITIVE_INFINITY,
    betaFloorMs: 0,
    promotedShare: Number.POSITIVE_INFINITY,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 1e6,
    cancelMemoryMs: 1e3,
    cancelMemoryMax: 10,
    planResendMs: 1e3,
  },
};

const engine = engineId("e1");
const capacity = {
  batchCallsMax: 1,
  residentCallsMax: 4,
  heldCallsMax: 8,
  kvBlocks: 100,
  blockTokens: 16,
  preemption: "swap",
} as const;
const arrival = (name: string, program: string, at: number): Input => ({
  kind: "callArrived",
  at,
  call: {
    id: callId(`t/${name}`),
    seq: at,
    program: programId(`t/${program}`),
    arrivedAt: at,
    deadlineAt: Number.POSITIVE_INFINITY,
    promptTokens: 40,
  },
});
const report = (number: number, over: object): Input => ({
  kind: "reported",
  at: 100 * number,
  report: { engine, incarnation: "i1", number, planNumber: number, calls: [], finished: [], fenced: [], ...over },
});
const held = (name: string, contextTokens: number) => ({
  call: callId(`t/${name}`),
  attempt: 1,
  serviceMs: 150,
  contextTokens,
});
const ended = (name: string, over: object = {}) => ({
  call: callId(`t/${name}`),
  attempt: 1,
  status: "completed" as const,
  found: false,
  serviceMs: 150,
  waitingMs: 1,
  ...over,
});

const inputs: Input[] = [
  { kind: "leaderStarted", at: 1 },
  { kind: "engineJoined", at: 2, engine, incarnation: "i1", capacity },
  arrival("a", "long", 10),
  arrival("b", "short", 11),
  { kind: "planDue", at: 12 },
  report(2, { calls: [held("a", 45)] }),
  { kind: "planDue", at: 201 },
  report(3, { finished: [ended("b", { contextTokens: 52, completionTokens: 9 })] }),
  { kind: "planDue", at: 301 },
];

/** What a scheduler records. */
function recordedLines(from: readonly Input[] = inputs): string[] {
  const core = new Scheduler(recordedConfig(header.config));
  return [
    formatInputLog(header),
    ...from.map((input) => formatInputLog({ input, commands: core.apply(input).map(commandDigest) })),
  ];
}

/** The line of the log with another list of commands. */
function withCommands(line: string, commands: (digests: string[]) => string[]): string {
  const entry = JSON.parse(line);
  return JSON.stringify({ ...entry, commands: commands(entry.commands) });
}

const plans = ({ commands }: ReplayedInput) =>
  commands.filter((command): command is Extract<Command, { kind: "sendPlan" }> => command.kind === "sendPlan");

describe("a replay", () => {
  it("makes the recorded commands again and shows each input with them", async () => {
    const heard: ReplayedInput[] = [];
    const result = await replay([...recordedLines(), '{"end":"stopped"}'], (input) => heard.push(input));
    expect(result.divergence).toBeUndefined();
    expect(result).toMatchObject({ header: { epoch: 7 }, firstAt: 1, lastAt: 301, end: "stopped" });
    expect(result.inputs.get("planDue")).toBe(3);
    expect(result.commands.get("sendPlan")).toBe(3);
    expect(heard.map(({ input }) => input)).toEqual(inputs);
    // The batch holds one call: the long one is demoted by its service, and the short one takes its place.
    expect(heard.flatMap(plans).map(({ plan }) => plan.run.map(({ call }) => call))).toEqual([
      ["t/a"],
      ["t/b"],
      ["t/a"],
    ]);
  });

  const lines = recordedLines();
  const planLine = lines.findIndex((line) => line.includes("sendPlan"));
  const changed = (change: (digests: string[]) => string[]) =>
    lines.map((line, index) => (index === planLine ? withCommands(line, change) : line));

  it.each([
    [
      "another command",
      changed(([first = ""]) => [first.replace(/.$/, "x")]),
      { index: 0, made: { kind: "sendPlan" } },
    ],
    ["no command", changed(() => []), { index: 0, recorded: undefined, made: { kind: "sendPlan" } }],
    ["one more command", changed((all) => [...all, "ack 00"]), { index: 1, recorded: "ack 00", made: undefined }],
  ])("shows the first input at which the log has %s, with both sides", async (_name, log, divergence) => {
    const heard: ReplayedInput[] = [];
    const result = await replay(log, (input) => heard.push(input));
    expect(result.divergence).toMatchObject({ line: planLine + 1, input: { kind: "planDue", at: 12 }, ...divergence });
    // Nothing behind it means anything.
    expect(heard).toHaveLength(planLine - 1);
  });

  it("finds a changed input by the commands that it leads to", async () => {
    const log = lines.map((line) => line.replace('"promptTokens":40', '"promptTokens":4000'));
    expect((await replay(log)).divergence).toMatchObject({ recorded: expect.stringMatching(/^sendPlan /) });
  });

  const started = formatInputLog({ input: { kind: "leaderStarted", at: 500 }, threw: true });

  it("throws where the recorded core threw", async () => {
    const result = await replay([...lines, started]);
    expect(result).toMatchObject({ threw: "the leader has started already" });
    expect(result.divergence).toBeUndefined();
  });

  it("is another when only one of both throws", async () => {
    const now = await replay([...lines, withCommands(started, () => [])]);
    expect(now.divergence).toMatchObject({ recorded: undefined, thrown: "the leader has started already" });
    const then = await replay([...lines, formatInputLog({ input: { kind: "planDue", at: 500 }, threw: true })]);
    expect(then.divergence).toMatchObject({ recorded: THROWS, thrown: undefined });
  });

  it("says which line is not whole", async () => {
    const log = [...lines.slice(0, -1), lines.at(-1)?.slice(0, 20) ?? ""];
    expect(await replay(log)).toMatchObject({ torn: lines.length });
  });

  it("of a policy that this version does not know is refused with a code", async () => {
    const log = [formatInputLog({ ...header, config: { ...header.config, policy: "best" } })];
    await expect(replay(log)).rejects.toThrow(InputLogError);
    await expect(replay(log)).rejects.toMatchObject({ code: "log_version_unknown", line: 1 });
  });
});

describe("recorded calls", () => {
  const collect = (more: readonly Input[] = []) => {
    const calls = new RecordedCalls();
    for (const input of [...inputs, ...more]) calls.hear(input);
    return calls;
  };

  it("have their engine's counts once it has ended them, and what was reported before", () => {
    expect(collect().all()).toMatchObject([
      { id: "t/a", program: "t/long", arrivedAt: 10, promptTokens: 40, decodeTokens: 5, endedAt: undefined },
      { id: "t/b", arrivedAt: 11, promptTokens: 43, decodeTokens: 9, endedAt: 300, status: "completed" },
    ]);
  });

  it("arrive and end once, however often they come and are reported", () => {
    const again = [arrival("a", "long", 900), report(10, { finished: [ended("b", { status: "failed" })] })];
    expect(collect(again).all()).toEqual(collect().all());
  });

  it("that never ran have no answer", () => {
    const cancelled: Input = { kind: "outcomeSeen", at: 950, call: callId("t/c"), status: "cancelled" };
    expect(
      collect([arrival("c", "x", 900), cancelled])
        .all()
        .at(-1),
    ).toMatchObject({
      decodeTokens: 0,
      endedAt: 950,
      status: "cancelled",
    });
  });

  it("come with the number of engines that there were at one time", () => {
    const joined = (name: string): Input => ({
      kind: "engineJoined",
      at: 400,
      engine: engineId(name),
      incarnation: "i",
      capacity,
    });
    const lost: Input = { kind: "engineLost", at: 400, engine, cause: "exit" };
    expect(collect([lost, joined("e2"), joined("e3"), joined("e3")]).enginesMax).toBe(2);
  });

  it("become a trace of those that have ended, from the first arrival on", () => {
    const parent: Input = {
      kind: "callArrived",
      at: 350,
      call: {
        id: callId("t/c"),
        seq: 3,
        program: programId("t/short"),
        thread: "left",
        parents: [callId("t/b")],
        arrivedAt: 350,
        deadlineAt: 1_000,
        promptTokens: 60,
      },
    };
    const end = report(5, { finished: [ended("c", { contextTokens: 70, completionTokens: 8 })] });
    const trace = traceOf(collect([parent, end]).all());
    expect(trace.unfinishedCalls).toBe(1);
    expect(trace.calls.map((call) => tracedCallSchema.parse(call))).toMatchObject([
      { call: "t/b", program: "t/short", arrivedAtMs: 1, endedAtMs: 290, promptTokens: 43, completionTokens: 9 },
      { call: "t/c", thread: "left", parents: ["t/b"], arrivedAtMs: 340, promptTokens: 62, completionTokens: 8 },
    ]);
    const { programs } = programsOfTrace(trace.calls);
    expect(programs[0]?.calls.map(({ parents, gapMs }) => [parents, gapMs])).toEqual([
      [[], 0],
      [[0], 50],
    ]);
  });
});
