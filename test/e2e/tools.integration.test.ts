/**
 * Tool calls, formats and logprobs with the official `openai` package, on the whole system. The tiny model writes
 * nonsense: what is checked is that its nonsense has the shape that was asked for, streamed and whole alike.
 */
import { connect, submit } from "@autellix/client";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../support/stack.ts";

type Params = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, "model" | "stream" | "messages">;

const POOL = "tiny";
const messages = [{ role: "user" as const, content: "The weather in Paris?" }];
const CITIES = ["Paris", "Oslo"];
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: CITIES }, exact: { type: "boolean" } },
  required: ["city", "exact"],
  additionalProperties: false,
};
const tools = ["weather", "climate"].map((name) => ({ type: "function" as const, function: { name, parameters } }));

let stack: TestStack;
let openai: OpenAI;

beforeAll(async () => {
  stack = await startTestStack({ models: [POOL], engines: 2 });
  openai = new OpenAI({ baseURL: `${stack.urls[0]}/v1`, apiKey: "any", maxRetries: 0 });
});
afterAll(async () => {
  await stack?.stop();
});

/** The answer whole and put together from its stream. Ids of tool calls are those of their call, so not the same. */
async function both(params: Params): Promise<[OpenAI.ChatCompletion, OpenAI.ChatCompletion]> {
  const body = { model: POOL, messages, temperature: 0, ...params };
  const [whole, streamed] = await Promise.all([
    openai.chat.completions.create(body),
    openai.chat.completions.stream({ ...body, stream_options: { include_usage: true } }).finalChatCompletion(),
  ]);
  expect(streamed.usage).toMatchObject({
    prompt_tokens: whole.usage?.prompt_tokens,
    completion_tokens: whole.usage?.completion_tokens,
  });
  return [whole, streamed];
}

interface Called {
  id: string;
  name: string;
  args: unknown;
}

function calledIn({ choices }: OpenAI.ChatCompletion): Called[] {
  const [choice] = choices;
  expect(choice?.finish_reason).toBe("tool_calls");
  expect(choice?.message.content).toBeNull();
  return (choice?.message.tool_calls ?? []).map((call) => {
    if (call.type !== "function") throw new Error(`not a function: ${call.type}`);
    return { id: call.id, name: call.function.name, args: JSON.parse(call.function.arguments) };
  });
}

test("a tool that must be called is called, as its schema says", async () => {
  const [whole, streamed] = await both({ tools, tool_choice: "required", parallel_tool_calls: false });
  const [a, b] = [calledIn(whole), calledIn(streamed)];
  expect(a).toHaveLength(1);
  expect(a[0]?.id).not.toBe("");
  expect(["weather", "climate"]).toContain(a[0]?.name);
  expect(a[0]?.args).toEqual({ city: expect.toBeOneOf(CITIES), exact: expect.any(Boolean) });
  expect(b.map(({ name, args }) => ({ name, args }))).toEqual(a.map(({ name, args }) => ({ name, args })));
});

test("a tool that is named is the one that is called, and its result can be sent back", async () => {
  const [whole] = await both({ tools, tool_choice: { type: "function", function: { name: "climate" } }, seed: 3 });
  const calls = calledIn(whole);
  expect(new Set(calls.map(({ name }) => name))).toEqual(new Set(["climate"]));
  const [choice] = whole.choices;
  if (!choice) throw new Error("no answer");
  const results = calls.map(({ id }) => ({ role: "tool" as const, tool_call_id: id, content: "sunny" }));
  const follow = async (more: OpenAI.ChatCompletionMessageParam[]) =>
    await openai.chat.completions.create({
      model: POOL,
      messages: [...messages, ...more],
      tools,
      tool_choice: "none",
      max_tokens: 8,
    });
  const [next, without] = [await follow([choice.message, ...results]), await follow([])];
  expect(next.choices[0]?.message.tool_calls).toBeUndefined();
  expect(next.usage?.prompt_tokens).toBeGreaterThan(10 + (without.usage?.prompt_tokens ?? Number.POSITIVE_INFINITY));
});

test("an answer has the format that was asked for", async () => {
  const json_schema = { name: "place", strict: true, schema: parameters };
  const [whole, streamed] = await both({ response_format: { type: "json_schema", json_schema } });
  expect(whole.choices[0]?.finish_reason).toBe("stop");
  const value = JSON.parse(whole.choices[0]?.message.content ?? "");
  expect(Object.keys(value).sort()).toEqual(["city", "exact"]);
  expect(CITIES).toContain(value.city);
  expect(streamed.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
});

test("logprobs are those of the tokens of the text, streamed and whole", async () => {
  const [whole, streamed] = await both({ logprobs: true, top_logprobs: 3, max_tokens: 12 });
  const [choice] = whole.choices;
  const tokens = choice?.logprobs?.content ?? [];
  const bytes = tokens.flatMap((token) => token.bytes ?? []);
  expect(Buffer.from(bytes).toString()).toBe(choice?.message.content);
  for (const { logprob, top_logprobs: top } of tokens) {
    expect(top).toHaveLength(3);
    // Greedy: the token is the likeliest.
    expect(logprob).toBeCloseTo(top[0]?.logprob ?? Number.NaN, 5);
    expect(logprob).toBeLessThanOrEqual(0);
  }
  expect(streamed.choices[0]?.message.content).toBe(choice?.message.content);
  expect(streamed.choices[0]?.logprobs?.content?.map(({ token }) => token)).toEqual(tokens.map(({ token }) => token));
});

test("a tool call arrives over NATS, too", async () => {
  const connection = await connect({ url: stack.natsUrl });
  try {
    const body = { messages, tools, tool_choice: "required", parallel_tool_calls: false, temperature: 0 };
    const call = submit(connection, { pool: POOL, body });
    let args = "";
    for await (const event of call) {
      if (event.kind === "restart") args = "";
      else for (const part of event.delta.tool_calls ?? []) args += part.function?.arguments ?? "";
    }
    const { response } = await call.result();
    const [called] = response?.choices[0].message.tool_calls ?? [];
    expect(called?.function?.arguments).toBe(args);
    expect(JSON.parse(args)).toHaveProperty("city");
  } finally {
    await connection.close();
  }
});
