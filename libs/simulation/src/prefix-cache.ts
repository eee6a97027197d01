/**
 * Prefix cache of one engine, as vLLM's: a block is found by what is in it and in all blocks before it, so cached
 * blocks make a radix tree. A node here is a run of tokens that belong together,
 *
 *     shared prompt ─ prompt of call 0 ─ answer 0 ─┬─ prompt of call 1 ─ answer 1 ─ …
 *                                                  └─ prompt of call 2 ─ …
 *
 * and its blocks are those that its tokens complete. They lie on the engine once, whoever uses them. Blocks are
 * evicted from the ends of branches only, so what is left of a branch is always a prefix. All is O(1) or O(log n)
 * amortised; only a path that nobody has used on this engine costs its length.
 */
import type { SimCall, SimProgram } from "./calls.ts";
import { MinHeap } from "./heap.ts";
import { HostCache, type HostedBlocks } from "./host-cache.ts";

export class CacheNode implements HostedBlocks {
  readonly parent: CacheNode | undefined;
  /** Blocks from the beginning of the context: the node's are [startBlock, endBlock). */
  readonly startBlock: number;
  readonly endBlock: number;
  /** How many of them are on the engine, from its start; more than 0 only below complete nodes. */
  present = 0;
  /** Resident calls whose context ends here. */
  pins = 0;
  /** Children that are pinned, present, or have such children. */
  liveChildren = 0;
  /** When it, or a branch below it that is gone, was used last. */
  lastUse = 0;
  hostLo = 0;
  hostHi = 0;
  hostUse = 0;

  constructor(parent: CacheNode | undefined, startBlock: number, endBlock: number) {
    this.parent = parent;
    this.startBlock = startBlock;
    this.endBlock = endBlock;
  }
}

export interface CacheOptions {
  kvBlocks: number;
  blockTokens: number;
  /** What becomes of blocks that no call uses: evicted when room is needed, least recently used first, or at once. */
  eviction: "lru" | "at-once";
  /** Evicted blocks go to host memory, so many at most; 0: no such tier. */
  hostBlocks: number;
}

/** Nodes of a program's calls, by call: prompts and answers. */
interface ProgramNodes {
  prompts: (CacheNode | undefined)[];
  answers: (CacheNode | undefined)[];
}

export class PrefixCache {
  /** Blocks in the tree, those in use included. */
  present = 0;
  readonly host: HostCache | undefined;
  private readonly options: CacheOptions;
  private readonly shared = new Map<string, CacheNode>();
  private readonly programs = new Map<SimProgram, ProgramNodes>();
  /** Ends of branches that nobody uses, by last use; entries of others are stale. */
  private readonly evictable = new MinHeap<CacheNode>();
  private useClock = 0;
  /** Blocks that calls hold outside the tree. */
  private outside = 0;

  constructor(options: CacheOptions) {
    this.options = options;
    this.host = options.hostBlocks > 0 ? new HostCache(options.hostBlocks) : undefined;
  }

  get usedBlocks(): number {
    return this.present + this.outside;
  }

  /** Pins the call's context and takes over what of it is on the engine. One token at least is left to compute. @returns tokens */
  find(call: SimCall): number {
    call.computed = Math.min(this.attach(call), this.blocksWanted(call)) * this.options.blockTokens;
    return call.computed;
  }

  /** Takes over what of it the host tier has, behind that. @returns tokens */
  load(call: SimCall): number {
    if (!this.host) return 0;
    const { blockTokens } = this.options;
    const from = call.computed / blockTokens;
    const loaded = (this.host.find(call.path, from, this.blocksWanted(call)) - from) * blockTokens;
    call.computed += loaded;
    this.advance(call);
    return loaded;
  }

  /** The call's context comes back from host memory: `computed` tokens of it, whatever of them is still here. */
  restore(call: SimCall): void {
    this.attach(call);
    this.advance(call);
  }

  /** Blocks that the call has completed since the last time are on the engine. */
  advance(call: SimCall): void {
    const full = Math.floor(call.computed / this.options.blockTokens);
    const { path } = call;
    for (;;) {
      const node = path[call.pathAt];
      if (!node) return;
      const present = (full < node.endBlock ? full : node.endBlock) - node.startBlock;
      if (present > node.present) {
        this.present += present - node.present;
        node.present = present;
        this.makeRoom();
      }
      if (full < node.endBlock || call.pathAt === path.length - 1) return;
      call.pathAt++;
    }
  }

  /** The call leaves the engine; what it has completed may stay. */
  release(call: SimCall): void {
    const { leaf } = call;
    if (!leaf) return;
    call.leaf = undefined;
    leaf.pins--;
    leaf.lastUse = ++this.useClock;
    this.settle(leaf);
  }

  /** Blocks outside the tree: last blocks that are not full, and contexts that cannot be cached. */
  holdOutside(blocks: number): void {
    this.outside += blocks;
    if (blocks > 0) this.makeRoom();
  }

  /** Its calls will not be asked for again. What is cached of them stays until it is evicted. */
  forget(program: SimProgram): void {
    this.programs.delete(program);
  }

  /** Whole blocks before the token that must be computed. */
  private blocksWanted(call: SimCall): number {
    return Math.floor((call.contextTokens - 1) / this.options.blockTokens);
  }

