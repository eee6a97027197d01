import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, callId, type EnginePlan, type Input, policies, Scheduler } from "@autellix/core";
import { describe, expect, test } from "vitest";
import { Agent, ENGINE, INCARNATION } from "../src/bench-core/agent.ts";
import { type Core, Driver } from "../src/bench-core/driver.ts";
import { ID_LENGTH, IdBytes, IdWriter, placeOf } from "../src/bench-core/ids.ts";
import { SCHEDULER_SEMI_SPACE_MB } from "../src/bench-core/isolated.ts";
import { type CoreLoad, coreConfigOf, defaultLoad, policyName } from "../src/bench-core/load.ts";
import { measureMemory } from "../src/bench-core/memory.ts";
import { parseCoreOptions } from "../src/bench-core/options.ts";
import { corePerSecond, verdicts } from "../src/bench-core/report.ts";
import type { SpeedResult } from "../src/bench-core/speed.ts";
import { UsageError } from "../src/options.ts";

const small: CoreLoad = { ...defaultLoad, queuedCalls: 60, batchCallsMax: 8, heldCallsMax: 32 };
const OPEN = small.queuedCalls + small.batchCallsMax;

function drive(load: CoreLoad, windows: number, core: Core = new Scheduler(coreConfigOf(load))): Driver {
  const driver = new Driver(core, load);
  driver.fill();
  for (let i = 0; i < windows; i++) driver.window();
  return driver;
}

/** Nothing arrives any more. @returns calls that are left. */
function drain(driver: Driver, windowsMax = 1_000): number {
  for (let i = 0; i < windowsMax && driver.openCalls > 0; i++) driver.window(false);
  return driver.openCalls;
}

describe("the driver of bench:core", () => {
  test.each(Object.keys(policies))("has each call acked once, and the queue always as long (%s)", (name) => {
    const load = { ...small, policy: policyName(name) };
    const scheduler = new Scheduler(coreConfigOf(load));
    const driver = new Driver(scheduler, load);
    driver.fill();
    for (let i = 0; i < 200; i++) {
      driver.window();
      expect(driver.openCalls).toBe(OPEN);
      expect(scheduler.counts().queued).toBe(OPEN);
      expect(driver.agent.counts.running).toBe(load.batchCallsMax);
    }
    const { counts } = driver.timings;
    // 200 windows of 8 calls that take 4 windows each, more or less.
    expect(counts.acked).toBeGreaterThan(300);
    expect(counts.acked).toBeLessThan(500);
    // A window in which nothing ended needs no new one.
    expect(counts.plans).toBeGreaterThan(150);
    expect(drain(driver)).toBe(0);
    expect(counts.acked).toBe(counts.arrived);
    expect(counts.closed).toBe(0);
    expect(scheduler.counts()).toMatchObject({ queued: 0, running: 0 });
  });

  test.each([
    { arrivalMoments: 8 },
    { retains: true },
    { startsPrograms: false },
    { callsPerProgram: 1 },
    { windowsPerCall: 1 },
  ])("also with %j", (over) => {
    const driver = drive({ ...small, ...over }, 100);
    expect(driver.openCalls).toBe(OPEN);
    expect(drain(driver)).toBe(0);
    expect(driver.timings.counts.acked).toBe(driver.timings.counts.arrived);
  });

  test("has calls acked whose deadline passes in the queue or on the engine", () => {
    const load = { ...small, deadlineMs: small.turnoverMs / 4 };
    const driver = drive(load, 200);
    expect(driver.timings.counts.closed).toBeGreaterThan(50);
    expect(driver.agent.cancelled).toBeGreaterThan(0);
    expect(drain(driver)).toBe(0);
    expect(driver.timings.counts.acked).toBe(driver.timings.counts.arrived);
  });

  test("does the same again for the same seed", () => {
    const inputs = (seed: number): string[] => {
      const log: string[] = [];
      const scheduler = new Scheduler(coreConfigOf(small));
      const core = {
        apply(input: Input): Command[] {
          log.push(JSON.stringify(input));
          return scheduler.apply(input);
        },
      };
      drive({ ...small, seed }, 20, core);
      return log;
    };
    expect(inputs(1)).toEqual(inputs(1));
    expect(inputs(1)).not.toEqual(inputs(2));
  });

  /** A core that says something else now and then. */
  function broken(change: (command: Command, index: number) => Command[]): Core {
    const scheduler = new Scheduler(coreConfigOf(small));
    let index = 0;
    return { apply: (input) => scheduler.apply(input).flatMap((command) => change(command, index++)) };
  }

  test("sees a call that is acked twice", () => {
    const core = broken((command, index) => (command.kind === "ack" && index > 50 ? [command, command] : [command]));
    expect(() => drive(small, 50, core)).toThrow("acked twice");
  });

  test("sees a call that is never acked", () => {
    let lost = false;
    const core = broken((command) => {
      if (command.kind !== "ack" || lost) return [command];
      lost = true;
      return [];
    });
    expect(drain(drive(small, 50, core))).toBe(1);
  });

  test("sees a plan that names a call twice, or an attempt too many", () => {
    const twice = broken((command) =>
      command.kind === "sendPlan"
        ? [{ ...command, plan: { ...command.plan, run: [...command.plan.run, ...command.plan.run.slice(0, 1)] } }]
        : [command],
    );
    expect(() => drive(small, 5, twice)).toThrow("names a call twice");
    const again = broken((command) =>
      command.kind === "sendPlan" && command.plan.number > 3
        ? [{ ...command, plan: { ...command.plan, run: command.plan.run.map((run) => ({ ...run, attempt: 2 })) } }]
        : [command],
    );
    expect(() => drive(small, 5, again)).toThrow("second attempt");
  });

  test("times what it feeds", () => {
    const { timings } = drive(small, 20);
    expect(timings.planUs().count).toBe(timings.counts.planned);
    for (const ms of Object.values(timings.coreMs)) expect(ms).toBeGreaterThan(0);
    timings.restart();
    expect(timings.counts).toMatchObject({ arrived: OPEN, acked: 0, windows: 0 });
    expect(timings.planUs().count).toBe(0);
  });
});

