import { callId, programId } from "@autellix/core";
import { Metrics } from "@autellix/runtime";
import { describe, expect, it } from "vitest";
import { SchedulerMetrics } from "../src/metrics.ts";
import { FOLLOWED_PROGRAMS_MAX, ProgramLatency, QUIET_MS } from "../src/program-latency.ts";
import { ended, held, MachineBench, of, report, writes } from "./bench.ts";

const sum = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);

describe("a program's latency", () => {
  const tea = programId("default/tea");
  const follow = () => {
    const programs = new ProgramLatency();
    programs.arrived(callId("default/a"), tea, false, 1_000, 1_005);
    programs.arrived(callId("default/b"), tea, false, 2_000, 2_005);
    programs.ended(callId("default/a"), 10, 4_000);
    return programs;
  };

  it("is from its first call's acceptance to its last call's end, once it is ended", () => {
    const programs = follow();
    programs.closed(tea);
    expect(sum(programs.latency.counts)).toBe(0);
    programs.ended(callId("default/b"), 30, 9_000);
    expect(programs.latency.sum).toBe(8);
    expect(programs.perToken.sum).toBe(8 / 40);
    expect(sum(programs.perToken.counts)).toBe(1);
  });

  it("counts when nobody ends the program and it is quiet, and never while it has calls", () => {
    const programs = follow();
    programs.sweep(4_000 + QUIET_MS);
    expect(sum(programs.latency.counts)).toBe(0);
    programs.ended(callId("default/b"), 30, 100_000);
    programs.sweep(100_000 + QUIET_MS - 1);
    expect(sum(programs.latency.counts)).toBe(0);
    programs.sweep(100_000 + QUIET_MS);
    expect(programs.latency.sum).toBe(99);
  });

  it("of a call that names no program counts with its end", () => {
    const programs = new ProgramLatency();
    programs.arrived(callId("default/a"), programId("default/a"), true, 1_000, 1_000);
    programs.ended(callId("default/a"), 4, 3_000);
    expect([programs.latency.sum, programs.perToken.sum]).toEqual([2, 0.5]);
  });

  it("has no tokens when an earlier leader saw some of them, and no latency when no call ran", () => {
    const programs = new ProgramLatency();
    programs.restored(tea, 1_000, 50_000);
    programs.arrived(callId("default/a"), tea, false, 50_000, 50_000);
    programs.ended(callId("default/a"), 10, 61_000);
    programs.closed(tea);
    programs.arrived(callId("default/b"), tea, false, 70_000, 70_000);
    programs.ended(callId("default/b"), undefined, 71_000);
    programs.closed(tea);
    expect([sum(programs.latency.counts), programs.latency.sum, sum(programs.perToken.counts)]).toEqual([1, 60, 0]);
  });

  it("is followed for a bounded number of programs", () => {
    const programs = new ProgramLatency();
    for (let i = 0; i <= FOLLOWED_PROGRAMS_MAX; i++) {
      programs.arrived(callId(`default/${i}`), programId(`default/p${i}`), false, 0, 0);
      programs.ended(callId(`default/${i}`), 1, 1_000);
    }
    programs.closed(programId("default/p0"));
    expect(sum(programs.latency.counts)).toBe(0);
    programs.closed(programId(`default/p${FOLLOWED_PROGRAMS_MAX}`));
    expect(sum(programs.latency.counts)).toBe(1);
  });
});

