import { describe, expect, it } from "vitest";
import { SimCall, SimProgram } from "../src/calls.ts";
import { PrefixCache } from "../src/prefix-cache.ts";
import { call, chain, program } from "./lab.ts";

const BLOCK = 16;

function cacheOf(kvBlocks: number, over: { eviction?: "lru" | "at-once"; hostBlocks?: number } = {}): PrefixCache {
  return new PrefixCache({ kvBlocks, blockTokens: BLOCK, eviction: "lru", hostBlocks: 0, ...over });
}

/** Sizes in blocks: one call per program, with a prompt and no answer to speak of. */
function single(blocks: number, index = 0, shared = 0): SimProgram {
  const over = { sharedPrompt: "shared", sharedPromptTokens: shared * BLOCK };
  return new SimProgram(index, program(0, [call(blocks * BLOCK, 1)], over));
}

/** The whole call, up to its end. */
function use(cache: PrefixCache, of: SimProgram, index = 0): { found: number; loaded: number } {
  const one = new SimCall(of, index, 0);
  const got = { found: cache.find(one), loaded: cache.load(one) };
  one.computed = one.promptTokens + one.decodeTokens - 1;
  cache.advance(one);
  cache.release(one);
  one.endedAt = 0;
  of.calls[index] = one;
  return got;
}

/** Looks, and leaves at once; the path is used last from then on. */
function foundBlocks(cache: PrefixCache, of: SimProgram, index = 0): number {
  const one = new SimCall(of, index, 0);
  const found = cache.find(one);
  cache.release(one);
  return found / BLOCK;
}

