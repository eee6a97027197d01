/** The engine of a recording, in the simulator: as fast as a preset says, with the memory that the recorded one had. */
import type { EngineCapacity } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import type { System } from "./systems.ts";

/** @param capacity as its agent said it; undefined: no agent had joined, so the preset's own engine is taken. */
export function asRecorded(
  capacity: EngineCapacity | undefined,
  preset: EnginePreset,
  system: System,
): { preset: EnginePreset; system: System } {
  if (!capacity) return { preset, system };
  const { batchCallsMax, residentCallsMax, kvBlocks, blockTokens, hostBlocks = 0, retains = false } = capacity;
  const kvTokens = kvBlocks * blockTokens;
  return {
    preset: { ...preset, batchCallsMax, residentCallsMax, kvTokens, hostKvTokens: hostBlocks * blockTokens },
    system: {
      ...system,
      // An engine that retains contexts has no other cache, and its host tier holds what the plan says.
      ...(retains ? { cache: "policy", hostCache: false } : {}),
      preemption: capacity.preemption === "swap" && hostBlocks > 0 ? "swap" : "recompute",
    },
  };
}
