/** How models of several families write tool calls, by the library's own chat wrappers. */
import type { ChatMessage } from "@autellix/protocol";
import {
  ChatMLChatWrapper,
  type ChatWrapper,
  HarmonyChatWrapper,
  Llama3_1ChatWrapper,
  Llama3_2LightweightChatWrapper,
  MistralChatWrapper,
  QwenChatWrapper,
} from "node-llama-cpp";
import { describe, expect, it } from "vitest";
import { historyOf } from "../src/llama/history.ts";
import { CallsReader, callSyntax, callsGrammar } from "../src/llama/tools.ts";
import { TOOL, toolCallsOf } from "./contract/parameters.ts";
import { chat } from "./contract.ts";

const ENDS = ["</s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>"];
const FORMATS: [name: string, wrapper: ChatWrapper, one: string, two: string | undefined][] = [
  ["ChatML", new ChatMLChatWrapper(), "||call: f({})", "||call: f({})||call: f({})"],
  [
    "Qwen",
    new QwenChatWrapper(),
    '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
  ],
  ["Llama 3.1", new Llama3_1ChatWrapper(), "<function=f>{}</function>", undefined],
  ["Llama 3.2", new Llama3_2LightweightChatWrapper(), '{"name": "f", "parameters": {}}', undefined],
  [
    "Mistral",
    new MistralChatWrapper(),
    '[TOOL_CALLS][{"name": "f", "arguments": {}}]',
    '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "f", "arguments": {}}]',
  ],
];

describe.each(FORMATS)("tool calls in the format of %s", (_, wrapper, one, two) => {
  const syntax = callSyntax(wrapper, ENDS);
  const call = `f${syntax.between("f")}{}${syntax.after("f")}`;

  it("are texts without end tokens", () => {
    expect(syntax.first + call + syntax.end).toBe(one);
    expect(syntax.canRepeat ? syntax.first + call + syntax.next + call + syntax.end : undefined).toBe(two);
  });

  it("are read as they are written", () => {
    const deltas = [...(two ?? one)].flatMap(
      (
        (reader) => (letter: string) =>
          reader.push(letter)
      )(new CallsReader(syntax, ["f"], "k")),
    );
    expect(toolCallsOf(deltas).map(({ name, arguments: args }) => [name, args])).toEqual(
      two === undefined
        ? [["f", "{}"]]
        : [
            ["f", "{}"],
            ["f", "{}"],
          ],
    );
  });

  it("stand in the conversation as the library writes them, with their results", () => {
    const made = (id: string) => ({ id, type: "function" as const, function: { name: "f", arguments: '{"a": 1}' } });
    const messages: ChatMessage[] = [
      { role: "user", content: "Q" },
      { role: "assistant", content: "Wait.", toolCalls: [made("1"), made("2")] },
      { role: "tool", content: "sunny", toolCallId: "2" },
      { role: "tool", content: "[7]", toolCallId: "1" },
    ];
    const text = (raw: boolean) => {
      const chatHistory = historyOf(messages, () => syntax);
      for (const item of chatHistory) {
        if (item.type !== "model" || raw) continue;
        item.response = item.response.map((part) =>
          typeof part === "string" || part.type !== "functionCall" ? part : { ...part, rawCall: undefined as never },
        );
      }
      return wrapper.generateContextState({ chatHistory }).contextText.toString();
    };
    expect(text(true)).toBe(text(false));
    expect(text(true)).toMatch(/Wait\..*\[7\].*"sunny"/s);
  });

  it("have a grammar that is made of these texts", () => {
    const grammar = callsGrammar(syntax, chat("", { tools: [TOOL], toolChoice: "required" }), [TOOL]);
    expect(grammar.split("\n", 1)[0]?.includes("{0,15}")).toBe(two !== undefined);
    expect(ENDS.filter((end) => grammar.includes(end))).toEqual([]);
  });
});

it("formats that are more than texts around JSON are refused", () => {
  const refusal = /^tools are not supported with the chat format of this model$/;
  expect(() => callSyntax(new HarmonyChatWrapper(), ENDS)).toThrow(refusal);
});
