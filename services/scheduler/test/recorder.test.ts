import {
  balancers,
  type Command,
  callId,
  type Input,
  type PolicyName,
  PROMOTED_SHARE,
  policies,
  programId,
  type SavedEntry,
  Scheduler,
} from "@autellix/core";
import { headers } from "@autellix/protocol";
import { commandDigest, type InputLogItem, readInputLog } from "@autellix/protocol/input-log";
import { describe, expect, it } from "vitest";
import { coreConfig } from "../src/core-config.ts";
import type { MachineConfig } from "../src/events.ts";
import { InputRecorder, type InputSink } from "../src/recorder.ts";
import { ended, frontendReply, held, info, MachineBench, machineConfig, of, report, writes } from "./bench.ts";

const before: SavedEntry = {
  program: programId("default/old"),
  serviceMs: 900,
  waitingMs: 1,
  attained: 900,
  pathServiceMs: 900,
  pathWaitingMs: 1,
  endedCalls: 2,
  endedAt: undefined,
  pin: undefined,
  engines: [],
  arrivedAt: 1,
  lastArrivalAt: 2,
  lastCompletionAt: undefined,
  charged: [],
};

function leading(over: Partial<MachineConfig>, inputs?: InputSink): MachineBench {
  const bench = new MachineBench({ programs: [before] }, over, inputs);
  bench.react({ kind: "callsRead" });
  return bench;
}

/** A machine whose inputs are recorded. */
function recorded(over: Partial<MachineConfig>): { bench: MachineBench; lines: string[] } {
  const lines: string[] = [];
  const recorder = new InputRecorder("p", 7, coreConfig({ ...machineConfig, ...over }), (line) => {
    lines.push(line);
    return true;
  });
  return { bench: leading(over, recorder), lines };
}

/** Calls of programs with parents and threads, a cancel, a crash, a loss and silence. */
function eventfulLife(bench: MachineBench): void {
  bench.join("e1");
  bench.join("e2");
  for (let i = 0; i < 12; i++) {
    const program = { [headers.program]: i % 4 === 0 ? "old" : `program ${i % 3}`, [headers.thread]: `t${i % 2}` };
    const parents = i > 3 ? { [headers.parents]: `c${i - 3}` } : {};
    bench.call(`c${i}`, { ...frontendReply, ...program, ...parents, [headers.promptTokens]: String(100 * i) });
    bench.at += 7;
  }
  const calls = [held("c0"), { ...held("c1"), serviceMs: 5_000 }];
  bench.agent(report("e1", 2, { calls, finished: [ended("c2")] }));
  bench.react({ kind: "control", tenant: "default", control: { op: "call.cancel", call_id: "c5" }, token: 1 });
  bench.react({ kind: "control", tenant: "default", control: { op: "program.start", program_id: "x" }, token: 2 });
  bench.confirm(bench.agent(report("e2", 1, { info, incarnation: "i2" })));
  bench.pass(3_000);
  bench.agent(report("e1", 3, { calls: [held("c0")], finished: [ended("c1", { serviceMs: 9_000 }), ended("c3")] }));
  bench.confirm(bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" }));
  bench.react({ kind: "control", tenant: "default", control: { op: "program.end", program_id: "x" }, token: 3 });
  bench.pass(10_000);
}

async function read(lines: readonly string[]): Promise<InputLogItem[]> {
  const items: InputLogItem[] = [];
  for await (const item of readInputLog(lines)) items.push(item);
  return items;
}

const inputsOf = (items: readonly InputLogItem[]) => items.filter((item) => item.kind === "input");

describe("a recorded life", () => {
  it.each(Object.keys(policies) as PolicyName[])(
    "under %s gives the same commands again, byte for byte",
    async (policy) => {
      const { bench, lines } = recorded({ policy });
      eventfulLife(bench);
      const items = await read(lines);
      const config = {
        ...coreConfig({ ...machineConfig, policy }),
        policy: policies[policy],
        balancer: balancers["least-used"],
      };
      const core = new Scheduler(config);
      const kinds = new Set<string>();
      for (const { input, commands } of inputsOf(items)) {
        const again = core.apply(input as Input);
        for (const { kind } of again) kinds.add(kind);
        expect(again.map(commandDigest)).toEqual(commands);
      }
      for (const kind of ["sendPlan", "writeMarker", "ack", "saveEntry", "wakeAt"]) expect([...kinds]).toContain(kind);
      expect(of(bench.effects, "sendPlan").length).toBeGreaterThan(3);
      expect(writes(bench.effects).length).toBeGreaterThan(2);
    },
  );

  it("begins with how the core was configured, by names", async () => {
    const { lines } = recorded({ policy: "atlas-dag", beta: Number.POSITIVE_INFINITY, misfit: "skip" });
    const [head] = await read(lines);
    expect(head).toMatchObject({
      kind: "header",
      header: {
        version: 1,
        pool: "p",
        epoch: 7,
        config: {
          policy: "atlas-dag",
          balancer: "least-used",
          beta: Number.POSITIVE_INFINITY,
          promotedShare: PROMOTED_SHARE,
          misfit: "skip",
        },
      },
    });
  });

  it("holds what the take-over restored before anything else", async () => {
    const { lines } = recorded({});
    const [first] = inputsOf(await read(lines));
    expect(first?.input).toMatchObject({ kind: "programStarted", restored: { program: "default/old", attained: 900 } });
  });

  it("does not change what the machine does", () => {
    const plain = leading({});
    const { bench } = recorded({});
    eventfulLife(plain);
    eventfulLife(bench);
    expect(bench.effects).toEqual(plain.effects);
  });

  it("carries names, sizes and times of a call, and neither its reply nor anything of its body", () => {
    const { bench, lines } = recorded({});
    bench.call("c", { ...frontendReply, [headers.program]: "prog", [headers.bodyObject]: "default.object-1" });
    const arrived = lines.findLast((line) => line.includes('"callArrived"')) ?? "";
    expect(Object.keys(JSON.parse(arrived).input.call).sort()).toEqual([
      "arrivedAt",
      "deadlineAt",
      "id",
      "program",
      "promptTokens",
      "promptTokensMax",
      "seq",
    ]);
  });
});

describe("a recorder", () => {
  const input: Input = { kind: "callCancelled", at: 5, call: callId("default/c"), cause: "client" };
  const wake: Command = { kind: "wakeAt", at: 6 };
  const record = (goesOn = true) => {
    const lines: string[] = [];
    const recorder = new InputRecorder("p", 7, coreConfig(machineConfig), (line) => {
      lines.push(line);
      return goesOn;
    });
    return { lines, recorder };
  };

  it("writes an input as it was when it was fed, whatever the core does with it", () => {
    const { lines, recorder } = record();
    const fed = { ...input };
    recorder.fed(fed);
    fed.at = 99;
    recorder.answered([wake]);
    expect(JSON.parse(lines[1] ?? "")).toEqual({ input, commands: [commandDigest(wake)] });
  });

  it("writes the input at which the core threw, once, and nothing when it did not throw", () => {
    const { lines, recorder } = record();
    recorder.fed(input);
    recorder.answered([]);
    recorder.threw();
    expect(lines).toHaveLength(2);
    recorder.fed(input);
    recorder.threw();
    recorder.threw();
    expect(lines.slice(2).map((line) => JSON.parse(line))).toEqual([{ input, threw: true }]);
  });

  it("stops when its lines are not taken any more", () => {
    const { lines, recorder } = record(false);
    recorder.fed(input);
    recorder.answered([wake]);
    expect(lines).toHaveLength(1);
  });
});
