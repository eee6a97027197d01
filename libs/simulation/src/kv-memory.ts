/** KV memory of one engine: which contexts lie on it, which in host memory, and what is cached between them. */
import type { EnginePreset } from "@autellix/engines/cost";
import type { SimCall, SimProgram } from "./calls.ts";
import { PrefixCache } from "./prefix-cache.ts";
import { Swaps } from "./swap.ts";
import type { System } from "./systems.ts";

/** Tokens of a KV block: vLLM's default, and llama.cpp's in our engine. */
export const BLOCK_TOKENS = 16;

export class KvMemory {
  readonly kvBlocks: number;
  readonly hostBlocks: number;
  readonly swaps: Swaps;
  /** Blocks of resident calls' contexts, each whole: what the core plans with. A prefix that calls share counts for each. */
  residentBlocks = 0;
  residentBlocksMax = 0;
  /** Blocks of ended calls' contexts that are kept for others. */
  private retainedBlocks = 0;
  cachedTokens = 0;
  hostHitTokens = 0;
  private readonly cache: PrefixCache | undefined;
  private readonly preemption: System["preemption"];
  /** Blocks of contexts that were swapped out. */
  private swappedBlocks = 0;

  constructor(preset: EnginePreset, system: System) {
    this.kvBlocks = Math.floor(preset.kvTokens / BLOCK_TOKENS);
    this.hostBlocks = Math.floor(preset.hostKvTokens / BLOCK_TOKENS);
    this.preemption = system.preemption;
    this.swaps = new Swaps(preset, system.swapPer, BLOCK_TOKENS);
    if (system.cache === "none") return;
    this.cache = new PrefixCache({
      kvBlocks: this.kvBlocks,
      blockTokens: BLOCK_TOKENS,
      eviction: system.cache === "lru" ? "lru" : "at-once",
      hostBlocks: system.hostCache ? this.hostBlocks : 0,
    });
  }

  /** Blocks on the engine: contexts, with shared prefixes once, and cache. */
  get usedBlocks(): number {
    return this.cache ? this.cache.usedBlocks : this.residentBlocks;
  }

  /** A call's prefill begins: it takes over what the cache has of its context. @returns how long it is loaded. ms */
  begin(call: SimCall): number {
    call.begun = true;
    call.place = "engine";
    const cache = this.cacheFor(call);
    const found = cache?.find(call) ?? 0;
    this.keepPromise(call);
    const loaded = cache?.load(call) ?? 0;
    this.resize(call);
    if (!call.wasBegun) {
      call.wasBegun = true;
      call.cachedTokens = found + loaded;
      this.cachedTokens += found;
      this.hostHitTokens += loaded;
    }
    return this.swaps.load(loaded / BLOCK_TOKENS);
  }

  /** Its context has grown. */
  grow(call: SimCall): void {
    if (call.leaf) this.cache?.advance(call);
    this.resize(call);
  }

  /** An ended call's context goes: what the cache keeps of it is the cache's. */
  end(call: SimCall): void {
    this.leave(call);
    call.place = "none";
  }

  /** An ended call's context stays for its program's next one. */
  retain(call: SimCall): void {
    this.resizeTo(call, 0);
    // Nobody can go on from a block that is not full.
    this.setOutside(call, 0);
    call.retainedBlocks = Math.min(blocksOf(call), this.kvBlocks);
    this.retainedBlocks += call.retainedBlocks;
  }

  /** A call that will be computed again when it resumes; what the cache keeps is found then. */
  drop(call: SimCall): void {
    if (call.place === "host") this.freeHost(call);
    else this.leave(call);
    this.keepPromise(call);
    call.place = "none";
    call.computed = 0;
    call.begun = false;
  }

  /** Its context goes to host memory, or the one that it would have gone on from. @returns how long the engine waits. ms */
  swapOut(call: SimCall): number {
    if (!call.begun && call.continues) return this.swapOut(call.continues);
    if (call.place !== "engine") return 0;
    this.leave(call);
    if (call.computed === 0) {
      call.place = "none";
      call.begun = false;
      return 0;
    }
    call.place = "host";
    const blocks = blocksOf(call);
    this.swappedBlocks += blocks;
    this.fitHostCache();
    return this.swaps.move("out", blocks);
  }

