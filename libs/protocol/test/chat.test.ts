import { describe, expect, it } from "vitest";
import { completionId, estimatePromptTokens, parseChat } from "../src/index.ts";

const messages = [{ role: "user", content: "Hi" }];
const refused = (code: string, param: string | undefined, text: string | RegExp = /./) =>
  expect.objectContaining({ code, param, message: expect.stringMatching(text) });

describe("a chat body", () => {
  it("needs nothing but messages; the rest has OpenAI's defaults", () => {
    expect(parseChat({ messages })).toEqual({
      model: undefined,
      messages: [{ role: "user", content: "Hi" }],
      stream: false,
      includeUsage: false,
      completionTokensMax: undefined,
      temperature: 1,
      topP: 1,
      seed: undefined,
      stop: [],
    });
  });

  it("may set every parameter that is served", () => {
    const body = {
      model: "m",
      messages,
      stream: true,
      stream_options: { include_usage: true },
      n: 1,
      max_tokens: 5,
      temperature: 0,
      top_p: 0.5,
      seed: -7,
      stop: ["a", "b"],
      metadata: { autellix_program_id: "p" },
    };
    expect(parseChat(body)).toEqual({
      model: "m",
      messages: [{ role: "user", content: "Hi" }],
      stream: true,
      includeUsage: true,
      completionTokensMax: 5,
      temperature: 0,
      topP: 0.5,
      seed: -7,
      stop: ["a", "b"],
    });
  });

  it("takes null for a parameter as if it were absent", () => {
    const names = [
      "stream",
      "stream_options",
      "n",
      "max_tokens",
      "max_completion_tokens",
      "temperature",
      "top_p",
      "seed",
    ];
    const body = Object.fromEntries([...names, "stop", "metadata", "tools", "logit_bias"].map((name) => [name, null]));
    expect(parseChat({ ...body, messages })).toEqual(parseChat({ messages }));
  });

  it("prefers max_completion_tokens to max_tokens", () => {
    expect(parseChat({ messages, max_tokens: 5, max_completion_tokens: 6 }).completionTokensMax).toBe(6);
    expect(parseChat({ messages, max_tokens: 5, max_completion_tokens: null }).completionTokensMax).toBe(5);
  });

  it.each([
    ["x", ["x"]],
    ["", []],
    [[], []],
    [["", "x"], ["x"]],
    [
      ["1", "2", "3", "4"],
      ["1", "2", "3", "4"],
    ],
  ])("may stop at %j", (stop, expected) => expect(parseChat({ messages, stop }).stop).toEqual(expected));

  it("joins text parts, and takes a developer for a system", () => {
    const parts = [
      { type: "text", text: "a" },
      { type: "text", text: "b", cache_control: { type: "ephemeral" } },
    ];
    const given = [
      { role: "developer", content: "d" },
      { role: "user", content: parts, name: "n" },
      { role: "assistant", content: null },
      { role: "assistant" },
    ];
    expect(parseChat({ messages: given }).messages).toEqual([
      { role: "system", content: "d" },
      { role: "user", content: "ab" },
      { role: "assistant", content: "" },
      { role: "assistant", content: "" },
    ]);
  });

  it("takes an answer that is sent back as it came", () => {
    const answer = { role: "assistant", content: "Hi", refusal: null, annotations: [], audio: null, tool_calls: [] };
    expect(parseChat({ messages: [...messages, { ...answer, function_call: null }] }).messages).toHaveLength(2);
  });
});