describe("its agent", () => {
  const [a, b, c] = [1, 2, 3].map((number) => callId(new IdWriter(1).write(number, number)));
  const dispatch = { seq: 1, fence: 0, waitedMs: 5, servedMs: 0 };
  const plan = (number: number, over: Partial<EnginePlan>): EnginePlan => ({
    engine: ENGINE,
    incarnation: INCARNATION,
    number,
    reportSeen: 0,
    run: [],
    reserve: [],
    keep: [],
    retained: [],
    cancel: [],
    fences: [],
    windowSteps: 8,
    ...over,
  });
  const agent = (windows: number) =>
    new Agent({ heldCallsMax: 4, windowSteps: 8, windows: () => windows, promptTokens: () => 100 });

  test("advances the batch alone, and reports all that it holds", () => {
    const engine = agent(2);
    if (!a || !b || !c) throw new Error("three calls");
    engine.take(plan(1, { run: [{ call: a, attempt: 1, dispatch }], reserve: [{ call: b, attempt: 1, dispatch }] }), 0);
    expect(engine.runWindow(30, 30)).toBe(0);
    expect(engine.report()).toMatchObject({
      number: 1,
      planNumber: 1,
      calls: [
        { call: a, attempt: 1, serviceMs: 30, contextTokens: 108 },
        { call: b, attempt: 1, serviceMs: 0, contextTokens: 100 },
      ],
      finished: [],
    });
    // Without a new plan the batch goes on.
    expect(engine.runWindow(20, 50)).toBe(1);
    const ended = { call: a, status: "completed", serviceMs: 50, waitingMs: 5, contextTokens: 116, found: false };
    expect(engine.report()).toMatchObject({ number: 2, finished: [ended], calls: [{ call: b }] });
    // An end is repeated until a plan says that it was read.
    engine.take(plan(2, { reportSeen: 1, run: [{ call: b, attempt: 1 }] }), 50);
    expect(engine.report()).toMatchObject({ finished: [ended] });
    engine.take(plan(3, { reportSeen: 2, run: [{ call: c, attempt: 1, dispatch }] }), 60);
    expect(engine.report()).toMatchObject({ planNumber: 3, finished: [], calls: [{ call: c }] });
    expect(engine.counts).toEqual({ held: 1, running: 1 });
    expect(() => engine.take(plan(3, {}), 60)).toThrow("comes after");
    expect(() => engine.take(plan(4, { run: [{ call: a, attempt: 1 }] }), 60)).toThrow("without its details");
  });
});

