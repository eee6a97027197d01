/** Shared by the tests of the llama engine's parameters: the tiny model, and attempts that go on at every cut. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AnswerDelta, ChatCall } from "@autellix/protocol";
import { expect } from "vitest";
import type { LlamaCall } from "../src/llama/call.ts";
import { type LlamaEngine, openLlamaEngine } from "../src/llama/index.ts";
import { writeTinyModel } from "../src/tiny-model/index.ts";
import { contentOf, toolCallsOf } from "./contract/parameters.ts";
import { type Answer, advanceOne, open } from "./contract.ts";

export interface TinyEngine {
  engine: LlamaEngine;
  modelFile: string;
  dispose(): Promise<void>;
}

/** Contexts of 2,048 tokens: the tiny model writes a token for nearly each letter, and tools are explained at length. */
export async function tinyEngine(): Promise<TinyEngine> {
  const folder = await mkdtemp(join(tmpdir(), "autellix-parameters-"));
  const modelFile = join(folder, "tiny.gguf");
  await writeTinyModel(modelFile, { seed: 1 });
  const options = { modelFile, models: ["tiny"], contextTokensMax: 2048, sliceTokens: 32, hostKvBytesMax: 0 };
  const engine = await openLlamaEngine(options);
  const dispose = async () => {
    await engine.shutdown();
    await rm(folder, { recursive: true });
  };
  return { engine, modelFile, dispose };
}

/** A later attempt, forced to repeat the first `cut` ids, shows the same: what it was forced to and what comes. */
export async function expectSameAtEveryCut(
  engine: LlamaEngine,
  call: ChatCall,
  whole: Answer,
  key: string,
  every = 1,
): Promise<void> {
  for (let cut = 0; cut <= whole.ids.length; cut += every) {
    const again = (await open(engine, call, whole.ids.slice(0, cut), { key })) as LlamaCall;
    const rest = await advanceOne(engine, again);
    const shown = merged([...again.forcedDeltas, ...rest.deltas]);
    expect([cut, again.forcedText + rest.text, rest.finish, again.ids]).toEqual([
      cut,
      whole.text,
      whole.finish,
      whole.ids,
    ]);
    expect(shown.calls).toEqual(merged(whole.deltas).calls);
    await engine.close(again);
  }
}

export function merged(deltas: readonly AnswerDelta[]) {
  return { content: contentOf(deltas), calls: toolCallsOf(deltas) };
}

export async function completeAs(engine: LlamaEngine, key: string, call: ChatCall): Promise<Answer> {
  const one = await open(engine, call, [], { key });
  const answer = await advanceOne(engine, one);
  await engine.close(one);
  return answer;
}
