import { headers } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { ended, frontendReply, held, info, MachineBench, of, report, writes } from "./bench.ts";

const named = (calls: readonly { call: string }[] | undefined) => (calls ?? []).map(({ call }) => call);

describe("a call", () => {
  it("goes from the queue to a plan, and after its report to the ack", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    const [plan] = of(
      bench.call("c", { ...frontendReply, [headers.program]: "prog", [headers.thread]: "t" }),
      "sendPlan",
    );
    expect(plan?.plan).toMatchObject({
      pool: "p",
      engine: "e1",
      incarnation: "i1",
      epoch: 7,
      run: [
        {
          call: "default/c",
          attempt: 1,
          dispatch: { seq: 1, fence: 0, program: "prog", thread: "t", reply: "autellix.tokens.f1" },
        },
      ],
    });
    bench.agent(report("e1", 2, { planEpoch: 7, planNumber: plan?.plan.number ?? 0, calls: [held("c")] }));
    const last = bench.agent(report("e1", 3, { planEpoch: 7, finished: [ended("c")] }));
    expect(of(last, "ack")).toEqual([{ kind: "ack", seq: 1, bodyObject: undefined }]);
    expect(of(last, "sendPlan")).toMatchObject([{ plan: { reportSeen: 3, run: [] } }]);
    expect(bench.later).toContainEqual(expect.objectContaining({ event: { kind: "flushPrograms" } }));
    expect(of(bench.react({ kind: "flushPrograms" }), "storeProgram")).toMatchObject([
      { entry: { program: "default/prog", serviceMs: 10, waitingMs: 2 } },
    ]);
  });

  it("gives its body's object back to be deleted with the ack", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c", { [headers.bodyObject]: "default.object-1" });
    const last = bench.agent(report("e1", 2, { finished: [ended("c")] }));
    expect(of(last, "ack")).toMatchObject([{ bodyObject: "default.object-1" }]);
  });

  it("with a bad header ends with its code, tells who waits, and leaves the queue", () => {
    const bench = MachineBench.leading();
    const effects = bench.call("c", { ...frontendReply, [headers.deadlineMs]: "soon" });
    expect(writes(effects)).toMatchObject([
      { kind: "outcome", expect: 0, head: { status: "failed", code: "invalid_request" }, body: { call_id: "c" } },
    ]);
    expect(of(effects, "ack")).toEqual([]);
    const done = bench.confirm(effects);
    expect(of(done, "ack")).toEqual([{ kind: "ack", seq: 1, bodyObject: undefined }]);
    expect(of(done, "sendEnd")).toMatchObject([{ reply: "autellix.tokens.f1", status: "failed" }]);
  });

  it("that has no room in OUTCOMES is written again later", () => {
    const bench = MachineBench.leading();
    const [write] = writes(bench.call("c", { [headers.deadlineMs]: "soon" }));
    if (!write) throw new Error("nothing is written");
    expect(bench.react({ kind: "wrote", write, result: { kind: "full" } })).toEqual([]);
    const [again] = bench.later;
    expect(again?.ms).toBeGreaterThan(0);
    if (again) expect(bench.react(again.event)).toMatchObject([{ kind: "write" }]);
  });

  it("of a program that ended is refused with program_ended", () => {
    const bench = MachineBench.leading();
    bench.react({ kind: "control", tenant: "default", control: { op: "program.start", program_id: "x" }, token: 1 });
    bench.react({ kind: "control", tenant: "default", control: { op: "program.end", program_id: "x" }, token: 2 });
    bench.at += 1;
    expect(writes(bench.call("c", { [headers.program]: "x" }))).toMatchObject([{ head: { code: "program_ended" } }]);
  });

  it("that crashed engines too often is kept as a dead letter before its end is written", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c");
    const crash = (n: number) => bench.agent(report("e1", 1, { info, incarnation: `i${n}` }));
    bench.confirm(crash(2), 60);
    bench.confirm(crash(3), 61);
    const [dead] = of(crash(4), "storeDead");
    expect(dead).toMatchObject({ seq: 1, write: { expect: 61, head: { status: "dead", code: "dead", attempt: 3 } } });
    if (!dead) return;
    const done = bench.confirm(bench.react({ kind: "deadStored", write: dead.write }));
    expect(of(done, "ack")).toHaveLength(1);
  });
});

