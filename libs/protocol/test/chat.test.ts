import { describe, expect, it } from "vitest";
import {
  BODY_DEPTH_MAX,
  BODY_FIELDS_MAX,
  CONTENT_PARTS_MAX,
  completionId,
  estimatePromptTokens,
  FOREIGN_FIELDS_MAX,
  parseChat,
  refuseForeign,
  SCHEMA_CHARS_MAX,
  TOOLS_MAX,
} from "../src/index.ts";

const messages = [{ role: "user", content: "Hi" }];
const refused = (code: string, param: string | undefined, text: string | RegExp = /./) =>
  expect.objectContaining({ code, param, message: expect.stringMatching(text) });
const SCHEMA = { type: "object", properties: { city: { type: "string" } } };
const TOOL = { type: "function", function: { name: "weather", description: "Of a city.", parameters: SCHEMA } };
const TOOL_CALL = { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } };

/** So many objects in each other. */
function nested(depth: number): unknown {
  let value: unknown = {};
  for (let i = 1; i < depth; i++) value = { a: value };
  return value;
}

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
      frequencyPenalty: 0,
      presencePenalty: 0,
      tools: [],
      toolChoice: "none",
      parallelToolCalls: true,
      responseFormat: { type: "text" },
      logprobs: undefined,
      foreign: [],
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
      frequency_penalty: -0.5,
      presence_penalty: 2,
      tools: [TOOL, { type: "function", function: { name: "time", strict: true } }],
      tool_choice: "required",
      parallel_tool_calls: false,
      response_format: { type: "json_schema", json_schema: { name: "s", strict: true, schema: SCHEMA } },
      logprobs: true,
      top_logprobs: 3,
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
      frequencyPenalty: -0.5,
      presencePenalty: 2,
      tools: [{ name: "weather", description: "Of a city.", parameters: SCHEMA }, { name: "time" }],
      toolChoice: "required",
      parallelToolCalls: false,
      responseFormat: { type: "json_schema", schema: SCHEMA },
      logprobs: 3,
      foreign: [],
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
    const others = ["tools", "tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs"];
    const more = ["stop", "metadata", "logit_bias", "modalities", "functions", "function_call", "top_k"];
    const body = Object.fromEntries([...names, ...others, ...more].map((name) => [name, null]));
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

  it.each([2 ** 53, 2 ** 60, -(2 ** 63), 7.0])("may have the seed %d", (seed) => {
    expect(parseChat({ messages, seed }).seed).toBe(seed);
  });

  it("may want the likeliest token alone by top_p", () => {
    expect(parseChat({ messages, top_p: 0 }).topP).toBe(0);
  });

  it("has no more fields than a body can mean anything by", () => {
    const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`field${i}`, 1]));
    expect(parseChat({ messages, ...fields(BODY_FIELDS_MAX - 1) }).foreign).toContain("field0");
    expect(() => parseChat({ messages, ...fields(BODY_FIELDS_MAX) })).toThrow(/at most 1000 fields/);
  });

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
    const { messages: parsed, foreign } = parseChat({ messages: [...messages, { ...answer, function_call: null }] });
    expect([parsed.length, foreign]).toEqual([2, []]);
  });

  it("may tell of tools that were called, and what they gave", () => {
    const { type: _type, ...withoutType } = TOOL_CALL;
    const given = [
      ...messages,
      { role: "assistant", content: null, tool_calls: [{ ...TOOL_CALL, index: 0 }, withoutType] },
      { role: "tool", tool_call_id: "call_1", content: [{ type: "text", text: "cold" }], name: "weather" },
    ];
    expect(parseChat({ messages: given })).toMatchObject({
      messages: [
        ...messages,
        { role: "assistant", content: "", toolCalls: [TOOL_CALL, TOOL_CALL] },
        { role: "tool", content: "cold", toolCallId: "call_1" },
      ],
      foreign: [],
    });
  });

  it.each<[unknown, unknown]>([
    [undefined, "auto"],
    [null, "auto"],
    ["auto", "auto"],
    ["none", "none"],
    ["required", "required"],
    [{ type: "function", function: { name: "weather" } }, { name: "weather" }],
  ])("may choose among its tools: %j", (choice, expected) => {
    expect(parseChat({ messages, tools: [TOOL], tool_choice: choice })).toMatchObject({
      toolChoice: expected,
      foreign: [],
    });
  });

  it.each([
    [{ type: "text" }, { type: "text" }],
    [{ type: "json_object" }, { type: "json_object" }],
    [{ type: "json_schema", json_schema: { name: "any" } }, { type: "json_object" }],
    [
      { type: "json_schema", json_schema: { schema: SCHEMA } },
      { type: "json_schema", schema: SCHEMA },
    ],
  ])("may ask for a format: %j", (format, expected) => {
    expect(parseChat({ messages, response_format: format })).toMatchObject({ responseFormat: expected, foreign: [] });
  });

  it.each([
    [{ logprobs: true }, 0],
    [{ logprobs: true, top_logprobs: 20 }, 20],
    [{ logprobs: false, top_logprobs: 0 }, undefined],
  ])("may ask for logprobs: %j", (fields, expected) => {
    expect(parseChat({ messages, ...fields }).logprobs).toBe(expected);
  });
});

