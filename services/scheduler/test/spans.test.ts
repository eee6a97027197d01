/** What a leader adds to traces: roots, what it knows of waiting, ends without an agent, take-overs, totals. */
import { callSpanIdOf, headers, isSampled, rootIdOf, type SpanData, spanText, traceIdOf } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { made, readSpan } from "../../../libs/protocol/test/support/span-text.ts";
import type { Effect } from "../src/events.ts";
import { callMessage, ended, frontendReply, held, info, MachineBench, of, report } from "./bench.ts";

const traced = { traceSample: 1 };
const inProgram = (program: string) => ({ ...frontendReply, [headers.program]: program });
const ROOT = rootIdOf(traceIdOf("default", "prog"));
const spansOf = (effects: Effect[]): SpanData[] =>
  of(effects, "sendSpans").flatMap(({ spans }) => spans.flatMap(made).map(readSpan));
const named = (effects: Effect[], name: string) => spansOf(effects).filter((span) => span.name === name);

describe("a program", () => {
  it("has its root sent at first sight, and never again by this leader", () => {
    const bench = MachineBench.leading(traced);
    expect(named(bench.call("a", inProgram("prog")), "program")).toMatchObject([
      { traceId: traceIdOf("default", "prog"), spanId: ROOT, startMs: bench.at, endMs: bench.at, shared: true },
    ]);
    expect(spansOf(bench.call("b", inProgram("prog")))).toEqual([]);
  });

  it("has an equal root from the next leader, which reads its calls again later", () => {
    const first = MachineBench.leading(traced);
    const [root] = named(first.call("a", inProgram("prog")), "program");
    const next = new MachineBench({ epoch: 8 }, traced);
    next.at += 30_000;
    const message = callMessage("a", inProgram("prog"), { storedAtMs: 1_000 });
    expect(named(next.react({ kind: "call", message }), "program")).toEqual([root]);
    next.at += 500;
    expect(named(next.react({ kind: "callsRead" }), "take-over")).toMatchObject([
      { parentId: ROOT, startMs: 1_000, endMs: 31_500, attributes: { "autellix.epoch": 8, "autellix.calls": 1 } },
    ]);
  });

  it("has its totals sent when it was ended and its last call is acked", () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    bench.call("a", inProgram("prog"));
    bench.react({ kind: "control", tenant: "default", control: { op: "program.end", program_id: "prog" }, token: 1 });
    expect(named(bench.effects, "program totals")).toEqual([]);
    bench.at += 70;
    const last = bench.agent(report("e1", 2, { finished: [ended("a")] }));
    expect(named(last, "program totals")).toMatchObject([
      {
        parentId: ROOT,
        startMs: 1_000,
        endMs: 1_070,
        attributes: {
          "autellix.calls": 1,
          "autellix.service_ms": 10,
          "autellix.waiting_ms": 2,
          "autellix.engines": ["e1"],
        },
      },
    ]);
  });

  it("has its totals sent when it is forgotten", () => {
    const bench = MachineBench.leading({ ...traced, programIdleMaxMs: 5_000 });
    bench.join("e1");
    bench.call("a", inProgram("prog"));
    bench.agent(report("e1", 2, { finished: [ended("a")] }));
    expect(named(bench.effects, "program totals")).toEqual([]);
    expect(named(bench.pass(8_000), "program totals")).toMatchObject([
      { endMs: 1_000, attributes: { "autellix.calls": 1 } },
    ]);
  });

  it("is sampled as a whole, by its id", () => {
    const bench = MachineBench.leading({ traceSample: 0.5 });
    const programs = Array.from({ length: 40 }, (_, index) => `p${index}`);
    for (const program of programs) bench.call(`c-${program}`, inProgram(program));
    const wanted = programs.filter((program) => isSampled("default", program, 0.5));
    expect(wanted.length).toBeGreaterThan(0);
    expect(named(bench.effects, "program").map(({ attributes }) => attributes["autellix.program"])).toEqual(wanted);
  });
});

describe("a plan", () => {
  it("tells the agent what the leader knows of a traced call", () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    const [plan] = of(bench.call("a", inProgram("prog")), "sendPlan");
    const [planned] = plan?.plan.run ?? [];
    expect(planned?.level).toBe(0);
    expect(planned?.dispatch?.traced).toEqual({
      ...{ atMs: 1_000, programAtMs: 1_000, arrivedAtMs: 1_000 },
      waits: [{ level: 0, fromMs: 1_000 }],
    });
  });

  it("says why a call waited: for slots, and whose", () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    for (const name of ["a", "b", "c"]) bench.call(name, inProgram(`p-${name}`));
    bench.at += 40;
    bench.agent(report("e1", 2, { calls: [held("a"), held("b")] }));
    const [plan] = of(bench.agent(report("e1", 3, { calls: [held("b")], finished: [ended("a")] })), "sendPlan");
    const behind = plan?.plan.run.find(({ call }) => call === "default/c")?.dispatch?.traced?.behind;
    expect(behind).toEqual({ reason: "slots", calls: 2, programs: ["default/p-a", "default/p-b"] });
  });

  it("names attempts that were lost", () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    bench.call("a", inProgram("prog"));
    bench.agent(report("e1", 2, { calls: [held("a")] }));
    bench.at += 100;
    const lost = bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" });
    bench.confirm(lost);
    bench.at += 50;
    const [plan] = of(bench.join("e2"), "sendPlan");
    expect(plan?.plan.run[0]?.dispatch?.traced?.attempts).toEqual([
      { attempt: 1, engine: "e1", cause: "engine_lost", fromMs: 1_000, lostAtMs: 1_100 },
    ]);
  });

  it("says when the program's last call had ended, of one that comes alone", () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    bench.call("a", inProgram("prog"));
    bench.at += 10;
    bench.agent(report("e1", 2, { finished: [ended("a")] }));
    bench.at += 500;
    const [plan] = of(bench.call("b", inProgram("prog")), "sendPlan");
    expect(plan?.plan.run[0]?.dispatch?.traced?.idleFromMs).toBe(1_010);
  });
});