describe("a scheduler's metrics", () => {
  /** A leader with one engine, and the page that it shows. */
  function leader() {
    const registry = new Metrics();
    const own: { bench?: MachineBench } = {};
    const metrics = new SchedulerMetrics(registry, "p", () => ({
      machine: own.bench?.machine,
      isLeading: own.bench !== undefined,
      queuedCallsMax: 100,
    }));
    const page = async () => {
      await new Promise((resolve) => setTimeout(resolve, 60)); // what one scrape reads is kept for 50 ms
      const lines = (await registry.text()).split("\n").filter((line) => !line.startsWith("#") && line !== "");
      return (name: string) =>
        lines.filter((line) => line.startsWith(name)).map((line) => line.replace(/,?pool="p"/, ""));
    };
    const start = () => {
      const bench = new MachineBench({}, {}, metrics);
      own.bench = bench;
      bench.react({ kind: "callsRead" });
      bench.join("e");
      return bench;
    };
    return { metrics, page, start };
  }

  it("of a standby say that it is one, and nothing of queues", async () => {
    const { page } = leader();
    const read = await page();
    expect(read("autellix_leader")).toEqual(["autellix_leader{} 0"]);
    expect(read("autellix_queue_calls")).toEqual([]);
  });

  it("show depth by level, waiting when calls begin, and their ends", async () => {
    const { page, start } = leader();
    const bench = start();
    for (const call of ["a", "b", "c"]) bench.call(call, { "Autellix-Program-Id": "tea" });
    let read = await page();
    expect(read("autellix_queue_calls").slice(0, 2)).toEqual([
      'autellix_queue_calls{level="Q1"} 1',
      'autellix_queue_calls{level="Q2"} 0',
    ]);
    expect(read("autellix_running_calls")[0]).toBe('autellix_running_calls{level="Q1"} 2');
    expect(read('autellix_queue_wait_seconds_count{level="Q1"')).toEqual([
      'autellix_queue_wait_seconds_count{level="Q1"} 2',
    ]);
    bench.at += 3_000;
    const planNumber = of(bench.effects, "sendPlan").at(-1)?.plan.number ?? 0;
    const calls = [held("a"), held("b")];
    bench.agent(report("e", 2, { planEpoch: 7, planNumber, calls }));
    bench.agent(report("e", 3, { planEpoch: 7, planNumber, calls: [held("b")], finished: [ended("a")] }));
    // Repeated until the scheduler has read it: it counts once.
    bench.agent(report("e", 4, { planEpoch: 7, planNumber, calls: [held("b")], finished: [ended("a")] }));
    read = await page();
    expect(read("autellix_call_service_seconds_count")).toEqual(["autellix_call_service_seconds_count{} 1"]);
    expect(read("autellix_call_service_seconds_sum")).toEqual(["autellix_call_service_seconds_sum{} 0.01"]);
    expect(read("autellix_report_lag_seconds_sum")).toEqual(["autellix_report_lag_seconds_sum{} 3"]);
    expect(read("autellix_arrivals_total")).toEqual(["autellix_arrivals_total{} 3"]);
    expect(read('autellix_queue_wait_seconds_sum{level="Q1"')).toEqual([
      'autellix_queue_wait_seconds_sum{level="Q1"} 3',
    ]);
  });

  it("count fail-overs by cause and outcomes by code, once each is stored", async () => {
    const { metrics, page, start } = leader();
    const bench = start();
    bench.call("a");
    bench.call("bad", { "Autellix-Reply": "$KV.evil" });
    for (const write of writes(bench.effects))
      metrics.received({ kind: "wrote", write, result: { kind: "stored", seq: 9 } }, 0);
    bench.agent({ kind: "exit", pool: "p", engine: "e", incarnation: "i1" });
    for (const write of writes(bench.effects).filter(({ kind }) => kind === "marker"))
      metrics.received({ kind: "wrote", write, result: { kind: "stored", seq: 10 } }, 0);
    const shown = await page();
    const read = (name: string) =>
      shown(name).filter((line) => !line.endsWith(" 0") || name === "autellix_dispatching");
    expect(read("autellix_outcomes_total")).toEqual([
      'autellix_outcomes_total{status="failed",code="bad_reply_subject"} 1',
    ]);
    expect(read("autellix_refused_calls_total")).toEqual(['autellix_refused_calls_total{code="bad_reply_subject"} 1']);
    expect(read("autellix_markers_total")).toEqual(['autellix_markers_total{cause="engine_lost"} 1']);
    expect(read("autellix_engine_losses_total")).toEqual(['autellix_engine_losses_total{cause="exit"} 1']);
    expect(read("autellix_dispatching")).toEqual(["autellix_dispatching{} 0"]);
  });
});