describe("a parameter that not every engine serves", () => {
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
    ["logit_bias", { 50: 1 }],
    ["functions", [{}]],
    ["function_call", { name: "f" }],
    ["modalities", ["text", "audio"]],
    ["audio", {}],
    ["prediction", {}],
    ["reasoning_effort", "low"],
    ["web_search_options", {}],
    ["top_k", 5],
    ["min_p", 0.1],
    ["guided_json", SCHEMA],
    ["chat_template_kwargs", { enable_thinking: false }],
  ])("is named where it changes something: %s %j", (name, value) => {
    const chat = parseChat({ messages, [name]: value });
    expect(chat.foreign).toEqual([name]);
    expect(() => refuseForeign(chat)).toThrow(refused("unsupported_parameter", name, name));
  });

  it.each<[Record<string, unknown>, string]>([
    [{ tools: [TOOL, { type: "custom", custom: { name: "f" } }] }, "tools[1].type"],
    [{ tools: [TOOL], tool_choice: { type: "allowed_tools", allowed_tools: {} } }, "tool_choice.type"],
    [{ tool_choice: { type: "web_search" } }, "tool_choice.type"],
    [{ response_format: { type: "regex", pattern: "a" } }, "response_format.type"],
    [{ response_format: { type: "json_object", schema: SCHEMA } }, "response_format.schema"],
  ])("is named by its part: %j", (fields, name) => {
    expect(parseChat({ messages, ...fields }).foreign).toEqual([name]);
  });

  it.each(["constructor", "toString", "valueOf", "hasOwnProperty", "__defineGetter__", "__proto__"])(
    "is named also when every object has one: %s",
    (name) => {
      const body = JSON.parse(`{"messages":[{"role":"user","content":"Hi"}],"${name}":{"temperature":0}}`);
      expect(parseChat(body)).toMatchObject({ temperature: 1, foreign: [name] });
      expect(({} as Record<string, unknown>).temperature).toBeUndefined();
    },
  );

  it("is named with the others, messages first, up to a limit", () => {
    const image = { role: "user", content: [{ type: "image_url", image_url: { url: "u" } }] };
    const body = { top_k: 1, messages: [image], min_p: 0.5 };
    expect(parseChat(body).foreign).toEqual(["messages[0].content[0].type", "top_k", "min_p"]);
    expect(parseChat({ messages: Array.from({ length: 500 }, () => image) }).foreign).toHaveLength(FOREIGN_FIELDS_MAX);
    const [cut] = parseChat({ messages, ["x".repeat(1_000)]: 1 }).foreign;
    expect(cut).toHaveLength(100);
  });

  it("is not there: nothing is refused", () => {
    expect(() => refuseForeign(parseChat({ messages, tools: [TOOL] }))).not.toThrow();
  });

  it.each([0, 2, -1])("is n: no engine gives %i answers to a call", (n) => {
    expect(() => parseChat({ messages, n })).toThrow(refused("unsupported_parameter", "n", "must be 1"));
  });
});

