/** An engine that keeps the contexts of ended calls, on a bench. */
import type { EngineCapacity } from "../src/index.ts";
import { Bench } from "./bench.ts";

/** 10 blocks of 10 tokens, unless told otherwise. */
export function retaining(
  over: Partial<EngineCapacity> = {},
  config: ConstructorParameters<typeof Bench>[0] = {},
): Bench {
  const bench = new Bench(config);
  bench.join("e", { retains: true, kvBlocks: 10, ...over });
  return bench;
}

/** Runs a call to its end with so many tokens of context. */
export function ends(bench: Bench, name: string, tokens: number, over: Parameters<Bench["arrive"]>[1] = {}): void {
  bench.arrive(name, { promptTokens: tokens, ...over });
  bench.run();
  bench.report("e", { finished: { [name]: { serviceMs: 1, contextTokens: tokens } } });
  bench.plan();
}