  /** Its context comes back. @returns how long the engine waits. ms */
  swapIn(call: SimCall): number {
    if (call.continues) return this.swapInRetained(call.continues);
    if (call.place !== "host") return 0;
    const ms = this.bringBack(call);
    this.resize(call);
    return ms;
  }

  /** The same for an ended call's context, which a call takes over: from then on its blocks count as that call's. */
  private swapInRetained(context: SimCall): number {
    if (context.place !== "host") return 0;
    const ms = this.bringBack(context);
    this.retain(context);
    return ms;
  }

  /** Space is needed and the core has not said whose: what becomes of a call at the tail of the batch. */
  evict(call: SimCall): number {
    if (this.preemption === "swap" && this.swappedBlocks + blocksOf(call) <= this.hostBlocks) return this.swapOut(call);
    this.drop(call);
    return 0;
  }

  forget(program: SimProgram): void {
    this.cache?.forget(program);
  }

  /** Blocks of all contexts, each whole, when these calls are back. */
  blocksWith(calls: readonly SimCall[]): number {
    let blocks = this.residentBlocks + this.retainedBlocks;
    for (const call of calls) {
      const context = call.continues ?? call;
      if (context.place === "host") blocks += Math.min(blocksOf(context), this.kvBlocks);
    }
    return blocks;
  }

  /** Blocks of all contexts, each whole, when the batch has taken so many more steps. */
  blocksAfter(batch: readonly SimCall[], steps: number): number {
    let blocks = this.residentBlocks + this.retainedBlocks;
    for (const call of batch) {
      // One whose turn to compute its prompt has not come does not grow.
      const computed = call.computed + (call.slice > 0 || call.prefills ? call.slice : steps);
      blocks += Math.min(Math.ceil(computed / BLOCK_TOKENS), this.kvBlocks) - call.blocks;
    }
    return blocks;
  }

  // ── accounts ───────────────────────────────────────────────────────────────────────────────────────────────

  /** A context larger than the engine runs alone (the core caps it) and is never cached. */
  private cacheFor(call: SimCall): PrefixCache | undefined {
    return call.promptTokens + call.decodeTokens < this.kvBlocks * BLOCK_TOKENS ? this.cache : undefined;
  }

  private bringBack(call: SimCall): number {
    const blocks = blocksOf(call);
    this.freeHost(call);
    call.place = "engine";
    this.cacheFor(call)?.restore(call);
    return this.swaps.move("in", blocks);
  }

  /** The context that was kept for this call is not needed any more: its blocks are the call's, or are not wanted. */
  private keepPromise(call: SimCall): void {
    const { continues } = call;
    if (!continues) return;
    call.continues = undefined;
    this.drop(continues);
  }

  private leave(call: SimCall): void {
    this.resizeTo(call, 0);
    this.setOutside(call, 0);
    this.retainedBlocks -= call.retainedBlocks;
    call.retainedBlocks = 0;
    this.cache?.release(call);
  }

  private resize(call: SimCall): void {
    const blocks = Math.min(blocksOf(call), this.kvBlocks);
    if (blocks !== call.blocks) this.resizeTo(call, blocks);
    if (!this.cache) return;
    // In the tree are full blocks only: the last one is the call's own. What cannot be cached is all its own.
    const outside = call.leaf ? Math.min(1, call.computed % BLOCK_TOKENS) : blocks;
    if (outside !== call.privateBlocks) this.setOutside(call, outside);
  }

  private resizeTo(call: SimCall, blocks: number): void {
    this.residentBlocks += blocks - call.blocks;
    call.blocks = blocks;
    if (this.residentBlocks > this.residentBlocksMax) this.residentBlocksMax = this.residentBlocks;
    if (!this.cache && this.residentBlocks > this.kvBlocks)
      throw new Error(`contexts in use take ${this.residentBlocks} KV blocks of ${this.kvBlocks}`);
  }

  private setOutside(call: SimCall, blocks: number): void {
    const change = blocks - call.privateBlocks;
    call.privateBlocks = blocks;
    if (change !== 0) this.cache?.holdOutside(change);
  }

  private freeHost(call: SimCall): void {
    this.swappedBlocks -= blocksOf(call);
    this.fitHostCache();
  }

  private fitHostCache(): void {
    this.cache?.host?.resize(Math.max(0, this.hostBlocks - this.swappedBlocks));
  }
}

function blocksOf(call: SimCall): number {
  return Math.ceil(call.computed / BLOCK_TOKENS);
}
