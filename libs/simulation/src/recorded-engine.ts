/**
 * The engine of a recording, in the simulator: as fast as a preset says, with the memory that the recorded one had. Its
 * capacity is as its agent said it; undefined: no agent had joined, so the preset's own engine is taken.
 */
import type { EngineCapacity } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import type { System } from "./systems.ts";

export function recordedPreset(capacity: EngineCapacity | undefined, preset: EnginePreset): EnginePreset {
  if (!capacity) return preset;
  const { batchCallsMax, residentCallsMax, kvBlocks, blockTokens, hostBlocks = 0 } = capacity;
  const kvTokens = kvBlocks * blockTokens;
  return { ...preset, batchCallsMax, residentCallsMax, kvTokens, hostKvTokens: hostBlocks * blockTokens };
}

export function recordedSystem(capacity: EngineCapacity | undefined, system: System): System {
  if (!capacity) return system;
  const { preemption, hostBlocks = 0, retains = false } = capacity;
  return {
    ...system,
    // An engine that retains contexts has no other cache, and its host tier holds what the plan says.
    ...(retains ? { cache: "policy", hostCache: false } : {}),
    preemption: preemption === "swap" && hostBlocks > 0 ? "swap" : "recompute",
  };
}
