/** What of OpenAI's API is more than text, read by the official `openai` package. */
import { type AnswerDelta, textDelta } from "@autellix/protocol";
import { createLogger } from "@autellix/runtime";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { type Frontend, startFrontend } from "../src/frontend.ts";
import { defaultLimits } from "../src/limits.ts";
import { answered, failed } from "./driver.ts";
import { type Arrival, TestPool } from "./pool.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const log = createLogger({ service: "test", level: "silent" });
const messages = [{ role: "user" as const, content: "The weather in Paris and Oslo?" }];
const tools = [
  {
    type: "function" as const,
    function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
  },
];

let nats: TestNats;
let pool: TestPool;
let frontend: Frontend;
let url: string;
let openai: OpenAI;
let pools = 0;
const fatal: unknown[] = [];

beforeAll(async () => {
  nats = await startTestNats();
});
beforeEach(async () => {
  pool = await TestPool.start(nats.url, `p${++pools}`);
  const limits = { ...defaultLimits, drainMsMax: 500 };
  const config = { natsUrl: nats.url, host: "127.0.0.1", port: 0, apiKeysFile: undefined, limits };
  frontend = await startFrontend(config, { log, progress: () => {}, fail: (error) => fatal.push(error) });
  url = `http://127.0.0.1:${frontend.port}`;
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  await vi.waitUntil(async () => (await fetch(`${url}/readyz`)).ok, WAIT);
});
afterEach(async () => {
  await frontend.stop();
  await pool.stop();
  expect(fatal.splice(0)).toEqual([]);
});
afterAll(async () => {
  await nats?.stop();
});

const begun = (index: number, id: string, text: string): AnswerDelta => ({
  delta: { tool_calls: [{ index, id, type: "function", function: { name: "weather", arguments: text } }] },
});
const goesOn = (index: number, text: string): AnswerDelta => ({
  delta: { tool_calls: [{ index, function: { arguments: text } }] },
});
const CALLS = [
  begun(0, "call_a", ""),
  goesOn(0, '{"city":'),
  goesOn(0, '"Paris"}'),
  begun(1, "call_b", '{"city"'),
  goesOn(1, ':"Oslo"}'),
];
const TOOL_CALLS = [
  { id: "call_a", type: "function", function: { name: "weather", arguments: '{"city":"Paris"}' } },
  { id: "call_b", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } },
];
const valued = (token: string): AnswerDelta => ({
  delta: { content: token },
  logprobs: {
    content: [{ token, logprob: -0.25, bytes: [...Buffer.from(token)], top_logprobs: [{ token, logprob: -0.25 }] }],
    refusal: null,
  },
});

async function ended(arrival: Arrival, pieces: readonly AnswerDelta[], reason: "stop" | "tool_calls"): Promise<void> {
  const { response, ...outcome } = answered(pieces, { callId: arrival.address.callId, reason });
  if (!response) throw new Error("a completed outcome has a response");
  const usage = { ...response.usage, prompt_tokens_details: { cached_tokens: 2 } };
  await pool.end(arrival, { ...outcome, usage, response: { ...response, usage } });
}

describe("tool calls", () => {
  test("arrive whole", async () => {
    const answer = openai.chat.completions.create({ model: "m", messages, tools });
    await ended(await pool.next(), CALLS, "tool_calls");
    const { choices, usage } = await answer;
    expect(choices[0]).toMatchObject({ finish_reason: "tool_calls", logprobs: null });
    expect(choices[0]?.message).toEqual({ role: "assistant", content: null, refusal: null, tool_calls: TOOL_CALLS });
    expect(usage?.prompt_tokens_details).toEqual({ cached_tokens: 2 });
  });

  // All, some and none of the tokens come; the record gives the rest.
  test.each([5, 3, 1, 0])("arrive as a stream when %i tokens of 5 do", async (shown) => {
    const stream = openai.chat.completions.stream({
      model: "m",
      messages,
      tools,
      stream_options: { include_usage: true },
    });
    const deltas: unknown[] = [];
    stream.on("chunk", ({ choices }) => deltas.push(choices[0]?.delta));
    const call = await pool.next();
    for (let index = 0; index < shown; index++) pool.deltas(call, index, CALLS.slice(index, index + 1));
    await ended(call, CALLS, "tool_calls");
    const { choices, usage } = await stream.finalChatCompletion();
    expect(choices[0]).toMatchObject({ finish_reason: "tool_calls" });
    expect(choices[0]?.message).toMatchObject({ role: "assistant", content: null });
    expect(choices[0]?.message.tool_calls).toMatchObject(TOOL_CALLS);
    expect(usage).toMatchObject({ prompt_tokens: 3, prompt_tokens_details: { cached_tokens: 2 } });
    expect(deltas[0]).toMatchObject({ role: "assistant", content: null });
    if (shown === 5) expect(deltas).toMatchObject([...CALLS.map(({ delta }) => delta), {}, undefined]);
  });

  test("go back with their results, and the answer that follows is text", async () => {
    const answer = openai.chat.completions.create({
      model: "m",
      tools,
      messages: [
        ...messages,
        { role: "assistant", content: null, tool_calls: TOOL_CALLS as OpenAI.ChatCompletionMessageFunctionToolCall[] },
        { role: "tool", tool_call_id: "call_a", content: "sun" },
        { role: "tool", tool_call_id: "call_b", content: "snow" },
      ],
    });
    const call = await pool.next();
    expect(call.request).toMatchObject({ messages: [{}, { tool_calls: TOOL_CALLS }, { content: "sun" }, {}] });
    await ended(call, [textDelta("Sun and snow.")], "stop");
    expect((await answer).choices[0]?.message.content).toBe("Sun and snow.");
  });
});

