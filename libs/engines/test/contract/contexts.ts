/** Where contexts lie: on the engine, in the host tier, nowhere, or with the next call of their program. */
import { expect, it } from "vitest";
import type { EngineCall } from "../../src/port.ts";
import { retainTests } from "./retention.ts";
import { advance, advanceOne, chat, itIf, open, type Rig, SUBJECT, type Traits } from "./subject.ts";

export function contextTests(rig: Rig, can: Traits): void {
  itIf(can.exactText && can.exactBatch)("recomputes an evicted call and goes on with the same text", async () => {
    const { engine, short, whole } = rig;
    for (const cut of [1, 4, whole.tokens - 1]) {
      const call = await open(engine, short);
      const first = await advanceOne(engine, call, cut);
      await engine.evict(call);
      await engine.evict(call);
      expect([call.contextTokens, call.hostTokens, call.completionTokens]).toEqual([0, 0, cut]);
      const rest = await advanceOne(engine, call);
      expect([`${first.text}${rest.text}`, call.ids]).toEqual([whole.text, whole.ids]);
      await engine.close(call);
    }
  });

  itIf(can.exactBatch)("can stop and go on with a call at any time", async () => {
    const { engine, short } = rig;
    const call = await open(engine, short);
    const seen = [call.preemptible];
    for (let i = 0; i < 4; i++) {
      await engine.step([call]);
      seen.push(call.preemptible);
    }
    expect(new Set(seen)).toEqual(new Set([true]));
    await engine.close(call);
  });

  it("reuses nothing of a call that it was not told to go on from", async () => {
    const { engine, short } = rig;
    const call = await open(engine, short);
    await advanceOne(engine, call);
    if (!can.forwards) expect(call.cachedTokens).toBe(0);
    await engine.close(call);
  });

  if (can.hostTier) swapTests(rig, can);
  else {
    it("without a host tier, leaves a context where it is", async () => {
      const { engine, short } = rig;
      const call = await open(engine, short);
      await advance(engine, [call], 2);
      const before = call.contextTokens;
      expect([await engine.swapOut(call), await engine.swapIn(call)]).toEqual([undefined, undefined]);
      expect([call.contextTokens, call.hostTokens]).toEqual([before, 0]);
      expect(await engine.leave(call)).toBeUndefined();
      expect(engine.counters()).toMatchObject({ residentCalls: 0, hostBytes: 0, swapOuts: 0, swapIns: 0 });
    });
  }
  if (can.retains) retainTests(rig, can);
  else {
    it("without retention, closes what it is told to retain, and goes on from nothing", async () => {
      const { engine, short, whole } = rig;
      const call = await open(engine, short);
      await advanceOne(engine, call);
      expect(await engine.retain(call)).toBe(false);
      expect(engine.counters().residentCalls).toBe(0);
      const next = await open(engine, short, [], { continues: call });
      const answer = await advanceOne(engine, next);
      if (can.exactText) expect(answer.text).toBe(whole.text);
      await engine.close(next);
    });
  }
}

