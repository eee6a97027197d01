/** Contexts of ended calls, from which later calls of their program go on. */
import { expect, it } from "vitest";
import { advanceOne, chat, itIf, open, type Rig, type Traits } from "./subject.ts";

export function retainTests(rig: Rig, can: Traits): void {
  /** A conversation: its second call begins with what the first one had and said. */
  const conversation = async () => {
    const { engine } = rig;
    const first = chat(`A long history. ${"word ".repeat(20)}`, { completionTokensMax: 20 });
    const call = await open(engine, first);
    const answer = await advanceOne(engine, call);
    const messages = [
      ...first.messages,
      { role: "assistant" as const, content: answer.text },
      { role: "user" as const, content: "And then?" },
    ];
    return { call, next: { ...first, messages } };
  };
  const cold = async (next: Parameters<typeof open>[1]) => {
    const call = await open(rig.engine, next);
    const answer = await advanceOne(rig.engine, call);
    await rig.engine.close(call);
    return answer;
  };

  it("keeps the context of an ended call, and does not step it", async () => {
    const { engine, short } = rig;
    const call = await open(engine, short);
    await advanceOne(engine, call);
    const tokens = call.contextTokens;
    expect([await engine.retain(call), call.contextTokens]).toEqual([true, tokens]);
    expect(engine.counters()).toMatchObject({ residentCalls: 1, contextTokens: tokens });
    await expect(engine.step([call])).rejects.toThrow();
    await engine.evict(call);
    expect([call.contextTokens, engine.counters().residentCalls]).toEqual([0, 0]);
    await engine.close(call);
    expect(await engine.retain(call)).toBe(false);
  });

  it("goes on from a retained context: only what is new is evaluated, and the text is the same", async () => {
    const { engine } = rig;
    const { call, next } = await conversation();
    const whole = await cold(next);
    await engine.retain(call);
    const had = call.contextTokens;
    const before = engine.counters();
    const warm = await open(engine, next, [], { continues: call });
    expect(warm.cachedTokens).toBeGreaterThan(20);
    expect(warm.cachedTokens).toBeLessThanOrEqual(Math.min(had, warm.promptTokens - 1));
    expect([warm.contextTokens, engine.counters().residentCalls]).toEqual([warm.cachedTokens, 1]);
    const answer = await advanceOne(engine, warm);
    const after = engine.counters();
    expect(after.prefilledTokens - before.prefilledTokens).toBe(warm.promptTokens - warm.cachedTokens);
    expect(after.cachedTokens - before.cachedTokens).toBe(warm.cachedTokens);
    if (can.exactText) expect(answer.text).toBe(whole.text);
    await expect(engine.step([call])).rejects.toThrow();
    await engine.close(call);
    expect(engine.counters().residentCalls).toBe(1);
    await engine.close(warm);
    expect(engine.counters().residentCalls).toBe(0);
  });

  it("evaluates at least one token of a prompt that was there before", async () => {
    const { engine, short, whole } = rig;
    const call = await open(engine, short);
    await advanceOne(engine, call);
    await engine.retain(call);
    const again = await open(engine, short, [], { continues: call });
    expect(again.cachedTokens).toBe(again.promptTokens - 1);
    const answer = await advanceOne(engine, again);
    if (can.exactText) expect(answer.text).toBe(whole.text);
    await engine.close(again);
  });

  it("drops a retained context that has nothing in common but the beginning", async () => {
    const { engine, short } = rig;
    const { call } = await conversation();
    await engine.retain(call);
    const other = await open(engine, short, [], { continues: call });
    expect(other.cachedTokens).toBeLessThan(other.promptTokens);
    expect(other.contextTokens).toBe(other.cachedTokens);
    const answer = await advanceOne(engine, other);
    if (can.exactText) expect(answer.text).toBe(rig.whole.text);
    await engine.close(other);
    expect(engine.counters()).toMatchObject({ residentCalls: 0, contextTokens: 0 });
  });

  it("goes on from a retained context for forced ids too", async () => {
    const { engine } = rig;
    const { call, next } = await conversation();
    const whole = await cold(next);
    await engine.retain(call);
    const warm = await open(engine, next, whole.ids.slice(0, 3), { continues: call });
    const answer = await advanceOne(engine, warm);
    if (can.exactText) expect(`${warm.forcedText}${answer.text}`).toBe(whole.text);
    await engine.close(warm);
  });

  itIf(can.hostTier)("goes on from a retained context that went through the host tier", async () => {
    const { engine } = rig;
    const { call, next } = await conversation();
    const whole = await cold(next);
    await engine.retain(call);
    const out = await engine.swapOut(call);
    expect(call.hostTokens).toBe(out?.tokens);
    const warm = await open(engine, next, [], { continues: call });
    expect([warm.contextTokens, warm.hostTokens > 20, engine.counters().residentCalls]).toEqual([0, true, 0]);
    await expect(engine.step([warm])).rejects.toThrow();
    expect(await engine.swapIn(warm)).toBeDefined();
    expect([warm.contextTokens > 20, warm.hostTokens, warm.contextTokens]).toEqual([true, 0, warm.cachedTokens]);
    const answer = await advanceOne(engine, warm);
    if (can.exactText) expect(answer.text).toBe(whole.text);
    await engine.close(warm);
    expect(engine.counters()).toMatchObject({ residentCalls: 0, hostBytes: 0 });
  });

  it("says no to a call without a context, and closes it", async () => {
    const { engine, short } = rig;
    const call = await open(engine, short);
    expect(await engine.retain(call)).toBe(false);
    await expect(engine.step([call])).rejects.toThrow();
  });
}
