/** Which calls a step advances, and how calls come and go beside it. */
import { expect, it } from "vitest";
import type { EngineCall } from "../../src/port.ts";
import { advance, advanceOne, chat, itIf, open, type Rig, SUBJECT, type Traits } from "./subject.ts";

export function batchTests(rig: Rig, can: Traits): void {
  it("advances only the calls of the batch", async () => {
    const { engine, short } = rig;
    const [a, b] = [await open(engine, short), await open(engine, short)];
    await advance(engine, [a], 3);
    expect([a.completionTokens >= 3, b.completionTokens, b.contextTokens]).toEqual([true, 0, 0]);
    if (can.exactBatch) expect(a.completionTokens).toBe(3);
    await Promise.all([engine.close(a), engine.close(b)]);
  });

  itIf(can.exactBatch)("advances a batch together, with one result for each call in its order", async () => {
    const { engine } = rig;
    const calls = await Promise.all([0, 1, 2, 3].map((i) => open(engine, chat(`Question number ${i}?`))));
    await advance(engine, calls, 2);
    const before = engine.counters();
    const result = await engine.step(calls);
    expect(result.calls.map((step) => [step.call.key, step.tokens])).toEqual(calls.map((call) => [call.key, 1]));
    const after = engine.counters();
    expect([after.steps - before.steps, after.stepCalls - before.stepCalls, after.batchMax]).toEqual([1, 4, 4]);
    await Promise.all(calls.map((call) => engine.close(call)));
  });

  it("gives results in the order of the batch, and counts it", async () => {
    const { engine } = rig;
    const calls = await Promise.all([0, 1, 2].map((i) => open(engine, chat(`Question number ${i}?`))));
    const before = engine.counters();
    const result = await engine.step(calls);
    const after = engine.counters();
    expect(result.calls.map((step) => step.call)).toEqual(calls);
    expect(result.durationMs).toBeGreaterThanOrEqual(0);
    expect([after.steps - before.steps, after.stepCalls - before.stepCalls]).toEqual([1, 3]);
    await Promise.all(calls.map((call) => engine.close(call)));
  });

  itIf(can.exactBatch)("gives at most one slice of prompt per step, to the first call that needs it", async () => {
    const { engine } = rig;
    const calls = await Promise.all([0, 1].map((i) => open(engine, chat(`${i} ${"word ".repeat(60)}`))));
    const { calls: steps } = await engine.step(calls);
    expect(steps.map((step) => [step.prefilledTokens, step.tokens])).toEqual([
      [SUBJECT.sliceTokens, 0],
      [0, 0],
    ]);
    await Promise.all(calls.map((call) => engine.close(call)));
  });

  itIf(can.exactText)("gives a call the same text alone and beside others", async () => {
    const { engine, short, whole } = rig;
    const room = { completionTokensMax: 100 };
    const others = [chat("Another one.", room), chat("And a third, longer than the second.", room)];
    const calls = await Promise.all([short, ...others, short].map((one) => open(engine, one)));
    const answers = await advance(engine, calls);
    expect([answers[0]?.text, answers[3]?.text]).toEqual([whole.text, whole.text]);
    await Promise.all(calls.map((call) => engine.close(call)));
  });

  itIf(can.exactText)("goes on with a parked call as if it had not waited", async () => {
    const { engine, short, whole } = rig;
    const [parked, other] = [await open(engine, short), await open(engine, chat("Something else."))];
    await engine.park(parked);
    let text = "";
    for (let cut = 1; text.length < whole.text.length && cut < 4; cut++) {
      text += (await advanceOne(engine, parked, cut)).text;
      await engine.park(parked);
      await engine.park(parked);
      await advance(engine, [other], 2);
    }
    text += parked.completionTokens < whole.tokens ? (await advanceOne(engine, parked)).text : "";
    expect(text).toBe(whole.text);
    await Promise.all([engine.close(parked), engine.close(other)]);
  });

  it("frees a call that is closed in the middle of its prompt", async () => {
    const { engine } = rig;
    const call = await open(engine, chat("word ".repeat(100)));
    await engine.step([call]);
    if (can.exactBatch) expect(call.contextTokens).toBe(SUBJECT.sliceTokens);
    await engine.close(call);
    await engine.close(call);
    expect(engine.counters()).toMatchObject({ residentCalls: 0, contextTokens: 0, hostBytes: 0 });
    await expect(engine.step([call])).rejects.toThrow();
  });

  it("frees a call that is closed under a running step, and its neighbours go on", async () => {
    const { engine, short, whole } = rig;
    const [closing, other] = [await open(engine, chat("word ".repeat(100))), await open(engine, short)];
    const first = await advanceOne(engine, other, 2);
    const step = engine.step([closing, other]);
    await engine.close(closing);
    const { calls } = await step;
    if (can.contexts) expect(engine.counters().residentCalls).toBe(1);
    const middle = calls[1]?.text ?? "";
    const rest = calls[1]?.finish === undefined ? (await advanceOne(engine, other)).text : "";
    if (can.exactText) expect(`${first.text}${middle}${rest}`).toBe(whole.text);
    await engine.close(other);
  });

  it("holds as many contexts as it says", async () => {
    const { engine, short } = rig;
    const calls = await Promise.all(Array.from({ length: SUBJECT.residentCallsMax }, () => open(engine, short)));
    for (const call of calls) {
      await advance(engine, [call], 2);
      await engine.park(call);
    }
    if (can.contexts) expect(engine.counters().residentCalls).toBe(SUBJECT.residentCallsMax);
    for (const call of calls) {
      const answer = await advanceOne(engine, call);
      expect(answer.finish).toBe(rig.whole.finish);
    }
    await Promise.all(calls.map((call) => engine.close(call)));
    expect(engine.counters().residentCalls).toBe(0);
  });

  it("refuses a second step while one runs, and a batch that breaks the rules", async () => {
    const { engine, short } = rig;
    const calls = await Promise.all(Array.from({ length: SUBJECT.batchCallsMax + 1 }, () => open(engine, short)));
    const [first] = calls as [EngineCall];
    const running = engine.step([first]);
    await expect(engine.step([first])).rejects.toThrow();
    await running;
    await expect(engine.step([])).rejects.toThrow();
    await expect(engine.step([first, first])).rejects.toThrow();
    await expect(engine.step(calls)).rejects.toThrow();
    await Promise.all(calls.map((call) => engine.close(call)));
  });
}
