import { headers } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { ended, held, info, MachineBench, of, report } from "./bench.ts";

/** 16 blocks of 16 tokens on the engine, and some in host memory. */
const swapping = { ...info, batchCallsMax: 1, kvBlocks: 16, hostBlocks: 8, retains: true };
const program = (name: string) => ({ [headers.program]: name });

function leading(over = {}): MachineBench {
  const bench = MachineBench.leading();
  bench.join("e1", { info: { ...swapping, ...over } });
  return bench;
}

/** The last plan that was sent. */
const plan = (bench: MachineBench) => of(bench.effects, "sendPlan").at(-1)?.plan;

describe("an agent with a host tier", () => {
  it("is told where parked contexts may lie", () => {
    // One that retains contexts would not begin a call that pushes the other's out.
    const bench = leading({ retains: undefined });
    bench.call("a", program("p"));
    const tokens = { contextTokens: 200, serviceMs: 5_000 };
    const calls = [{ ...held("a"), ...tokens }];
    bench.agent(report("e1", 2, { planEpoch: 7, planNumber: plan(bench)?.number ?? 0, calls }));
    bench.call("b", program("q"));
    expect(plan(bench)).toMatchObject({
      run: [{ call: "default/b" }],
      keep: [{ call: "default/a", attempt: 1, tier: "engine" }],
      retained: [],
    });
    const later = [...calls, { ...held("b"), contextTokens: 150 }];
    bench.agent(report("e1", 3, { planEpoch: 7, planNumber: plan(bench)?.number ?? 0, calls: later }));
    expect(plan(bench)?.keep).toMatchObject([{ call: "default/a", tier: "none" }]);
  });

  it("without one, as before, is told nothing that it does not know", () => {
    const bench = leading({ hostBlocks: undefined, retains: undefined });
    bench.call("a", program("p"));
    bench.agent(report("e1", 2, { planEpoch: 7, calls: [{ ...held("a"), serviceMs: 5_000, contextTokens: 20 }] }));
    bench.call("b", program("q"));
    expect(plan(bench)).toMatchObject({ keep: [{ tier: "engine" }], retained: [] });
  });
});

describe("an agent that retains contexts", () => {
  it("is told which to keep, and which call goes on from one", () => {
    const bench = leading();
    bench.call("a", program("p"));
    bench.agent(report("e1", 2, { planEpoch: 7, finished: [ended("a", { contextTokens: 9 })] }));
    expect(plan(bench)).toMatchObject({ run: [], retained: [{ call: "default/a", tier: "engine" }] });
    bench.call("b", program("p"));
    expect(plan(bench)).toMatchObject({
      run: [{ call: "default/b", dispatch: { program: "p", continues: "default/a" } }],
      retained: [],
    });
  });
});

describe("a call that its agent cannot stop", () => {
  it("stays in the batch, whoever comes", () => {
    const bench = leading();
    bench.call("a", program("p"));
    const calls = [{ ...held("a"), serviceMs: 5_000, preemptible: false as const }];
    bench.agent(report("e1", 2, { planEpoch: 7, planNumber: plan(bench)?.number ?? 0, calls }));
    bench.call("b", program("q"));
    expect(plan(bench)).toMatchObject({ run: [{ call: "default/a" }], keep: [] });
  });
});

describe("the status", () => {
  it("has an agent's KV use and its counters as it reported them last", () => {
    const bench = leading();
    const counters = { steps: 3, stepCalls: 4, busyMs: 5, tokens: 6, batchMax: 2, swapOuts: 1, planIdleMs: 0.5 };
    const kv = { running: 1, parked: 2, retained: 3, host: 4 };
    bench.agent(report("e1", 2, { planEpoch: 7, counters, kv }));
    const [{ status } = { status: undefined }] = of(bench.pass(250), "sendStatus");
    expect(status?.engines).toMatchObject([{ engine: "e1", counters, kv }]);
  });
});