describe("a message that not every engine serves", () => {
  it.each<[Record<string, unknown>, string]>([
    [{ role: "function", content: "x", name: "f" }, "messages[1].role"],
    [{ role: "assistant", content: null, function_call: { name: "f" } }, "messages[1].function_call"],
    [{ role: "assistant", audio: { id: "a" } }, "messages[1].audio"],
    [{ role: "assistant", refusal: "no" }, "messages[1].refusal"],
    [{ role: "assistant", tool_calls: [TOOL_CALL, { id: "2", type: "custom" }] }, "messages[1].tool_calls[1].type"],
    [{ role: "user", content: "x", tool_calls: [TOOL_CALL] }, "messages[1].tool_calls"],
    [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "image_url", image_url: { url: "u" } },
        ],
      },
      "messages[1].content[1].type",
    ],
    [{ role: "tool", tool_call_id: "1", content: [{ type: "input_audio" }] }, "messages[1].content[0].type"],
    [{ role: "user", content: [{ type: "video_url", text: "x" }] }, "messages[1].content[0].type"],
  ])("is named by its field: %j", (message, name) => {
    expect(parseChat({ messages: [...messages, message] }).foreign).toEqual([name]);
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
      "messages[0].role: must be one of system, developer, user, assistant, tool, function",
    ],
    [
      { messages: [{ role: "robot", content: "x" }] },
      "messages[0].role",
      "messages[0].role: must be one of system, developer, user, assistant, tool, function",
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
      { messages: [{ role: "user", content: [{ text: "x" }] }] },
      "messages[0].content[0].type",
      "messages[0].content[0].type: is required",
    ],
    [
      { messages: [{ role: "tool", content: "x" }] },
      "messages[0].tool_call_id",
      "messages[0].tool_call_id: is required",
    ],
    [{ messages: [{ role: "tool", tool_call_id: "1" }] }, "messages[0].content", "messages[0].content: is required"],
    [
      { messages: [{ role: "assistant", tool_calls: "x" }] },
      "messages[0].tool_calls",
      "messages[0].tool_calls: must be a list",
    ],
    [
      { messages: [{ role: "assistant", tool_calls: [{ id: "1" }] }] },
      "messages[0].tool_calls[0].function",
      "messages[0].tool_calls[0].function: is required",
    ],
    [
      { messages: [{ role: "assistant", tool_calls: [{ ...TOOL_CALL, function: { name: "f", arguments: {} } }] }] },
      "messages[0].tool_calls[0].function.arguments",
      "messages[0].tool_calls[0].function.arguments: must be a string",
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
    [{ top_p: -0.01 }, "top_p", "top_p: must be at least 0"],
    [{ seed: 2 ** 64 }, "seed", `seed: must be at most ${2 ** 63}`],
    [{ top_p: 1.01 }, "top_p", "top_p: must be at most 1"],
    [{ seed: 1.5 }, "seed", "seed: must be a whole number"],
    [{ frequency_penalty: 2.1 }, "frequency_penalty", "frequency_penalty: must be at most 2"],
    [{ presence_penalty: "0" }, "presence_penalty", "presence_penalty: must be a number"],
    [{ logprobs: 5 }, "logprobs", "logprobs: must be true or false"],
    [{ top_logprobs: 3 }, "top_logprobs", "top_logprobs: needs logprobs"],
    [{ logprobs: true, top_logprobs: 21 }, "top_logprobs", "top_logprobs: must be at most 20"],
    [{ tools: {} }, "tools", "tools: must be a list"],
    [{ tools: ["f"] }, "tools[0]", "tools[0]: must be an object"],
    [{ tools: [{}] }, "tools[0].type", "tools[0].type: is required"],
    [{ tools: [{ type: "function" }] }, "tools[0].function", "tools[0].function: is required"],
    [
      { tools: [TOOL, { type: "function", function: { name: "" } }] },
      "tools[1].function.name",
      "tools[1].function.name: must have at least 1 characters",
    ],
    [
      { tools: [{ type: "function", function: { name: "f", parameters: [] } }] },
      "tools[0].function.parameters",
      "tools[0].function.parameters: must be an object",
    ],
    [{ tool_choice: "required" }, "tool_choice", "tool_choice: needs tools"],
    [{ tool_choice: "any" }, "tool_choice", "tool_choice: must be one of none, auto, required"],
    [{ tools: [TOOL], tool_choice: { type: "function" } }, "tool_choice.function", "tool_choice.function: is required"],
    [
      { tools: [TOOL], tool_choice: { type: "function", function: { name: "toString" } } },
      "tool_choice.function.name",
      "tool_choice.function.name: must be the name of one of the tools",
    ],
    [{ parallel_tool_calls: 1 }, "parallel_tool_calls", "parallel_tool_calls: must be true or false"],
    [{ response_format: "text" }, "response_format", "response_format: must be an object"],
    [{ response_format: {} }, "response_format.type", "response_format.type: is required"],
    [
      { response_format: { type: "json_schema" } },
      "response_format.json_schema",
      "response_format.json_schema: is required",
    ],
    [
      { response_format: { type: "json_schema", json_schema: { schema: "x" } } },
      "response_format.json_schema.schema",
      "response_format.json_schema.schema: must be an object",
    ],
    [{ logit_bias: [] }, "logit_bias", "logit_bias: must be an object"],
    [{ functions: {} }, "functions", "functions: must be a list"],
    [{ modalities: "text" }, "modalities", "modalities: must be a list"],
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

  const many = (length: number, entry: unknown) => Array.from({ length }, () => entry);
  const tool = (parameters: unknown) => [{ type: "function", function: { name: "f", parameters } }];

  it.each<[string, () => Record<string, unknown>, string, string]>([
    [
      "parts",
      () => ({ messages: [{ role: "user", content: many(CONTENT_PARTS_MAX + 1, 5) }] }),
      "messages[0].content",
      "must have at most 10000 items",
    ],
    ["tools", () => ({ tools: many(TOOLS_MAX + 1, TOOL) }), "tools", "must have at most 1000 items"],
    ["stop sequences", () => ({ stop: many(1_000_000, 1) }), "stop", "must have at most 4 items"],
    [
      "characters of a schema",
      () => ({ tools: tool({ $comment: "x".repeat(SCHEMA_CHARS_MAX) }) }),
      "tools[0].function.parameters",
      "must have at most 131072 characters as JSON",
    ],
    [
      "levels of a schema",
      () => ({ tools: tool(nested(1_000_000)) }),
      "tools",
      "must be nested at most 100 levels deep",
    ],
    ["levels", () => ({ vendor: nested(BODY_DEPTH_MAX) }), "vendor", "must be nested at most 100 levels deep"],
  ])("says which limit it exceeds: %s", (_name, fields, param, text) => {
    expect(() => parseChat({ messages, ...fields() })).toThrow(
      expect.objectContaining({ code: "invalid_request", param, message: `${param}: ${text}` }),
    );
  });

  it("may be nested as deep as the limit says", () => {
    expect(parseChat({ messages, vendor: nested(BODY_DEPTH_MAX - 1) }).foreign).toEqual(["vendor"]);
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