describe("an agent", () => {
  it("that is not known is asked for its full report, not too often", () => {
    const bench = MachineBench.leading();
    expect(of(bench.agent(report("e1", 5)), "askReport")).toEqual([{ kind: "askReport", engine: "e1", epoch: 7 }]);
    expect(bench.agent(report("e1", 6))).toEqual([]);
    bench.at += 500;
    expect(of(bench.agent(report("e1", 7)), "askReport")).toHaveLength(1);
  });

  it("that joins is stored with its models, so that the next leader waits for it", () => {
    const effects = MachineBench.leading().join("e1");
    expect(of(effects, "storeEngine")).toEqual([{ kind: "storeEngine", engine: "e1" }]);
    expect(of(effects, "storeModels")).toEqual([{ kind: "storeModels", models: ["tiny"] }]);
  });

  it("that exits gives its calls back at once and is forgotten", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c");
    const effects = bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" });
    expect(writes(effects)).toMatchObject([{ kind: "marker", attempt: 2, expect: 0, crashes: 0 }]);
    expect(of(effects, "dropEngine")).toEqual([{ kind: "dropEngine", engine: "e1" }]);
    bench.join("e2");
    const [plan] = of(bench.confirm(effects, 50), "sendPlan");
    expect(plan?.plan).toMatchObject({
      engine: "e2",
      run: [{ call: "default/c", attempt: 2, dispatch: { fence: 50 } }],
    });
  });

  it("is not ended by the exit message of an earlier incarnation", () => {
    const bench = MachineBench.leading();
    bench.join("e1", { incarnation: "i2" });
    expect(bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" })).toEqual([]);
  });

  it("in a new incarnation has crashed, however short the silence", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c");
    const effects = bench.agent(report("e1", 1, { info, incarnation: "i2" }));
    expect(writes(effects)).toMatchObject([{ kind: "marker", cause: "crash", crashes: 1 }]);
  });

  it("that is silent is lost after 6 s, and keeps its key in the bucket", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c");
    expect(writes(bench.pass(5_750))).toEqual([]);
    const effects = bench.pass(500);
    expect(writes(effects)).toMatchObject([{ kind: "marker", cause: "engine_lost" }]);
    expect(of(effects, "dropEngine")).toEqual([]);
  });

  it("is not lost while the scheduler does not hear itself", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c");
    expect(writes(bench.pass(60_000, { hearsItself: false }))).toEqual([]);
  });

  it("of another pool is not heard", () => {
    expect(MachineBench.leading().join("e1", { pool: "other" })).toEqual([]);
  });
});

describe("a frontend that is dead", () => {
  it("takes its calls along, the waiting ones too, and no other's", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    for (const name of ["a", "b", "waits"]) bench.call(name, frontendReply);
    bench.call("other", { [headers.reply]: "autellix.tokens.f2" });
    const effects = bench.agent(report("e1", 2, { frontendsDead: ["f1"] }));
    expect(writes(effects)).toMatchObject([{ call: "default/waits", head: { status: "cancelled" } }]);
    const [plan] = of(effects, "sendPlan").slice(-1);
    expect(named(plan?.plan.cancel).sort()).toEqual(["default/a", "default/b"]);
    expect(named(plan?.plan.run)).toEqual(["default/other"]);
  });
});

describe("a take-over", () => {
  const record = (kind: "outcome" | "marker") =>
    kind === "outcome"
      ? ({ kind, status: "completed", code: undefined, attempt: 1, epoch: 5, engine: "e1" } as const)
      : ({ kind, attempt: 2, epoch: 5, engine: "scheduler", cause: "crash", crashes: 1 } as const);

  it("sends no plan before CALLS is read and every listed engine has reported", () => {
    const bench = new MachineBench({ engines: ["e1", "e2"] });
    expect(of(bench.effects, "askReport").map(({ engine }) => engine)).toEqual(["e1", "e2"]);
    bench.call("c");
    expect(of(bench.join("e1"), "sendPlan")).toEqual([]);
    expect(of(bench.react({ kind: "callsRead" }), "sendPlan")).toEqual([]);
    expect(of(bench.join("e2"), "sendPlan").length).toBeGreaterThan(0);
  });

  it("asks again who has not answered, gives it the time that makes it lost, and then drops it", () => {
    const bench = new MachineBench({ engines: ["gone"] });
    bench.react({ kind: "callsRead" });
    const waiting = bench.pass(5_750);
    expect(of(waiting, "askReport").length).toBeGreaterThan(5);
    expect(of(waiting, "dropEngine")).toEqual([]);
    expect(of(bench.pass(250), "dropEngine")).toEqual([{ kind: "dropEngine", engine: "gone" }]);
  });

  it("goes on when a listed engine says that it has left", () => {
    const bench = new MachineBench({ engines: ["e1", "e2"] });
    bench.react({ kind: "callsRead" });
    bench.join("e1");
    expect(of(bench.agent({ kind: "exit", pool: "p", engine: "e2", incarnation: "i1" }), "sendPlan")).toHaveLength(1);
  });

  it("acks what has ended, leaves what runs and marks what nobody reported", () => {
    const records = new Map([
      ["default/ended", { seq: 20, head: record("outcome") }],
      ["default/unreported", { seq: 21, head: record("marker") }],
    ]);
    const bench = new MachineBench({ engines: ["e1"], records });
    for (const name of ["ended", "running", "unreported"]) bench.call(name);
    bench.join("e1", { calls: [held("running")] });
    const effects = bench.react({ kind: "callsRead" });
    expect(of(effects, "ack")).toMatchObject([{ seq: 1 }]);
    expect(of(effects, "sendPlan")[0]?.plan.run).toEqual([{ call: "default/running", attempt: 1 }]);
    expect(writes(effects)).toMatchObject([
      { kind: "marker", call: "default/unreported", attempt: 3, expect: 21, crashes: 1 },
    ]);
  });

  it("answers no control request before it leads: the caller repeats it", () => {
    const bench = new MachineBench({ engines: ["e1"] });
    const control = { op: "program.start", program_id: "x" } as const;
    expect(bench.react({ kind: "control", tenant: "default", control, token: 1 })).toEqual([]);
  });

  it("cancels the calls of a frontend that an agent called dead meanwhile", () => {
    const bench = new MachineBench({ engines: ["e1"] });
    bench.call("a", frontendReply);
    bench.join("e1", { calls: [held("a")], frontendsDead: ["f1"] });
    const [plan] = of(bench.react({ kind: "callsRead" }), "sendPlan");
    expect([named(plan?.plan.run), named(plan?.plan.cancel)]).toEqual([[], ["default/a"]]);
  });
});

