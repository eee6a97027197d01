import { presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { recordedPreset, recordedSystem } from "../src/recorded-engine.ts";
import { systems } from "../src/systems.ts";

const preset = presets["a100-8b"];
const capacity = { batchCallsMax: 4, residentCallsMax: 6, heldCallsMax: 9, kvBlocks: 100, blockTokens: 16 };

describe("the engine of a recording", () => {
  it("is as fast as the preset and has the recorded memory, with no host tier that it did not have", () => {
    const recorded = { ...capacity, preemption: "recompute" } as const;
    const room = { batchCallsMax: 4, residentCallsMax: 6, kvTokens: 1600, hostKvTokens: 0 };
    expect(recordedPreset(recorded, preset)).toEqual({ ...preset, ...room });
    expect(recordedSystem(recorded, systems.plas)).toEqual({ ...systems.plas, preemption: "recompute" });
  });

  it("swaps where it had a host tier, and keeps the contexts of ended calls as the plan says where it did", () => {
    const recorded = { ...capacity, preemption: "swap", hostBlocks: 50, retains: true } as const;
    expect(recordedPreset(recorded, preset).hostKvTokens).toBe(800);
    expect(recordedSystem(recorded, systems["vllm-opt+offload"])).toMatchObject({
      preemption: "swap",
      cache: "policy",
      hostCache: false,
    });
    const without = recordedSystem({ ...capacity, preemption: "swap" }, systems.plas);
    expect(without).toMatchObject({ preemption: "recompute", cache: systems.plas.cache });
  });

  it("is the preset's own when no agent had joined", () => {
    expect(recordedPreset(undefined, preset)).toEqual(preset);
    expect(recordedSystem(undefined, systems.fcfs)).toEqual(systems.fcfs);
  });
});