  /** Pins the context and lists the nodes to be filled. @returns how many of its blocks are here, from the start. */
  private attach(call: SimCall): number {
    const leaf = this.answerNode(call);
    const path: CacheNode[] = [];
    let node: CacheNode | undefined = leaf;
    while (node && node.present === 0) {
      path.push(node);
      node = node.parent;
    }
    const here = node ? node.startBlock + node.present : 0;
    if (node && here < node.endBlock) path.push(node);
    call.path = path.reverse();
    call.pathAt = 0;
    call.leaf = leaf;
    const wasLive = isLive(leaf);
    leaf.pins++;
    if (!wasLive) enliven(leaf);
    return here;
  }

  // ── eviction ───────────────────────────────────────────────────────────────────────────────────────────────

  private makeRoom(): void {
    let excess = this.present + this.outside - this.options.kvBlocks;
    while (excess > 0) {
      const node = this.leastUsed();
      if (!node) throw new Error(`contexts in use take ${this.usedBlocks} KV blocks of ${this.options.kvBlocks}`);
      const evicted = Math.min(excess, node.present);
      this.host?.store(node, node.present - evicted, node.present);
      this.present -= evicted;
      node.present -= evicted;
      excess -= evicted;
      if (node.present > 0) continue;
      this.evictable.pop();
      this.died(node);
    }
  }

  /** The evictable node that was used longest ago. */
  private leastUsed(): CacheNode | undefined {
    const { evictable } = this;
    for (;;) {
      const node = evictable.min;
      if (!node) return undefined;
      if (node.lastUse === evictable.minKey && node.pins === 0 && node.liveChildren === 0 && node.present > 0)
        return node;
      evictable.pop();
    }
  }

  /** A node lost a pin or a child: it may be the end of its branch now, or gone. */
  private settle(node: CacheNode): void {
    if (node.pins > 0 || node.liveChildren > 0) return;
    if (node.present > 0) {
      if (this.options.eviction === "lru") {
        this.evictable.push(node.lastUse, node);
        return;
      }
      this.host?.store(node, 0, node.present);
      this.present -= node.present;
      node.present = 0;
    }
    this.died(node);
  }

  private died(node: CacheNode): void {
    const { parent } = node;
    if (!parent) return;
    parent.liveChildren--;
    if (node.lastUse > parent.lastUse) parent.lastUse = node.lastUse;
    this.settle(parent);
  }

  // ── the tree ───────────────────────────────────────────────────────────────────────────────────────────────

  private answerNode(call: SimCall): CacheNode {
    const nodes = this.nodesOf(call.program);
    const known = nodes.answers[call.index];
    if (known) return known;
    // From the call back to what is known, then forward: a path can be longer than a stack is deep.
    const missing: number[] = [];
    let index: number | undefined = call.index;
    while (index !== undefined && !nodes.answers[index]) {
      missing.push(index);
      index = baseOf(call.program, index);
    }
    let answer: CacheNode | undefined;
    for (let i = missing.length - 1; i >= 0; i--) answer = this.addCall(call.program, nodes, missing[i] as number);
    if (!answer) throw new Error(`call ${call.id} has no context`);
    return answer;
  }

  private addCall(program: SimProgram, nodes: ProgramNodes, index: number): CacheNode {
    const { blockTokens } = this.options;
    const spec = program.spec.calls[index];
    if (!spec) throw new RangeError(`program ${program.index} has no call ${index}`);
    const promptTokens = program.promptTokens[index] ?? 0;
    // Siblings with one prompt have one node.
    const promptOf = spec.samePromptAs ?? index;
    let prompt = nodes.prompts[promptOf];
    if (!prompt) {
      const extended = baseOf(program, index);
      const base = extended === undefined ? this.sharedNode(program) : nodes.answers[extended];
      if (!base) throw new Error(`call ${index} of program ${program.index} extends nothing`);
      prompt = new CacheNode(base, base.endBlock, Math.floor(promptTokens / blockTokens));
      nodes.prompts[promptOf] = prompt;
    }
    const answer = new CacheNode(prompt, prompt.endBlock, Math.floor((promptTokens + spec.decodeTokens) / blockTokens));
    nodes.answers[index] = answer;
    return answer;
  }

  private sharedNode({ spec: { sharedPrompt, sharedPromptTokens } }: SimProgram): CacheNode {
    const name = `${sharedPromptTokens} ${sharedPrompt}`;
    const known = this.shared.get(name);
    if (known) return known;
    const node = new CacheNode(undefined, 0, Math.floor(sharedPromptTokens / this.options.blockTokens));
    this.shared.set(name, node);
    return node;
  }

  private nodesOf(program: SimProgram): ProgramNodes {
    const known = this.programs.get(program);
    if (known) return known;
    const nodes: ProgramNodes = { prompts: [], answers: [] };
    this.programs.set(program, nodes);
    return nodes;
  }
}

/**
 * The call whose context the prompt goes on from. In an open loop that one may still be running: its answer is not
 * there, and so the whole prompt is the call's own.
 */
function baseOf({ spec, calls }: SimProgram, index: number): number | undefined {
  const base = spec.calls[index]?.extends;
  return base === undefined || calls[base]?.endedAt === undefined ? undefined : base;
}

function isLive(node: CacheNode): boolean {
  return node.pins > 0 || node.liveChildren > 0 || node.present > 0;
}

/** A node is live from here on: so are those above it. */
function enliven(node: CacheNode): void {
  for (let child = node; child.parent; child = child.parent) {
    const wasLive = isLive(child.parent);
    child.parent.liveChildren++;
    if (wasLive) return;
  }
}
