import { balancers, doublingLadder, policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { simulate, systems, workloads } from "../src/index.ts";
import { call, chain, endsOf, plain, play, program, simple, withCost, withPolicy } from "./lab.ts";

describe("one call", () => {
  it("takes its prompt in chunks, then a step per token that reads its context", () => {
    const preset = withCost({ prefillTokenMs: 1, contextTokenMs: 0.1 });
    const { calls, engine } = play([program(7, [call(10, 3)])], { preset, system: { ...simple, chunkTokens: 4 } });
    // 4, 4 and 2 prompt tokens: 14 + 14 + 12. Then contexts of 10 and 11 tokens: 11 + 11.1.
    expect(calls[0]).toMatchObject({ arrivedAtMs: 7, dispatchedAtMs: 7, promptTokens: 10, decodeTokens: 3 });
    expect(calls[0]?.firstTokenAtMs).toBeCloseTo(47, 9);
    expect(calls[0]?.endedAtMs).toBeCloseTo(69.1, 9);
    expect(calls[0]?.serviceMs).toBeCloseTo(62.1, 9);
    expect(engine[0]).toMatchObject({ steps: 5, prefilledTokens: 10, decodedTokens: 3, batchMax: 1 });
    expect(engine[0]?.idleMs).toBeCloseTo(7, 9);
  });

  it("pays per generated token where a token costs", () => {
    const { calls } = play([program(0, [call(1, 4)])], { preset: withCost({ stepMs: 0, decodeTokenMs: 7 }) });
    // The first token comes with the prompt.
    expect(calls[0]?.endedAtMs).toBe(21);
  });

  it("waits for one plan per window, which is no service", () => {
    const preset = withCost({ planMs: 5 });
    const long = play([program(0, [call(1, 5)])], { preset });
    expect(endsOf(long)).toEqual([55]);
    const short = play([program(0, [call(1, 5)])], { preset, system: { ...simple, windowSteps: 2 } });
    expect(endsOf(short)).toEqual([65]);
    expect(short.calls[0]?.serviceMs).toBe(50);
    expect(short.engine[0]).toMatchObject({ windows: 3, planMs: 15, busyMs: 50, idleMs: 0 });
    expect(short.programs[0]).toMatchObject({ responseMs: 65, waitingMs: 15, aloneMs: 65 });
  });

  it("with nothing to say takes a step all the same", () => {
    expect(endsOf(play([program(0, [call(0, 0)])]))).toEqual([10]);
  });
});

describe("a batch", () => {
  it("charges each step to every call in it", () => {
    const { calls, engine } = play([program(0, [call(4, 2)]), program(0, [call(4, 5)])], {
      preset: withCost({ contextTokenMs: 1 }),
    });
    // Step 1: both prompts. Step 2 reads 4 + 4, step 3 … 5 read 5, 6, 7 of the second call.
    expect(calls.map(({ endedAtMs }) => endedAtMs)).toEqual([28, 76]);
    expect(calls.map(({ serviceMs }) => serviceMs)).toEqual([28, 76]);
    expect(engine[0]).toMatchObject({ steps: 5, batchMean: 7 / 5, batchMax: 2, busyMs: 76 });
  });

  it("shares a chunk first come, first served, and goes on generating beside it", () => {
    const preset = withCost({ prefillTokenMs: 1 });
    const programs = [program(0, [call(2, 6)]), program(0, [call(6, 2)]), program(0, [call(3, 1)])];
    const { calls } = play(programs, { preset, system: { ...simple, chunkTokens: 4 } });
    // Steps: 2 + 2 tokens, 4, 3, 0, 0, 0.
    expect(calls.map(({ firstTokenAtMs }) => firstTokenAtMs)).toEqual([14, 28, 41]);
    expect(endsOf({ calls } as never)).toEqual([71, 41, 41]);
  });

  it("without chunks computes prompts in a step of their own, while others wait in the batch", () => {
    const preset = withCost({ prefillTokenMs: 1 });
    const programs = [program(0, [call(2, 3)]), program(1, [call(6, 2)])];
    const system = { ...simple, chunkTokens: Number.POSITIVE_INFINITY, windowSteps: 1 };
    const { calls } = play(programs, { preset, system });
    // 12 for the first prompt; 16 for the second, in which the first call gets nothing; then a step for both, one more.
    expect(calls.map(({ firstTokenAtMs }) => firstTokenAtMs)).toEqual([12, 28]);
    expect(endsOf({ calls } as never)).toEqual([48, 38]);
    expect(calls[0]?.serviceMs).toBe(48);
  });

  it("fills a vacancy inside a window from the reserve, and at its end without one", () => {
    const programs = [3, 20, 3].map((tokens) => program(0, [call(1, tokens)]));
    const preset = { ...plain, batchCallsMax: 2 };
    const reserved = play(programs, { preset, system: { ...simple, reserveCallsMax: 1 } });
    expect(endsOf(reserved)).toEqual([30, 200, 60]);
    const bare = play(programs, { preset });
    expect(endsOf(bare)).toEqual([30, 200, 110]);
  });

  it("is planned at once when the engine runs dry", () => {
    const programs = [program(0, [call(1, 3)]), program(0, [call(1, 3)])];
    expect(endsOf(play(programs, { preset: { ...plain, batchCallsMax: 1 } }))).toEqual([30, 60]);
  });
});

describe("planning", () => {
  const programs = [program(0, [call(1, 30)]), program(15, [call(1, 4)])];

  it("in windows waits for the end of one", () => {
    expect(endsOf(play(programs))).toEqual([300, 120]);
  });

  it("on arrival counts from the next step on", () => {
    const played = play(programs, { plansOn: "arrival" });
    expect(endsOf(played)).toEqual([300, 60]);
    expect(played.calls[1]?.dispatchedAtMs).toBe(20);
  });

  it("on arrival reports each N steps, whatever plans come in between", () => {
    // A quantum of 40 ms: the first call is demoted by the report after 8 steps, not by those plans.
    const system = withPolicy(policies.mlfq, { ladder: doublingLadder(40, 3) });
    const arrivals = [program(0, [call(1, 12)]), ...[15, 25, 35].map((at) => program(at, [call(1, 12)]))];
    const played = play(arrivals, { plansOn: "arrival", system, preset: { ...plain, batchCallsMax: 1 } });
    expect(played.calls.map(({ dispatchedAtMs }) => dispatchedAtMs)).toEqual([0, 80, 160, 240]);
    expect(played.demotions).toBe(4);
  });
});

describe("preemption", () => {
  // 2 blocks: one of these calls at a time. The first has used up its quantum when the second is there.
  const programs = [program(0, [call(15, 10)]), program(5, [call(15, 2)])];
  const preset = { ...plain, batchCallsMax: 1, kvTokens: 32 };
  const system = withPolicy(policies.mlfq, { ladder: doublingLadder(20, 3), windowSteps: 2 });

  it("moves the context to host memory and back, in one transfer each", () => {
    const { calls, engine, preemptions, demotions } = play(programs, { preset, system });
    // 2 steps, then 16 tokens go out (16 ms, and 1 to begin), 2 steps of the other call, 16 tokens come in (8 + 1), 8 steps.
    expect(calls.map(({ endedAtMs }) => endedAtMs)).toEqual([20 + 37 + 89, 20 + 37]);
    expect(calls.map(({ serviceMs }) => serviceMs)).toEqual([20 + 89, 37]);
    expect(engine[0]).toMatchObject({ swapOuts: 1, swapIns: 1, swapTransfers: 2, swapBytes: 32_000, swapMs: 26 });
    expect(engine[0]).toMatchObject({ kvBlocksMax: 2, outgrown: 0, prefilledTokens: 30 });
    expect(preemptions).toBe(1);
    expect(demotions).toBeGreaterThan(0);
  });

  it("moves it block by block, with its copies", () => {
    const { engine } = play(programs, { preset, system: { ...system, swapPer: "block" } });
    // One block each way: 4 copies of 0.5 ms.
    expect(engine[0]).toMatchObject({ swapTransfers: 2, swapMs: 16 + 2 + 8 + 2 });
  });

  it("computes it again where contexts are not swapped", () => {
    const { calls, engine } = play(programs, { preset, system: { ...system, preemption: "recompute" } });
    // 17 tokens again, in one step that gives the third token.
    expect(calls.map(({ endedAtMs }) => endedAtMs)).toEqual([20 + 20 + 80, 20 + 20]);
    expect(engine[0]).toMatchObject({ swapTransfers: 0, prefilledTokens: 15 + 15 + 17 });
  });

  it("leaves it where it is while there is room", () => {
    const { engine, preemptions } = play(programs, { preset: { ...preset, kvTokens: 64 }, system });
    expect(preemptions).toBe(1);
    expect(engine[0]).toMatchObject({ swapTransfers: 0, prefilledTokens: 30 });
  });
});

describe("a prefix cache", () => {
  const preset = withCost({ prefillTokenMs: 1 });
  const turns = [program(0, chain(1_000, [40, 9], [20, 2]))];

  it("saves a second turn what the first has left in full blocks", () => {
    const { calls, programs } = play(turns, { preset, system: { ...simple, cache: "lru" } });
    // 40 + 9 − 1 tokens have been computed: 3 blocks. 69 tokens of prompt, 21 of them new.
    expect(calls[1]).toMatchObject({ promptTokens: 69, cachedTokens: 48, serviceMs: 10 + 21 + 10 });
    expect(programs[0]).toMatchObject({ cachedTokens: 48, promptTokens: 109 });
    expect(play(turns, { preset }).calls[1]).toMatchObject({ cachedTokens: 0, serviceMs: 10 + 69 + 10 });
  });

  it("keeps just what the plan retains with `policy`", () => {
    const policy = play(turns, { preset, system: { ...simple, cache: "policy" } });
    expect(policy.calls[1]).toMatchObject({ cachedTokens: 48 });
    // The other program's first call finds the shared prompt only while somebody has it.
    const shared = { sharedPrompt: "s", sharedPromptTokens: 32 };
    const two = [program(0, [call(8, 2)], shared), program(500, [call(8, 2)], shared)];
    expect(play(two, { preset, system: { ...simple, cache: "policy" } }).calls[1]?.cachedTokens).toBe(0);
    expect(play(two, { preset, system: { ...simple, cache: "lru" } }).calls[1]?.cachedTokens).toBe(32);
  });

  it("has nothing of an answer that is still being generated, as an open loop asks for it", () => {
    const cachedAfter = (gapMs: number) => {
      const programs = [program(0, [call(40, 9), call(20, 2, { extends: 0, gapMs })])];
      return play(programs, { preset, system: { ...simple, cache: "lru" } }).calls[1]?.cachedTokens;
    };
    // The first call's prompt takes 50 ms, its answer ends at 130.
    expect([cachedAfter(60), cachedAfter(1_000)]).toEqual([0, 48]);
  });

  it("has evicted blocks in host memory, and loads them in one transfer", () => {
    // 6 blocks: the second program's 80 tokens push out the first one's.
    const programs = [program(0, chain(1_000, [40, 9], [20, 2])), program(300, [call(80, 2)])];
    const small = { ...preset, kvTokens: 96 };
    const system = { ...simple, cache: "lru", hostCache: true } as const;
    const { calls, engine } = play(programs, { preset: small, system });
    expect(calls[1]).toMatchObject({ cachedTokens: 48 });
    expect(engine[0]?.hostHitTokens).toBeGreaterThan(0);
    expect(engine[0]?.hostHitTokens).toBe(48 - (engine[0]?.cachedTokens ?? 0));
    const loadedMs = 1 + (engine[0]?.hostHitTokens ?? 0) / 2;
    expect(calls[1]?.serviceMs).toBe(10 + 21 + 10 + loadedMs);
    expect(engine[0]).toMatchObject({ swapTransfers: 1, swapOuts: 0, swapIns: 0, swapMs: loadedMs });
    const without = play(programs, { preset: small, system: { ...system, hostCache: false } });
    expect(without.calls[1]?.cachedTokens).toBeLessThan(48);
  });
});

describe("programs", () => {
  it("are answered without their interrupts, along the path that led to the end", () => {
    const calls = [
      call(1, 2),
      call(1, 3, { parents: [0], gapMs: 100, thread: "short" }),
      call(1, 6, { parents: [0], gapMs: 50, thread: "long" }),
      call(1, 1, { parents: [1, 2], gapMs: 7 }),
    ];
    const { programs, calls: ended } = play([program(5, calls)]);
    expect(endsOf({ calls: ended } as never)).toEqual([25, 165, 135, 182]);
    expect(programs[0]).toMatchObject({ calls: 4, arrivedAtMs: 5, endedAtMs: 182, decodeTokens: 12, workload: "test" });
    // Along the short branch, which began later, and waited 10 ms for the other one's window.
    expect(programs[0]).toMatchObject({ responseMs: 182 - 5 - 107, pathServiceMs: 60, pathWaitingMs: 10 });
    expect(programs[0]).toMatchObject({ serviceMs: 120, waitingMs: 10, aloneMs: 60 });
  });

  it("tell the core of an end before their next call comes", () => {
    // The first call ends inside a window of the other program's; attained service sends the second call to Q2.
    const system = withPolicy(policies.plas, { ladder: doublingLadder(25, 2), windowSteps: 8 });
    const programs = [program(0, chain(0, [1, 3], [1, 1])), program(0, [call(1, 40)]), program(31, [call(1, 1)])];
    const { calls } = play(programs, { system, preset: { ...plain, batchCallsMax: 2 } });
    // At 80 one place is free: for the program that came later and was never served.
    expect(calls.find(({ program, call }) => program === 2 && call === 0)?.dispatchedAtMs).toBe(80);
    expect(calls.find(({ program, call }) => program === 0 && call === 1)?.dispatchedAtMs).toBe(160);
  });

  it("by clairvoyant SRPT go first when little is left of them", () => {
    const programs = [
      program(0, [call(1, 8)]),
      program(1, chain(0, [1, 2], [1, 30])),
      program(2, [call(1, 20)]),
      program(3, chain(0, [1, 2], [1, 2])),
    ];
    const { programs: results } = play(programs, {
      system: { ...simple, policy: "srpt" },
      preset: { ...plain, batchCallsMax: 1 },
    });
    const order = results.toSorted((a, b) => (a.endedAtMs ?? 0) - (b.endedAtMs ?? 0)).map(({ index }) => index);
    expect(order).toEqual([0, 3, 2, 1]);
  });

  it("are stopped at a time, or when those that are awaited have ended", () => {
    const programs = [0, 10, 20].map((at) => program(at, [call(1, 20)]));
    const preset = { ...plain, batchCallsMax: 1 };
    const stopped = play(programs, { preset, untilMs: 300 });
    expect(stopped.endedAtMs).toBe(300);
    expect(stopped.programs.map(({ endedAtMs }) => endedAtMs)).toEqual([200, undefined, undefined]);
    expect(stopped.programs[2]).toMatchObject({ responseMs: 280, waitingMs: 280, serviceMs: 0 });
    expect([stopped.offeredTokens, stopped.completedTokens]).toEqual([60, 20]);
    const awaited = play(programs, { preset, untilEnded: { from: 1, to: 2 } });
    expect(awaited.endedAtMs).toBe(400);
    expect(play(programs, { preset, untilMs: 15 }).programs).toHaveLength(2);
  });
});

describe("several engines", () => {
  it("share what the balancer gives them", () => {
    const programs = Array.from({ length: 8 }, (_, i) => program(i, [call(1, 10)]));
    const system = { ...simple, balancer: balancers["round-robin"] };
    const { calls, engine } = play(programs, { engines: 4, system, preset: { ...plain, batchCallsMax: 2 } });
    expect(calls.map((one) => one.engine)).toEqual([0, 1, 2, 3, 0, 1, 2, 3]);
    expect(engine.map(({ decodedTokens }) => decodedTokens)).toEqual([20, 20, 20, 20]);
  });
});

describe("a simulation", () => {
  it("is the same for the same specification, byte for byte", () => {
    const run = () => {
      const programs = workloads.lats({ programs: 12, ratePerS: 0.5, seed: 5 });
      const system = { ...systems.atlas, hostCache: true };
      return JSON.stringify(simulate({ programs, engines: 2, preset: presets["a100-8b"], system, keepCalls: true }));
    };
    expect(run()).toBe(run());
  });

  it("plays a pause of centuries at no cost", () => {
    const later = 1e13;
    const { endedAtMs, programs } = play([program(0, [call(1, 10)]), program(later, [call(1, 10)])]);
    expect(endedAtMs - later).toBeCloseTo(programs[0]?.endedAtMs ?? 0, 0);
  });

  it("refuses what cannot be played", () => {
    expect(() => play([program(5, [call(1, 1)]), program(4, [call(1, 1)])])).toThrow(/arrives before/);
    expect(() => play([program(0, [])])).toThrow(/no calls/);
    expect(() => play([program(0, [call(1, 1)])], { engines: 0 })).toThrow(/engines/);
    expect(() => play([program(0, [call(1, 1, { parents: [0] })])])).toThrow(/wait/);
    expect(() => play([program(0, [call(1, 1)])], { untilEnded: { from: 0, to: 2 } })).toThrow(/not among/);
  });
});