describe("its ids", () => {
  test("are those of the wire, all different, and tell their place", () => {
    const [calls, programs] = [new IdWriter(1), new IdWriter(2)];
    const seen = new Set<string>();
    for (const place of [0, 1, 15, 16, 99_999, 1_000_255]) {
      for (let number = 1; number <= 300; number++) {
        for (const id of [calls.write(number, place), programs.write(number, place)]) {
          expect(id).toHaveLength(ID_LENGTH);
          expect(id).toMatch(/^tenant-[0-3]\/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
          expect(placeOf(id)).toBe(place);
          seen.add(id);
        }
      }
    }
    expect(seen.size).toBe(6 * 300 * 2);
    expect(calls.write(7, 9)).toBe(new IdWriter(1).write(7, 9));
  });

  test("are read again from their bytes", () => {
    const writer = new IdWriter(1);
    const ids = [1, 2, 3].map((number) => writer.write(number, number));
    const bytes = new IdBytes(3);
    const handles = ids.map((id) => bytes.keep(id));
    expect(handles.map((handle) => bytes.fresh(handle))).toEqual(ids);
    expect(() => bytes.keep("tenant-0/more")).toThrow("ids are kept");
    bytes.drop(handles[1] ?? 0);
    expect(bytes.fresh(bytes.keep(ids[2] ?? ""))).toBe(ids[2]);
  });
});

describe("its report", () => {
  const speed = (over: { coreMs: number; p99: number; long: number; queuedCalls?: number }): SpeedResult => ({
    load: { ...defaultLoad, queuedCalls: over.queuedCalls ?? 100_000 },
    counts: { arrived: 0, acked: 200_000, closed: 0, windows: 1, planned: 1, plans: 1, saved: 0 },
    elapsedMs: 2_000,
    coreMs: { arrivals: over.coreMs - 3, reports: 1, plans: 1, other: 1 },
    longestMs: { arrivals: 1, reports: 1, plans: 1, other: 1 },
    cpuMs: 2_000,
    planUs: { count: 1, mean: 1, p50: 1, p95: 1, p99: over.p99, max: 1 },
    pauses: { count: 1, totalMs: 1, maxMs: 1, long: over.long, kinds: {} },
    batchCalls: 256,
    heldCalls: 256,
    fillPerSecond: 1,
    steadyBytesPerCall: 1,
    keptBytesPerEndedCall: 1,
  });
  const met = (speeds: SpeedResult[]) => verdicts({ speeds, memories: [] }).map((verdict) => verdict.met);

  test("says what is met", () => {
    expect(corePerSecond(speed({ coreMs: 1_000, p99: 100, long: 0 }))).toBe(200_000);
    expect(met([speed({ coreMs: 1_000, p99: 100, long: 0 })])).toEqual(["met", "met", "met"]);
    expect(met([speed({ coreMs: 1_001, p99: 101, long: 1 })])).toEqual(["NOT met", "NOT met", "NOT met"]);
    const least = speed({ coreMs: 1_000, p99: 50, long: 0 });
    const deep = (coreMs: number, p99: number) => speed({ coreMs, p99, long: 9, queuedCalls: 1_000_000 });
    expect(met([deep(1_500, 75), least])).toEqual(["met", "met", "met", "met", "met", "reported"]);
    expect(met([deep(1_600, 76), least])).toEqual(["met", "met", "met", "NOT met", "NOT met", "reported"]);
  });

  test("asks less of calls that name no program", () => {
    const memory = { policy: "plas", queuedCalls: 100_000, callsPerProgram: 10, bytesPerCall: 700 } as const;
    const memories = (["threads", "named", "alone"] as const).map((shape) => ({ ...memory, shape }));
    expect(verdicts({ speeds: [], memories }).map((verdict) => verdict.met)).toEqual(["NOT met", "met", "met"]);
  });
});

describe("its command line", () => {
  test("has a default for everything", () => {
    const options = parseCoreOptions([]);
    const plain = options?.speeds.filter(({ retains, arrivalMoments }) => !retains && arrivalMoments === 1);
    expect(plain?.map(({ policy, queuedCalls }) => `${policy} ${queuedCalls}`)).toEqual([
      "plas 100000",
      "plas 1000000",
      "fcfs 100000",
      "fcfs 1000000",
      "atlas 100000",
      "atlas 1000000",
    ]);
    expect(options?.speeds).toHaveLength(8);
    expect(options?.memories).toHaveLength(6);
    expect(parseCoreOptions(["--help"])).toBeUndefined();
  });

  test.each([
    [["--policy", "none"]],
    [["--policy", ","]],
    [["--queued", "1.5"]],
    [["--queued", ","]],
    [["--queued", "99"]],
    [["--seconds", "x"]],
    [["--batch", "2.5"]],
    [["--held", "8"]],
    [["--what"]],
  ])("refuses %j", (args) => {
    expect(() => parseCoreOptions(args)).toThrow(UsageError);
  });

  test("runs under the flags that npm start gives the scheduler", () => {
    const file = join(import.meta.dirname, "../../services/cli/src/start/service-process.ts");
    const [, mb] = /SEMI_SPACE_MB[^}]*\bscheduler: (\d+)/.exec(readFileSync(file, "utf8")) ?? [];
    expect(Number(mb)).toBe(SCHEDULER_SEMI_SPACE_MB);
  });

  test("measures memory only where it can collect", () => {
    const load = { policy: "plas", shape: "alone", queuedCalls: 10, callsPerProgram: 1 } as const;
    expect(() => measureMemory(load)).toThrow("--expose-gc");
  });
});