describe("the prefix cache", () => {
  it("finds whole blocks, and leaves a token to compute", () => {
    const cache = cacheOf(100);
    const of = single(4);
    expect(use(cache, of)).toEqual({ found: 0, loaded: 0 });
    expect(cache.present).toBe(4);
    // The same prompt again: its last token must be computed, so its last block is.
    expect(use(cache, of)).toEqual({ found: 3 * BLOCK, loaded: 0 });
    expect(cache.present).toBe(4);
  });

  it("finds an earlier call's prompt and answer, as far as they fill blocks", () => {
    const cache = cacheOf(100);
    const of = new SimProgram(0, program(0, chain(0, [20, 30], [5, 1], [100, 1])));
    use(cache, of, 0);
    // 49 tokens were computed: the last one generated was never read.
    expect(use(cache, of, 1).found).toBe(48);
    expect(use(cache, of, 2).found).toBe(48);
    expect(cache.present).toBe(Math.floor((20 + 30 + 5 + 1 + 100) / BLOCK));
  });

  it("holds blocks that several calls share once", () => {
    const cache = cacheOf(100);
    const [a, b] = [single(3, 0, 5), single(2, 1, 5)];
    use(cache, a);
    expect(use(cache, b).found).toBe(5 * BLOCK);
    expect(cache.present).toBe(5 + 3 + 2);
  });

  it("knows siblings by their common prompt, each once it is computed", () => {
    const cache = cacheOf(100);
    const siblings = [call(64, 40), call(64, 40, { samePromptAs: 0 }), call(64, 40, { samePromptAs: 0 })];
    const of = new SimProgram(0, program(0, siblings));
    const [first, second] = [new SimCall(of, 0, 0), new SimCall(of, 1, 0)];
    expect(cache.find(first)).toBe(0);
    first.computed = 40;
    cache.advance(first);
    expect(cache.find(second)).toBe(32);
    // Both compute the rest; it lies there once.
    for (const one of [first, second]) {
      one.computed = 64;
      cache.advance(one);
    }
    expect(cache.present).toBe(4);
    expect(foundBlocks(cache, of, 2)).toBe(3);
  });

  it("evicts what was used longest ago, from its end, block by block", () => {
    const cache = cacheOf(10);
    const [a, b, c, d] = [single(4, 0), single(4, 1), single(4, 2), single(1, 3)];
    use(cache, a);
    use(cache, b);
    use(cache, c);
    // 12 blocks for 10: two of the oldest are gone, its first two are left.
    expect(cache.present).toBe(10);
    expect(foundBlocks(cache, a)).toBe(2);
    // Now `a` was used last: the next victim is `b`.
    use(cache, d);
    expect(foundBlocks(cache, b)).toBe(3);
    expect(foundBlocks(cache, a)).toBe(2);
    expect(foundBlocks(cache, c)).toBe(3);
  });

  it("evicts a branch before what it grew from", () => {
    const cache = cacheOf(12);
    const [a, b, c] = [single(3, 0, 5), single(3, 1, 5), single(4, 2)];
    use(cache, a);
    use(cache, b);
    use(cache, c);
    // 5 + 3 + 3 + 4 = 15: the end of the branch that was used first.
    expect(cache.present).toBe(12);
    expect(foundBlocks(cache, b)).toBe(5 + 2);
    expect(foundBlocks(cache, a)).toBe(5);
  });

  it("evicts a path that nobody uses down to its root", () => {
    const cache = cacheOf(12);
    const of = new SimProgram(0, program(0, chain(0, [64, 1], [64, 1])));
    use(cache, of, 0);
    use(cache, of, 1);
    expect(cache.present).toBe(8);
    use(cache, single(11, 1));
    expect(cache.present).toBe(12);
    expect(foundBlocks(cache, of, 1)).toBe(1);
  });

  it("never evicts what is in use, and says so when nothing else is left", () => {
    const cache = cacheOf(8);
    const [one, other] = [new SimCall(single(6), 0, 0), new SimCall(single(6, 1), 0, 0)];
    for (const running of [one, other]) cache.find(running);
    one.computed = 96;
    cache.advance(one);
    other.computed = 32;
    cache.advance(other);
    expect(cache.present).toBe(8);
    other.computed = 48;
    expect(() => cache.advance(other)).toThrow(/take 9 KV blocks of 8/);
  });

  it("counts blocks outside the tree, and makes room for them", () => {
    const cache = cacheOf(8);
    use(cache, single(6));
    cache.holdOutside(5);
    expect(cache.present).toBe(3);
    expect(cache.usedBlocks).toBe(8);
  });

  it("drops at once what nobody uses, when it is told to", () => {
    const cache = cacheOf(100, { eviction: "at-once" });
    const [a, b] = [single(3, 0, 5), single(2, 1, 5)];
    const first = new SimCall(a, 0, 0);
    cache.find(first);
    first.computed = 8 * BLOCK;
    cache.advance(first);
    expect(use(cache, b).found).toBe(5 * BLOCK);
    expect(cache.present).toBe(8);
    cache.release(first);
    expect(cache.present).toBe(0);
  });
});

describe("its host tier", () => {
  it("takes what is evicted and gives it back behind what the engine has", () => {
    const cache = cacheOf(10, { hostBlocks: 100 });
    const [a, b] = [single(6, 0), single(8, 1)];
    use(cache, a);
    use(cache, b);
    expect(cache.host?.used).toBe(4);
    expect(use(cache, a)).toEqual({ found: 2 * BLOCK, loaded: 3 * BLOCK });
    // What came back stays in host memory, too; what it pushed out joins it.
    expect(cache.host?.used).toBe(4 + 4);
    expect(cache.present).toBe(10);
  });

  it("forgets what was stored or loaded longest ago", () => {
    const cache = cacheOf(4, { hostBlocks: 6 });
    const [a, b, c] = [single(4, 0), single(4, 1), single(4, 2)];
    for (const of of [a, b, c]) use(cache, of);
    // `a` and `b` were evicted, 8 blocks for 6: two of `a`, from its end.
    expect(cache.host?.used).toBe(6);
    expect(use(cache, a)).toEqual({ found: 0, loaded: 2 * BLOCK });
  });

  it("gives way to swapped contexts", () => {
    const cache = cacheOf(4, { hostBlocks: 6 });
    for (const of of [single(4, 0), single(4, 1)]) use(cache, of);
    expect(cache.host?.used).toBe(4);
    cache.host?.resize(1);
    expect(cache.host?.used).toBe(1);
  });
});