function swapTests(rig: Rig, can: Traits): void {
  it("moves a context out and in, in the prompt and in the answer, with the same text", async () => {
    const { engine, short, whole } = rig;
    for (let steps = 0; steps < whole.tokens + 1; steps++) {
      const call = await open(engine, short);
      let text = "";
      for (let i = 0; i <= steps && call.completionTokens < whole.tokens; i++) {
        text += (await engine.step([call])).calls[0]?.text ?? "";
      }
      const tokens = call.contextTokens;
      const out = await engine.swapOut(call);
      expect(out).toMatchObject({ tokens });
      expect([call.contextTokens, call.hostTokens, await engine.swapOut(call)]).toEqual([0, tokens, undefined]);
      expect(await engine.swapIn(call)).toMatchObject({ tokens, bytes: out?.bytes });
      expect([call.contextTokens, call.hostTokens, await engine.swapIn(call)]).toEqual([tokens, 0, undefined]);
      if (call.completionTokens < whole.tokens) text += (await advanceOne(engine, call)).text;
      expect(text).toBe(whole.text);
      await engine.close(call);
    }
  });

  it("counts transfers, and what lies in the tier", async () => {
    const { engine, short } = rig;
    const call = await open(engine, short);
    await advance(engine, [call], 2);
    const before = engine.counters();
    const out = await engine.swapOut(call);
    const there = engine.counters();
    expect(there).toMatchObject({ residentCalls: 0, contextTokens: 0 });
    expect([there.swapOuts - before.swapOuts, there.swapIns - before.swapIns]).toEqual([1, 0]);
    expect(there.hostBytes).toBeGreaterThan(0);
    expect(there.swapBytes - before.swapBytes).toBe(out?.bytes);
    const back = await engine.swapIn(call);
    const after = engine.counters();
    expect([after.swapOuts - before.swapOuts, after.swapIns - before.swapIns]).toEqual([1, 1]);
    expect([after.hostBytes, after.residentCalls]).toEqual([before.hostBytes, 1]);
    expect(after.swapMs - before.swapMs).toBeCloseTo((out?.durationMs ?? -1) + (back?.durationMs ?? -1), 6);
    await engine.close(call);
  });

  it("steps no call whose context lies in the tier, and has nothing to move of a call without one", async () => {
    const { engine, short } = rig;
    const call = await open(engine, short);
    expect([await engine.swapOut(call), await engine.swapIn(call)]).toEqual([undefined, undefined]);
    await advance(engine, [call], 2);
    await engine.swapOut(call);
    await expect(engine.step([call])).rejects.toThrow();
    expect([call.contextTokens, call.completionTokens]).toEqual([0, 2]);
    await engine.evict(call);
    expect([call.hostTokens, engine.counters().hostBytes]).toEqual([0, 0]);
    await advance(engine, [call], 1);
    expect(call.completionTokens).toBe(3);
    await engine.swapOut(call);
    await engine.close(call);
    expect([engine.counters().hostBytes, await engine.swapOut(call)]).toEqual([0, undefined]);
  });

  it("moves a context only between steps", async () => {
    const { engine, short, whole } = rig;
    const [moved, other] = [await open(engine, short), await open(engine, short)];
    const first = await advanceOne(engine, moved, 3);
    const step = engine.step([moved, other]);
    const out = await engine.swapOut(moved);
    const { calls } = await step;
    expect(out?.tokens).toBe(moved.hostTokens);
    expect(moved.hostTokens).toBe(moved.promptTokens + moved.completionTokens - 1);
    await engine.swapIn(moved);
    const rest = await advanceOne(engine, moved);
    expect(`${first.text}${calls[0]?.text}${rest.text}`).toBe(whole.text);
    await Promise.all([engine.close(moved), engine.close(other)]);
  });

  it("says when the tier has no room, and the context stays where it was", async () => {
    const { engine } = rig;
    const held: EngineCall[] = [];
    // Calls count in whole blocks at the agent; the tier may count finer, but holds no more than it says.
    let [blocks, tokens] = [0, 0];
    for (;;) {
      const call = await open(engine, chat(`${held.length} ${"word ".repeat(20)}`, { completionTokensMax: 4 }));
      await advance(engine, [call], 2);
      const { contextTokens } = call;
      blocks += Math.ceil(contextTokens / SUBJECT.blockTokens);
      held.push(call);
      if ((await engine.swapOut(call)) === undefined) {
        expect([call.contextTokens, call.hostTokens]).toEqual([contextTokens, 0]);
        expect(blocks).toBeGreaterThan(SUBJECT.hostBlocks);
        break;
      }
      tokens += contextTokens;
      expect(tokens).toBeLessThanOrEqual(SUBJECT.hostBlocks * SUBJECT.blockTokens);
    }
    expect((await advanceOne(engine, held.at(-1) as EngineCall)).finish).toBeDefined();
    // It has grown by a block, perhaps.
    await Promise.all(held.slice(0, 2).map((call) => engine.close(call)));
    expect(await engine.swapOut(held.at(-1) as EngineCall)).toBeDefined();
    await Promise.all(held.map((call) => engine.close(call)));
    expect(engine.counters()).toMatchObject({ residentCalls: 0, contextTokens: 0, hostBytes: 0 });
  });

  itIf(can.leaves)("leaves a context to another engine of the host, which goes on with the same text", async () => {
    const { engine, short, whole, subject } = rig;
    if (subject.another === undefined) throw new Error("it has no second engine");
    const other = await subject.another();
    for (const cut of [1, 5, whole.tokens - 1]) {
      const [call, key] = [await open(engine, short, [], { key: `test/left-${cut}` }), `test/left-${cut}`];
      const first = await advanceOne(engine, call, cut);
      const tokens = call.contextTokens;
      expect(await engine.leave(call)).toMatchObject({ tokens });
      expect(engine.counters()).toMatchObject({ residentCalls: 0 });
      const moved = await open(other, short, first.ids, { key });
      expect([moved.contextTokens, moved.hostTokens]).toEqual([0, tokens]);
      expect(await other.swapIn(moved)).toMatchObject({ tokens });
      const { calls } = await other.step([moved]);
      expect([calls[0]?.prefilledTokens, calls[0]?.tokens]).toEqual([0, 1]);
      const rest = calls[0]?.finish === undefined ? (await advanceOne(other, moved)).text : "";
      expect(`${first.text}${calls[0]?.text}${rest}`).toBe(whole.text);
      await other.close(moved);
    }
    await other.shutdown();
    expect(engine.counters().hostBytes).toBe(0);
  });

  itIf(can.leaves)("takes over nothing that was left under another key, or twice", async () => {
    const { engine, short, whole, subject } = rig;
    if (subject.another === undefined) throw new Error("it has no second engine");
    const other = await subject.another();
    const call = await open(engine, short, [], { key: "test/left" });
    const first = await advanceOne(engine, call, 4);
    await engine.leave(call);
    const stranger = await open(other, short, first.ids, { key: "test/stranger" });
    const heir = await open(other, short, first.ids, { key: "test/left" });
    const again = await open(other, short, first.ids, { key: "test/left" });
    expect([stranger.hostTokens, heir.hostTokens > 0, again.hostTokens]).toEqual([0, true, 0]);
    await other.close(heir);
    expect(`${first.text}${(await advanceOne(other, again)).text}`).toBe(whole.text);
    await other.shutdown();
  });
}
