/**
 * The contract suite on a real model, and what reuse of contexts saves there: SmolLM2-135M-Instruct, from the cache or
 * named by `AUTELLIX_ENGINE_MODEL`. Times are shown, not asserted.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cachedDefaultModel } from "../../../test/support/stack.ts";
import { type LlamaEngine, openLlamaEngine } from "../src/llama/index.ts";
import type { EngineCall } from "../src/port.ts";
import { advanceOne, chat, open } from "./contract.ts";
import { llamaContract } from "./llama-contract.ts";

const modelFile = process.env.AUTELLIX_ENGINE_MODEL ?? cachedDefaultModel();
const VOCABULARY_TOKENS = 49_152;
const HISTORY = "The quick brown fox jumps over the lazy dog while the sun sets behind the hills. ";
const TIMEOUT_MS = 600_000;

describe.skipIf(modelFile === undefined)("with SmolLM2", () => {
  llamaContract("the llama engine", async () => modelFile ?? "", VOCABULARY_TOKENS, chat("Name one fruit."));

  describe("a conversation of 2,000 tokens", () => {
    let engine: LlamaEngine;
    beforeAll(async () => {
      engine = await openLlamaEngine({
        modelFile: modelFile ?? "",
        models: ["m"],
        contextTokensMax: 4096,
        residentCallsMax: 4,
        sliceTokens: 32,
      });
    });
    afterAll(() => engine?.shutdown());

    /** @returns wall time until the first token, in ms. */
    const firstToken = async (call: EngineCall): Promise<{ ms: number; text: string }> => {
      const startMs = performance.now();
      for (;;) {
        const [step] = (await engine.step([call])).calls;
        if (step?.error !== undefined) throw step.error;
        if ((step?.tokens ?? 0) > 0) return { ms: performance.now() - startMs, text: step?.text ?? "" };
      }
    };

    it("is gone on from without computing it again, on the engine and through the host tier", {
      timeout: TIMEOUT_MS,
    }, async () => {
      const first = chat(`Remember this. ${HISTORY.repeat(117)} What animal jumps?`, { completionTokensMax: 20 });
      let held = await open(engine, first);
      const cold = await firstToken(held);
      const text = cold.text + (await advanceOne(engine, held)).text;
      const messages = [...first.messages, { role: "assistant" as const, content: text }];
      const rows: Record<string, number | string>[] = [];
      for (const [turn, tier] of (["engine", "host", "engine", "host"] as const).entries()) {
        await engine.retain(held);
        const had = held.contextTokens;
        const out = tier === "host" ? await engine.swapOut(held) : undefined;
        messages.push({ role: "user" as const, content: `And animal number ${turn}?` } as never);
        const startMs = performance.now();
        const next = await open(engine, chat("", { messages: [...messages], completionTokensMax: 5 }), [], {
          continues: held,
        });
        const back = tier === "host" ? await engine.swapIn(next) : undefined;
        const warm = await firstToken(next);
        const ms = performance.now() - startMs;
        // All but the end of the answer: its last token was never evaluated, the one before may join with the template.
        expect(next.cachedTokens).toBeGreaterThan(had - 4);
        messages.push({ role: "assistant" as const, content: warm.text + (await advanceOne(engine, next)).text });
        rows.push({
          tier,
          promptTokens: next.promptTokens,
          newTokens: next.promptTokens - next.cachedTokens,
          swapMs: Math.round((out?.durationMs ?? 0) + (back?.durationMs ?? 0)),
          swapShare: `${((((out?.durationMs ?? 0) + (back?.durationMs ?? 0)) / cold.ms) * 100).toFixed(2)} %`,
          firstTokenMs: Math.round(ms),
          share: `${((ms / cold.ms) * 100).toFixed(2)} %`,
        });
        held = next;
      }
      console.info(`cold: ${held.promptTokens} tokens, first token after ${Math.round(cold.ms)} ms`);
      console.table(rows);
    });
  });
});