test("logprobs arrive whole and as a stream", async () => {
  const params = { model: "m", messages, logprobs: true, top_logprobs: 1 };
  const pieces = ["Su", "n"].map(valued);
  const whole = openai.chat.completions.create(params);
  await ended(await pool.next(), pieces, "stop");
  const expected = (await whole).choices[0];
  expect(expected).toMatchObject({
    message: { content: "Sun" },
    logprobs: { content: [{ token: "Su" }, { token: "n" }] },
  });
  const stream = openai.chat.completions.stream(params);
  const call = await pool.next();
  pool.deltas(call, 0, pieces.slice(0, 1));
  await ended(call, pieces, "stop");
  const { choices } = await stream.finalChatCompletion();
  expect(choices[0]).toMatchObject({ message: { content: "Sun" }, logprobs: expected?.logprobs });
});

test("a resumed attempt goes on in the middle of a tool call", async () => {
  const stream = openai.chat.completions.stream({ model: "m", messages, tools });
  const call = await pool.next();
  pool.deltas(call, 0, CALLS.slice(0, 2));
  expect(await pool.have(call, 2)).toEqual({ state: "live", count: 2 });
  pool.deltas(call, 2, [goesOn(0, "XXX")], 1);
  pool.deltas(call, 2, CALLS.slice(2), 2);
  await ended(call, CALLS, "tool_calls");
  expect((await stream.finalChatCompletion()).choices[0]?.message.tool_calls).toMatchObject(TOOL_CALLS);
});

test("fields that servers add of their own arrive, streamed and whole", async () => {
  const pieces = [{ delta: { reasoning_content: "Hm. " } }, { delta: { reasoning_content: "So." } }, textDelta("Sun.")];
  const whole = openai.chat.completions.create({ model: "m", messages });
  await ended(await pool.next(), pieces, "stop");
  expect((await whole).choices[0]?.message).toMatchObject({ content: "Sun.", reasoning_content: "Hm. So." });
  const stream = await Promise.all([
    openai.chat.completions.create({ model: "m", messages, stream: true }),
    pool.next().then(async (call) => {
      pool.deltas(call, 0, pieces);
      await ended(call, pieces, "stop");
    }),
  ]).then(([first]) => first);
  const deltas = [];
  for await (const { choices } of stream) deltas.push(choices[0]?.delta);
  expect(deltas).toEqual([
    { role: "assistant", content: null, reasoning_content: "Hm. " },
    { reasoning_content: "So." },
    { content: "Sun." },
    {},
  ]);
});

describe("a request", () => {
  test("reaches the queue byte for byte, with all that only an engine can judge", async () => {
    const body = `{ "top_k": 40,\n"messages": [{"role":"user","content":[{"type":"text","text":"\\u00e9"},
      {"type":"image_url","image_url":{"url":"data:,"}}]}], "seed":7.0, "model":"m","guided_json":{}}`;
    const answer = fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    const call = await pool.next();
    expect(Buffer.from(call.bytes).toString()).toBe(body);
    await ended(call, [textDelta("x")], "stop");
    expect((await answer).status).toBe(200);
  });

  test.each([true, false])("that no engine of the pool can serve is a 400 (stream: %j)", async (stream) => {
    const body = { model: "m", messages, stream, top_k: 40 } as OpenAI.ChatCompletionCreateParams;
    const refused = expect(openai.chat.completions.create(body)).rejects.toMatchObject({
      status: 400,
      code: "unsupported_parameter",
      param: "top_k",
      type: "invalid_request_error",
    });
    const outcome = failed("unsupported_parameter");
    const error = { code: "unsupported_parameter" as const, message: "top_k is not supported", param: "top_k" };
    await pool.end(await pool.next(), { ...outcome, error });
    await refused;
  });

  test("with n = 2 is refused before it is queued", async () => {
    await expect(openai.chat.completions.create({ model: "m", messages, n: 2 })).rejects.toMatchObject({
      status: 400,
      code: "unsupported_parameter",
      param: "n",
    });
  });
});