describe("a leader", () => {
  it("ends when it hears a higher epoch, and only then", () => {
    const bench = MachineBench.leading();
    const beat = (epoch: number, leader: string) =>
      ({ kind: "beat", beat: { pool: "p", epoch, leader, number: 1 } }) as const;
    expect(bench.react(beat(7, "me"))).toEqual([]);
    expect(bench.react(beat(6, "other"))).toEqual([]);
    expect(bench.react(beat(8, "other"))).toMatchObject([{ kind: "stepDown" }]);
  });

  it("ends when a state write is refused, and when a record of a higher epoch exists", () => {
    const bench = MachineBench.leading();
    expect(bench.react({ kind: "programStored", key: "k", result: "refused" })).toMatchObject([{ kind: "stepDown" }]);
    const [write] = writes(bench.call("c", { [headers.deadlineMs]: "soon" }));
    if (!write) throw new Error("nothing is written");
    const head = { kind: "marker", attempt: 2, epoch: 9, engine: "scheduler", cause: "crash", crashes: 0 } as const;
    const result = { kind: "found", record: { seq: 3, head, body: new Uint8Array() } } as const;
    expect(bench.react({ kind: "read", write, result })).toMatchObject([{ kind: "stepDown" }]);
  });

  it("starts nothing new while OUTCOMES is nearly full, and says why", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.react({ kind: "outcomesUsed", share: 0.81 });
    const effects = [...bench.call("c"), ...bench.pass(250)];
    expect(of(effects, "sendPlan").flatMap(({ plan }) => plan.run)).toEqual([]);
    expect(of(effects, "sendStatus")).toMatchObject([{ status: { dispatching: false, queuedCalls: 1 } }]);
    const free = bench.react({ kind: "outcomesUsed", share: 0.5 });
    expect(of(free, "sendPlan")[0]?.plan.run).toHaveLength(1);
  });

  it("tells everybody its depth, its engines and its rate of ends", () => {
    const bench = MachineBench.leading();
    expect(of(bench.pass(250), "sendStatus")).toMatchObject([{ status: { dispatching: false, reason: "no engine" } }]);
    bench.join("e1");
    bench.call("a");
    bench.call("b");
    bench.agent(report("e1", 2, { finished: [ended("a")] }));
    const [last] = of(bench.pass(250), "sendStatus").slice(-1);
    expect(last?.status).toMatchObject({
      pool: "p",
      epoch: 7,
      policy: "plas",
      models: ["tiny"],
      queuedCalls: 1,
      runningCalls: 1,
      dispatching: true,
      engines: [{ engine: "e1", state: "up", runningCalls: 1, heldCalls: 1 }],
      endsPerSecond: 4,
    });
    expect(of(bench.pass(3_000), "sendStatus").at(-1)?.status.engines).toMatchObject([{ state: "suspect" }]);
  });

  it("gives an engine that is about to leave nothing new, and says so", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.join("e2");
    bench.agent(report("e1", 2, { draining: true }));
    const plans = ["a", "b", "c"].flatMap((call) => of([...bench.call(call), ...bench.pass(50)], "sendPlan"));
    expect(plans.flatMap(({ plan }) => plan.run.map(() => plan.engine))).toContain("e2");
    expect(plans.flatMap(({ plan }) => plan.run.map(() => plan.engine))).not.toContain("e1");
    const [status] = of(bench.pass(250), "sendStatus").slice(-1);
    expect(status?.status.engines.map(({ engine, state }) => [engine, state])).toEqual([
      ["e1", "draining"],
      ["e2", "up"],
    ]);
    bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" });
    bench.join("e1");
    expect(of(bench.pass(250), "sendStatus").at(-1)?.status.engines).toMatchObject([{ state: "up" }, { state: "up" }]);
  });
});
