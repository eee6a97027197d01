/** What moving KV between an engine and its host costs, and how much of it was moved. */
import { type EnginePreset, swapTime } from "@autellix/engines/cost";

export interface SwapCounts {
  swapOuts: number;
  swapIns: number;
  /** One per call, or one per block. */
  swapTransfers: number;
  swapBytes: number;
  swapMs: number;
}

export class Swaps {
  readonly counts: SwapCounts = { swapOuts: 0, swapIns: 0, swapTransfers: 0, swapBytes: 0, swapMs: 0 };
  private readonly preset: EnginePreset;
  private readonly per: "call" | "block";
  private readonly blockBytes: number;

  constructor(preset: EnginePreset, per: "call" | "block", blockTokens: number) {
    this.preset = preset;
    this.per = per;
    this.blockBytes = blockTokens * preset.kvTokenBytes;
  }

  /** Moves a call's context, all of its blocks. @returns how long the engine waits for it. ms */
  move(direction: "out" | "in", blocks: number): number {
    if (blocks === 0) return 0;
    const { counts, per } = this;
    const bytes = blocks * this.blockBytes;
    const ms = swapTime(this.preset.swap, direction, per, { bytes, blocks });
    if (direction === "out") counts.swapOuts++;
    else counts.swapIns++;
    counts.swapTransfers += per === "call" ? 1 : blocks;
    counts.swapBytes += bytes;
    counts.swapMs += ms;
    return ms;
  }

  /**
   * Loads cached blocks from the host tier for one prompt. Such caches gather their blocks whatever the engine's own
   * swapping does, so it is one transfer. Storing them is not waited for: it has a copy stream of its own.
   */
  load(blocks: number): number {
    if (blocks === 0) return 0;
    const bytes = blocks * this.blockBytes;
    const ms = swapTime(this.preset.swap, "in", "call", { bytes, blocks });
    this.counts.swapTransfers++;
    this.counts.swapBytes += bytes;
    this.counts.swapMs += ms;
    return ms;
  }
}
