import type { EnginePreset } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { SimCall, SimProgram } from "../src/calls.ts";
import { EngineModel } from "../src/engine-model.ts";
import { call, plain, program, simple, withCost } from "./lab.ts";

function started(prompt: number, decode: number, index = 0): SimCall {
  return new SimCall(new SimProgram(index, program(0, [call(prompt, decode)])), 0, 0);
}

function modelOf(preset: EnginePreset, batch: SimCall[]): EngineModel {
  const model = new EngineModel(preset, simple);
  model.begins(batch);
  return model;
}

describe("a segment", () => {
  const preset = withCost({ contextTokenMs: 1, planMs: 5 });

  it("advances many steps at once, as one by one", () => {
    const ended: SimCall[] = [];
    const sizes = [
      [100, 9],
      [50, 30],
      [7, 12],
    ] as const;
    const [together, apart] = [64, 1].map((stepsMax) => {
      const calls = sizes.map(([prompt, decode], index) => started(prompt, decode, index));
      const model = modelOf(preset, [...calls]);
      let at = 0;
      while (model.batch.length > 0) {
        at = model.begin(at, stepsMax);
        model.end(at, model.steps, ended);
      }
      return { at, calls: calls.map(({ serviceMs, endedAt }) => ({ serviceMs, endedAt })), counts: model.counts };
    });
    expect(together?.at).toBeCloseTo(apart?.at ?? 0, 6);
    for (const [index, one] of (together?.calls ?? []).entries()) {
      expect(one.serviceMs).toBeCloseTo(apart?.calls[index]?.serviceMs ?? 0, 6);
      expect(one.endedAt).toBeCloseTo(apart?.calls[index]?.endedAt ?? 0, 6);
    }
    expect(together?.counts).toMatchObject({ steps: 30, stepCalls: 9 + 30 + 12, decodedTokens: 51 });
    expect(apart?.counts).toMatchObject({ steps: 30, stepCalls: 9 + 30 + 12, decodedTokens: 51 });
  });

  it("can be cut at the next step's end", () => {
    const one = started(4, 100);
    const model = modelOf(preset, [one]);
    const begun = model.begin(0, 8);
    expect([begun, model.steps]).toEqual([10, 1]);
    model.end(begun, 1, []);
    model.waitForPlan();
    model.waitForSwap(3);
    // 5 of planning, 3 of swapping, then steps of 14, 15, 16 … ms.
    expect(model.begin(10, 8)).toBe(10 + 8 + (14 + 21) * 4);
    expect([12, 32, 33, 47, 48, 1_000].map((at) => model.stepsBy(at))).toEqual([1, 1, 2, 2, 3, 8]);
    expect(model.endOf(2)).toBe(10 + 8 + 29);
    model.end(47, 2, []);
    expect(one).toMatchObject({ generated: 3, computed: 6, serviceMs: 10 + 3 + 29 });
    expect(model.counts).toMatchObject({ steps: 3, planMs: 5, busyMs: 42 });
  });

  it("does not begin with contexts that would outgrow the engine: the tail waits", () => {
    const [first, second] = [started(16, 40), started(16, 40, 1)];
    const model = modelOf({ ...plain, kvTokens: 48 }, [first, second]);
    let at = model.begin(0, 16);
    expect(model.batch).toEqual([first, second]);
    model.end(at, model.steps, []);
    // 16 more steps would take two blocks each, and there are three.
    at = model.begin(at, 16);
    expect(model.batch).toEqual([first]);
    expect(second).toMatchObject({ place: "host", computed: 16, generated: 1 });
    expect(model.counts.outgrown).toBe(1);
    // One block went out: 16 ms, and 1 to begin.
    expect(at).toBe(10 + 17 + 160);
    model.end(at, model.steps, []);
    model.resumeParked();
    expect(model.batch).toEqual([first, second]);
    expect(second.place).toBe("engine");
  });
});
