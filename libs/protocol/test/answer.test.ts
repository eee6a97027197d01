import { describe, expect, it } from "vitest";
import { mergeAnswer, textDelta } from "../src/index.ts";

const merged = (...deltas: Record<string, unknown>[]) => mergeAnswer(deltas.map((delta) => ({ delta }))).message;

describe("the pieces of an answer", () => {
  it("that are text are one text", () => {
    expect(mergeAnswer([textDelta("Pa"), textDelta(""), textDelta("ris")])).toEqual({
      message: { role: "assistant", content: "Paris", refusal: null },
      logprobs: null,
    });
  });

  it("are an empty text when there are none, or when none says anything", () => {
    expect(merged()).toEqual({ role: "assistant", content: "", refusal: null });
    expect(merged({ role: "assistant", content: "", refusal: null, tool_calls: [] }).content).toBe("");
  });

  it("that call tools are joined by index, whatever order they come in", () => {
    const call = (index: number, fields: Record<string, unknown>, id?: string) => ({
      tool_calls: [{ index, ...(id ? { id, type: "function" } : {}), function: fields }],
    });
    const message = merged(
      { role: "assistant", content: null },
      call(1, { name: "time", arguments: "" }, "call_b"),
      call(0, { name: "weather", arguments: '{"city":' }, "call_a"),
      call(1, { arguments: "{}" }),
      call(0, { arguments: '"Köln"}' }),
    );
    expect(message).toEqual({
      role: "assistant",
      content: null,
      refusal: null,
      tool_calls: [
        { id: "call_a", type: "function", function: { name: "weather", arguments: '{"city":"Köln"}' } },
        { id: "call_b", type: "function", function: { name: "time", arguments: "{}" } },
      ],
    });
  });

  it("may repeat the id and the name of a tool call: they are not doubled", () => {
    const piece = (text: string) => ({
      tool_calls: [{ index: 0, id: "x", type: "function", function: { name: "f", arguments: text } }],
    });
    expect(merged(piece("{"), piece("}")).tool_calls).toEqual([
      { id: "x", type: "function", function: { name: "f", arguments: "{}" } },
    ]);
  });

  it("keep calls of custom tools, and what servers add to a call", () => {
    const calls = (...entries: object[]) => ({ delta: { tool_calls: entries } });
    const signed = { extra_content: { google: { thought_signature: "c2ln" } } };
    const { message } = mergeAnswer([
      calls({ index: 0, id: "a", type: "custom", custom: { name: "shell", input: "" } }),
      calls(
        { index: 0, custom: { input: "ls " } },
        { index: 1, id: "b", function: { name: "f", arguments: "{" }, ...signed },
      ),
      calls(
        { index: 0, type: "custom", custom: { name: "shell", input: "-l" } },
        { index: 1, function: { arguments: "}" } },
      ),
      calls({ index: 2, id: "c", type: "function", function: { name: "g", arguments: null } }),
    ]);
    expect(message.tool_calls).toEqual([
      { id: "a", type: "custom", custom: { name: "shell", input: "ls -l" } },
      { id: "b", type: "function", function: { name: "f", arguments: "{}" }, ...signed },
      { id: "c", type: "function", function: { name: "g", arguments: "" } },
    ]);
  });

  it("keep text beside tool calls", () => {
    const tool_calls = [{ index: 0, id: "x", type: "function", function: { name: "f", arguments: "{}" } }];
    expect(merged({ content: "I will " }, { content: "look." }, { tool_calls }).content).toBe("I will look.");
  });

  it("keep what servers add of their own: texts and lists joined, of others the last", () => {
    const message = merged(
      { reasoning_content: "Well", annotations: [1], vendor: { score: 1, note: "a" } },
      { reasoning_content: ", so", annotations: [2], vendor: { score: 2, note: "b" }, other: null },
    );
    expect(message).toEqual({
      role: "assistant",
      content: null,
      refusal: null,
      reasoning_content: "Well, so",
      annotations: [1, 2],
      vendor: { score: 2, note: "ab" },
    });
  });

  it("have a refusal, and no content then", () => {
    expect(merged({ refusal: "I cannot " }, { refusal: "help." })).toMatchObject({
      content: null,
      refusal: "I cannot help.",
    });
  });

  it("bring logprobs, token by token", () => {
    const at = (token: string) => ({ token, logprob: -0.5, top_logprobs: [] });
    const { logprobs } = mergeAnswer([
      { delta: { content: "a" }, logprobs: { content: [at("a")], refusal: null } },
      { delta: { content: "b" }, logprobs: null },
      { delta: { content: "c" }, logprobs: { content: [at("c"), at("d")] } },
    ]);
    expect(logprobs).toEqual({ content: [at("a"), at("c"), at("d")], refusal: null });
  });

  it("with hostile names change nothing but the message", () => {
    const message = merged(JSON.parse('{"__proto__":{"polluted":true},"constructor":"x"}') as Record<string, unknown>);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(Object.keys(message)).toContain("__proto__");
  });
});
