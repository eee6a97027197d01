import { presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { asRecorded } from "../src/recorded-engine.ts";
import { systems } from "../src/systems.ts";

const preset = presets["a100-8b"];
const capacity = { batchCallsMax: 4, residentCallsMax: 6, heldCallsMax: 9, kvBlocks: 100, blockTokens: 16 };

describe("the engine of a recording", () => {
  it("is as fast as the preset and has the recorded memory, with no host tier that it did not have", () => {
    const recorded = asRecorded({ ...capacity, preemption: "recompute" }, preset, systems.plas);
    const room = { batchCallsMax: 4, residentCallsMax: 6, kvTokens: 1600, hostKvTokens: 0 };
    expect(recorded).toEqual({ preset: { ...preset, ...room }, system: { ...systems.plas, preemption: "recompute" } });
  });

  it("swaps where it had a host tier, and keeps the contexts of ended calls as the plan says where it did", () => {
    const { preset: engine, system } = asRecorded(
      { ...capacity, preemption: "swap", hostBlocks: 50, retains: true },
      preset,
      systems["vllm-opt+offload"],
    );
    expect(engine.hostKvTokens).toBe(800);
    expect(system).toMatchObject({ preemption: "swap", cache: "policy", hostCache: false });
    const without = asRecorded({ ...capacity, preemption: "swap" }, preset, systems.plas).system;
    expect(without).toMatchObject({ preemption: "recompute", cache: systems.plas.cache });
  });

  it("is the preset's own when no agent had joined", () => {
    expect(asRecorded(undefined, preset, systems.fcfs)).toEqual({ preset, system: systems.fcfs });
  });
});