describe("a call of a thread", () => {
  it("tells when its thread's last call had ended, while others of the program go on", () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    const inThread = (thread: string) => ({ ...inProgram("prog"), [headers.thread]: thread });
    bench.call("long", inThread("A"));
    bench.call("b1", inThread("B"));
    bench.at += 10;
    bench.agent(report("e1", 2, { calls: [held("long")], finished: [ended("b1")] }));
    bench.at += 500;
    const planned = (name: string, thread: string) => {
      const plans = of(bench.call(name, inThread(thread)), "sendPlan");
      return plans.at(-1)?.plan.run.find(({ call }) => call === `default/${name}`)?.dispatch?.traced;
    };
    expect(planned("b2", "B")?.idleFromMs).toBe(1_010);
    bench.agent(report("e1", 3, { calls: [held("long")], finished: [ended("b2")] }));
    expect(planned("c1", "C")).toBeDefined();
    expect(planned("c1", "C")?.idleFromMs).toBeUndefined();
  });
});

describe("a call that ends without an agent", () => {
  const id = callSpanIdOf(traceIdOf("default", "prog"), { pool: "p", tenant: "default", callId: "a" });

  it("has its span sent with its record", () => {
    const bench = MachineBench.leading(traced);
    bench.call("a", { ...inProgram("prog"), [headers.trace]: `00-${"1".repeat(32)}-${"2".repeat(16)}-01` });
    bench.at += 300;
    const cancelled = bench.react({
      ...{ kind: "control", tenant: "default", token: 1 },
      control: { op: "call.cancel", call_id: "a" },
    });
    expect(spansOf(cancelled)).toEqual([]);
    const done = bench.confirm(cancelled);
    expect(spansOf(done)).toMatchObject([
      {
        ...{ spanId: id, parentId: ROOT, startMs: 1_000, endMs: 1_300, error: "cancelled" },
        attributes: { "autellix.status": "cancelled", "error.type": "cancelled" },
        links: [{ traceId: "1".repeat(32), spanId: "2".repeat(16) }],
      },
      { name: "queue Q1", parentId: id, startMs: 1_000, endMs: 1_300 },
    ]);
  });

  it("has it too when its headers are bad, with its root", () => {
    const bench = MachineBench.leading(traced);
    const spans = spansOf(bench.call("a", { ...inProgram("prog"), [headers.deadlineMs]: "soon" }));
    expect(spans.map(({ spanId }) => spanId).slice(0, 2)).toEqual([ROOT, id]);
    expect(spans[1]?.attributes["error.type"]).toBe("invalid_request");
  });
});

describe("an agent that dies", () => {
  const span = {
    ...{
      traceId: traceIdOf("default", "prog"),
      spanId: callSpanIdOf(traceIdOf("default", "prog"), { pool: "p", tenant: "default", callId: "a" }),
    },
    ...{ parentId: ROOT, name: "chat", startMs: 1_000, endMs: 1_010, attributes: {}, shared: true as const },
  };
  const ends = () => {
    const bench = MachineBench.leading(traced);
    bench.join("e1");
    bench.call("a", inProgram("prog"));
    bench.agent(report("e1", 2, { finished: [ended("a", { span: spanText(span) })] }));
    return bench;
  };

  it("leaves no call without its span: the leader sends those of calls that had just ended there", () => {
    const bench = ends();
    bench.agent(report("e1", 3, { finished: [ended("a", { span: spanText(span) })] }));
    expect(spansOf(bench.pass(7_000)).filter(({ spanId }) => spanId === span.spanId)).toEqual([span]);
  });

  it("and is back under a new incarnation is one that died", () => {
    expect(spansOf(ends().join("e1", { incarnation: "i2" }))).toContainEqual(span);
  });

  it("long after, or says goodbye, has sent them itself", () => {
    const late = ends();
    for (const number of [3, 4]) {
      late.at += 9_000;
      late.agent(report("e1", number));
    }
    expect(spansOf(late.join("e1", { incarnation: "i2" }))).toEqual([]);
    expect(spansOf(ends().agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" }))).toEqual([]);
  });
});

it("without a share of programs to trace, plans and effects have nothing of it", () => {
  const bench = MachineBench.leading();
  bench.join("e1", { info });
  const [plan] = of(bench.call("a", inProgram("prog")), "sendPlan");
  expect(plan?.plan.run[0]).not.toHaveProperty("level");
  expect(plan?.plan.run[0]?.dispatch).not.toHaveProperty("traced");
  expect(of(bench.effects, "sendSpans")).toEqual([]);
});
