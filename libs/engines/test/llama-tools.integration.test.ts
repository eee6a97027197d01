import type { ChatCall } from "@autellix/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LlamaCall } from "../src/llama/call.ts";
import type { LlamaEngine } from "../src/llama/index.ts";
import { loadModel, useLlama } from "../src/llama/library.ts";
import { CallMaker } from "../src/llama/make-call.ts";
import { idsByByte, idsOfBytes } from "../src/llama/pieces.ts";
import { expectArguments, TOOL, toolCallsOf } from "./contract/parameters.ts";
import { advanceOne, chat, open } from "./contract.ts";
import { completeAs, expectSameAtEveryCut, merged, type TinyEngine, tinyEngine } from "./llama-parameters.ts";

let tiny: TinyEngine;
let engine: LlamaEngine;
beforeAll(async () => {
  tiny = await tinyEngine();
  engine = tiny.engine;
});
afterAll(() => tiny.dispose());

describe("tool calls", () => {
  const OTHER = { name: "get_weather_of_tomorrow", description: "Later." };
  const asked = (fields: Partial<ChatCall>) =>
    chat("Weather?", { tools: [TOOL, OTHER], completionTokensMax: 400, ...fields });

  it("are made when they are required, one or several, with arguments that validate", async () => {
    for (const [seed, parallelToolCalls] of [
      [0, false],
      [1, false],
      [2, true],
      [3, true],
      [4, true],
    ] as const) {
      const call = asked({ toolChoice: "required", parallelToolCalls, temperature: 1, seed });
      const answer = await completeAs(engine, "test/required", call);
      expect([answer.finish, answer.text]).toEqual(["tool_calls", ""]);
      const made = toolCallsOf(answer.deltas);
      expect(made.length).toBeGreaterThanOrEqual(1);
      if (!parallelToolCalls) expect(made).toHaveLength(1);
      expect(new Set(made.map((one) => one.id)).size).toBe(made.length);
      for (const one of made) {
        if (one.name === TOOL.name) expectArguments(one.arguments);
        else expect([one.name, one.arguments]).toEqual([OTHER.name, "{}"]);
      }
    }
  });

  it("name the tool that was asked for", async () => {
    for (const name of [TOOL.name, OTHER.name]) {
      const answer = await completeAs(engine, "test/named", asked({ toolChoice: { name } }));
      expect(toolCallsOf(answer.deltas).map((made) => made.name)).toEqual([name]);
    }
    const unknown = open(engine, asked({ toolChoice: { name: "nothing" } }));
    await expect(unknown).rejects.toMatchObject({ code: "invalid_request", param: "tool_choice" });
  });

  it("are the same in a later attempt, wherever the earlier one ended", async () => {
    const call = asked({ toolChoice: "required", parallelToolCalls: false, temperature: 1, seed: 1 });
    await expectSameAtEveryCut(engine, call, await completeAs(engine, "test/cut", call), "test/cut", 9);
  });

  it("are recognised in a free answer, behind text", async () => {
    const call = asked({ toolChoice: "auto", parallelToolCalls: false });
    const begun = "Let me see. ||call: get_weather({";
    const forced = await idsOf(begun);
    const one = (await open(engine, call, forced, { key: "test/auto" })) as LlamaCall;
    expect(one.forcedText).toBe("Let me see. ");
    const answer = await advanceOne(engine, one);
    const shown = merged([...one.forcedDeltas, ...answer.deltas]);
    expect([answer.finish, answer.text, shown.content]).toEqual(["tool_calls", "", "Let me see. "]);
    expect(shown.calls.map((made) => made.name)).toEqual([TOOL.name]);
    expectArguments(shown.calls[0]?.arguments ?? "");
    await engine.close(one);
  });

  it("are not what only begins like one", async () => {
    const call = asked({ toolChoice: "auto", completionTokensMax: 40, stop: ["END"] });
    const one = (await open(engine, call, await idsOf("See ||call nobody and more END"))) as LlamaCall;
    expect(one.forcedText).toBe("See ||call nobody and more ");
    expect((await advanceOne(engine, one)).finish).toBe("stop");
    await engine.close(one);
  });

  it("and their results are part of the conversation", async () => {
    const calls = [
      {
        id: "call_1",
        type: "function" as const,
        function: { name: "get_weather", arguments: '{"city":"Rome","days":2}' },
      },
    ];
    const messages: ChatCall["messages"] = [
      { role: "user", content: "Weather?" },
      { role: "assistant", content: "", toolCalls: calls },
      { role: "tool", content: "sunny", toolCallId: "call_1" },
    ];
    const answered = asked({ messages, toolChoice: "none", completionTokensMax: 5 });
    const bare = asked({ messages: messages.slice(0, 1), toolChoice: "none", completionTokensMax: 5 });
    const [long, short] = [await open(engine, answered), await open(engine, bare)];
    expect(long.promptTokens).toBeGreaterThan(short.promptTokens + 20);
    await Promise.all([engine.close(long), engine.close(short)]);
    for (const wrong of [
      messages.slice(0, 2),
      [messages[0], messages[2]],
      [...messages, messages[2]].toSpliced(2, 1, { role: "user" as const, content: "?" }),
    ]) {
      const opening = open(engine, { ...answered, messages: wrong as ChatCall["messages"] });
      await expect(opening).rejects.toMatchObject({
        code: "invalid_request",
        param: expect.stringMatching(/^messages\[\d\]$/),
      });
    }
  });

  /** Ids of the very text, each of one letter. */
  async function idsOf(text: string): Promise<number[]> {
    const use = await useLlama(false, () => {});
    const model = await loadModel(use, tiny.modelFile, []);
    const { size, bytesOf } = new CallMaker(model, 512).vocabulary;
    const ids = idsOfBytes(text, idsByByte(size, bytesOf));
    await model.dispose();
    await use.release();
    if (ids === undefined) throw new Error("no such tokens");
    return ids;
  }
});