describe("a parameter that is not served", () => {
  it.each([
    ["frequency_penalty", 0],
    ["presence_penalty", 0],
    ["logprobs", false],
    ["top_logprobs", 0],
    ["logit_bias", {}],
    ["response_format", { type: "text" }],
    ["tools", []],
    ["tool_choice", "none"],
    ["tool_choice", "auto"],
    ["parallel_tool_calls", true],
    ["functions", []],
    ["function_call", "none"],
    ["modalities", ["text"]],
    ["user", "someone"],
    ["store", false],
    ["service_tier", "auto"],
    ["prompt_cache_key", "k"],
    ["safety_identifier", "s"],
  ])("is accepted where it changes nothing: %s %j", (name, value) => {
    expect(parseChat({ messages, [name]: value })).toEqual(parseChat({ messages }));
  });

  it.each([
    ["frequency_penalty", 0.1],
    ["presence_penalty", -1],
    ["presence_penalty", "0"],
    ["logprobs", true],
    ["top_logprobs", 3],
    ["logit_bias", { 50: 1 }],
    ["logit_bias", []],
    ["response_format", { type: "json_object" }],
    ["response_format", "text"],
    ["tools", [{ type: "function" }]],
    ["tool_choice", "required"],
    ["parallel_tool_calls", 1],
    ["functions", [{}]],
    ["function_call", { name: "f" }],
    ["modalities", ["text", "audio"]],
    ["audio", {}],
    ["prediction", {}],
    ["reasoning_effort", "low"],
    ["web_search_options", {}],
    ["top_k", 5],
    ["n", 2],
    ["n", 0],
  ])("is refused by name where it does: %s %j", (name, value) => {
    expect(() => parseChat({ messages, [name]: value })).toThrow(refused("unsupported_parameter", name, name));
  });

  it.each(["constructor", "toString", "valueOf", "hasOwnProperty", "__defineGetter__", "__proto__"])(
    "is refused also when every object has one: %s",
    (name) => {
      const body = JSON.parse(`{"messages":[{"role":"user","content":"Hi"}],"${name}":{"temperature":0}}`);
      expect(() => parseChat(body)).toThrow(refused("unsupported_parameter", name));
    },
  );
});

describe("a message that is not served", () => {
  it.each([
    [{ role: "tool", content: "x", tool_call_id: "1" }, "messages[1].role", /"tool" is not supported/],
    [{ role: "function", content: "x", name: "f" }, "messages[1].role", /"function" is not supported/],
    [{ role: "assistant", content: null, tool_calls: [{ id: "1" }] }, "messages[1].tool_calls", /not supported/],
    [{ role: "assistant", content: null, function_call: { name: "f" } }, "messages[1].function_call", /not supported/],
    [{ role: "assistant", audio: { id: "a" } }, "messages[1].audio", /not supported/],
    [{ role: "assistant", refusal: "no" }, "messages[1].refusal", /not supported/],
    [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "image_url", image_url: { url: "u" } },
        ],
      },
      "messages[1].content[1].type",
      /"image_url" is not supported; only text is/,
    ],
  ])("is refused by its field: %j", (message, param, text) => {
    expect(() => parseChat({ messages: [...messages, message] })).toThrow(
      refused("unsupported_parameter", param, text),
    );
  });
});

