/** Host tier of a prefix cache: blocks that the engine evicted, least recently stored or loaded first out. */
import { MinHeap } from "./heap.ts";

/** Blocks of a node that are in host memory: [hostLo, hostHi), counted from the node's start. */
export interface HostedBlocks {
  readonly startBlock: number;
  readonly endBlock: number;
  hostLo: number;
  hostHi: number;
  hostUse: number;
}

export class HostCache {
  used = 0;
  private blocksMax: number;
  private readonly byUse = new MinHeap<HostedBlocks>();
  private clock = 0;

  constructor(blocksMax: number) {
    this.blocksMax = blocksMax;
  }

  /** Swapped contexts take host memory, too, and come first. */
  resize(blocksMax: number): void {
    this.blocksMax = blocksMax;
    this.evict();
  }

  /** The engine evicts these blocks of a node: its last ones, so that what it has left is a prefix. */
  store(node: HostedBlocks, from: number, to: number): void {
    if (node.hostLo === node.hostHi) {
      node.hostLo = from;
      node.hostHi = to;
      this.used += to - from;
    } else {
      // What lies between is on the engine still; it is stored with the rest.
      if (to > node.hostHi) {
        this.used += to - node.hostHi;
        node.hostHi = to;
      }
      if (from < node.hostLo) {
        this.used += node.hostLo - from;
        node.hostLo = from;
      }
    }
    this.touch(node);
    this.evict();
  }

  /** Goes on from what the engine has. @returns the block up to which a context can be loaded, `upToMax` at most. */
  find(path: readonly HostedBlocks[], from: number, upToMax: number): number {
    let at = from;
    for (const node of path) {
      const next = at - node.startBlock;
      if (at >= node.endBlock) continue;
      if (at >= upToMax || next < node.hostLo || next >= node.hostHi) return at;
      at = Math.min(node.startBlock + node.hostHi, upToMax);
      this.touch(node);
      if (at < node.endBlock) return at;
    }
    return at;
  }

  private touch(node: HostedBlocks): void {
    // A node is mostly evicted block by block: it is the latest already.
    if (node.hostUse > 0 && node.hostUse === this.clock) return;
    node.hostUse = ++this.clock;
    this.byUse.push(node.hostUse, node);
  }

  private evict(): void {
    const { byUse } = this;
    while (this.used > this.blocksMax) {
      const node = byUse.min;
      if (!node) throw new Error(`the host tier holds ${this.used} blocks and knows none`);
      const isCurrent = node.hostUse === byUse.minKey && node.hostHi > node.hostLo;
      if (isCurrent) {
        const evicted = Math.min(this.used - this.blocksMax, node.hostHi - node.hostLo);
        node.hostHi -= evicted;
        this.used -= evicted;
        if (node.hostHi > node.hostLo) continue;
        node.hostLo = 0;
        node.hostHi = 0;
        node.hostUse = 0;
      }
      byUse.pop();
    }
  }
}