describe("a body with a wrong value", () => {
  it.each([null, undefined, 5, "text", [], [{ messages }]])("that is no object is refused: %j", (body) =>
    expect(() => parseChat(body)).toThrow(refused("invalid_request", undefined, "must be an object")),
  );

  it.each<[Record<string, unknown>, string, string]>([
    [{ messages: undefined }, "messages", "messages: is required"],
    [{ messages: [] }, "messages", "messages: must have at least one message"],
    [{ messages: "Hi" }, "messages", "messages: must be a list"],
    [{ messages: [null] }, "messages[0]", "messages[0]: must be an object"],
    [
      { messages: [{ content: "x" }] },
      "messages[0].role",
      "messages[0].role: must be one of system, developer, user, assistant",
    ],
    [
      { messages: [{ role: "robot", content: "x" }] },
      "messages[0].role",
      "messages[0].role: must be one of system, developer, user, assistant",
    ],
    [{ messages: [{ role: "user" }] }, "messages[0].content", "messages[0].content: is required"],
    [
      { messages: [{ role: "user", content: null }] },
      "messages[0].content",
      "messages[0].content: must be a string or a list",
    ],
    [
      { messages: [{ role: "user", content: 5 }] },
      "messages[0].content",
      "messages[0].content: must be a string or a list",
    ],
    [
      { messages: [{ role: "user", content: [] }] },
      "messages[0].content",
      "messages[0].content: must have at least 1 items",
    ],
    [
      { messages: [{ role: "user", content: [{ type: "text" }] }] },
      "messages[0].content[0].text",
      "messages[0].content[0].text: is required",
    ],
    [
      { messages: [{ role: "user", content: [{ type: "video", text: "x" }] }] },
      "messages[0].content[0].type",
      "messages[0].content[0].type: must be text",
    ],
    [
      { messages: [...messages, { role: "user", content: "x", name: 5 }] },
      "messages[1].name",
      "messages[1].name: must be a string",
    ],
    [{ model: 5 }, "model", "model: must be a string"],
    [{ model: "" }, "model", "model: must have at least 1 characters"],
    [{ stream: "yes" }, "stream", "stream: must be true or false"],
    [{ stream_options: true }, "stream_options", "stream_options: must be an object"],
    [
      { stream_options: { include_usage: 1 } },
      "stream_options.include_usage",
      "stream_options.include_usage: must be true or false",
    ],
    [{ n: "1" }, "n", "n: must be a number"],
    [{ max_tokens: -1 }, "max_tokens", "max_tokens: must be greater than 0"],
    [{ max_tokens: 0 }, "max_tokens", "max_tokens: must be greater than 0"],
    [{ max_tokens: 1.5 }, "max_tokens", "max_tokens: must be a whole number"],
    [{ max_tokens: "5" }, "max_tokens", "max_tokens: must be a number"],
    [{ max_tokens: JSON.parse("1e400") }, "max_tokens", "max_tokens: must be a number"],
    [{ max_completion_tokens: -5 }, "max_completion_tokens", "max_completion_tokens: must be greater than 0"],
    [
      { max_completion_tokens: 2 ** 60 },
      "max_completion_tokens",
      "max_completion_tokens: must be at most 9007199254740991",
    ],
    [{ temperature: -0.1 }, "temperature", "temperature: must be at least 0"],
    [{ temperature: 2.1 }, "temperature", "temperature: must be at most 2"],
    [{ temperature: Number.NaN }, "temperature", "temperature: must be a number"],
    [{ temperature: Number.POSITIVE_INFINITY }, "temperature", "temperature: must be a number"],
    [{ temperature: "hot" }, "temperature", "temperature: must be a number"],
    [{ top_p: 0 }, "top_p", "top_p: must be greater than 0"],
    [{ top_p: 1.01 }, "top_p", "top_p: must be at most 1"],
    [{ seed: 1.5 }, "seed", "seed: must be a whole number"],
    [{ stop: 5 }, "stop", "stop: must be a string or a list"],
    [{ stop: ["a", 1] }, "stop[1]", "stop[1]: must be a string"],
    [{ stop: ["1", "2", "3", "4", "5"] }, "stop", "stop: must have at most 4 items"],
    [{ stop: "x".repeat(1_001) }, "stop", "stop: must have at most 1000 characters"],
    [{ metadata: "x" }, "metadata", "metadata: must be an object"],
  ])("says which, and what it must be: %j", (fields, param, text) => {
    expect(() => parseChat({ messages, ...fields })).toThrow(
      expect.objectContaining({ code: "invalid_request", param, message: text }),
    );
  });

  it("says nothing of the value itself", () => {
    for (const body of [{ messages: [{ role: "SECRET", content: "x" }] }, { messages, stop: { SECRET: "SECRET" } }]) {
      expect(() => parseChat(body)).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining("SECRET") }),
      );
    }
  });
});

it("an answer's id carries the call's", () => expect(completionId("abc")).toBe("chatcmpl-abc"));

it.each([
  [0, 1],
  [1, 1],
  [4, 1],
  [5, 2],
  [8_000, 2_000],
])("a body of %i bytes is estimated as %i tokens", (bytes, tokens) => expect(estimatePromptTokens(bytes)).toBe(tokens));
