/** The whole system on a real vLLM, which is stopped, killed and started again under its calls. */
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { queueDrained } from "../support/queue.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";
import { untilMetric } from "./metrics.ts";
import { isMissing, need } from "./need.ts";
import { type EngineServer, startVllm } from "./servers.ts";

const { vllm } = inject("equipment");
const SLOTS = 4;
/** More than the server's slots: most of them wait. */
const CALLS = 24;
/** They come while the server is down. */
const LATE_CALLS = 6;
const RUNNING = "vllm:num_requests_running";
const SETTLE_MS_MAX = 60_000;

interface Answer {
  text: string;
  finish: string;
  completionTokens: number | undefined;
}

// No retries: an SDK that tried again would hide a lost call.
const clientOf = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });

describe.skipIf(isMissing(vllm))("the whole system on vLLM", () => {
  let server: EngineServer;
  let stack: TestStack;
  let direct: OpenAI;
  let clients: OpenAI[];
  /** As vLLM itself answers. */
  let wanted: Answer[];
  beforeAll(async () => {
    server = await startVllm({ ...need(vllm), env: process.env, slots: SLOTS });
    stack = await startTestStack({ servers: [server.url], args: ["--slots", String(SLOTS)], frontends: 2 });
    direct = clientOf(server.url);
    clients = stack.urls.map(clientOf);
    wanted = await Promise.all(Array.from({ length: CALLS + LATE_CALLS }, (_, i) => ask(direct, i)));
  });
  afterAll(async () => {
    await stack?.stop();
    await server?.stop();
  });

  async function ask(client: OpenAI, index: number, onText = () => {}): Promise<Answer> {
    const answer = { text: "", completionTokens: undefined as number | undefined };
    const finishes: string[] = [];
    const chunks = await client.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: `Call ${index}: tell me something long.` }],
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const { choices, usage } of chunks) {
      const text = choices[0]?.delta.content ?? "";
      answer.text += text;
      if (text !== "") onText();
      const finish = choices[0]?.finish_reason;
      if (finish) finishes.push(finish);
      if (usage) answer.completionTokens = usage.completion_tokens;
    }
    expect(finishes, "one end").toHaveLength(1);
    return { ...answer, finish: finishes[0] ?? "" };
  }

  const askUs = (index: number, onText?: () => void) => ask(clients[index % clients.length] as OpenAI, index, onText);

  /** Runs all calls; when several have begun to answer, takes the server down, sends the late ones, and starts it again. */
  async function askWhileDown(takeDown: () => Promise<void>): Promise<Answer[]> {
    let texts = 0;
    const begun = Promise.withResolvers<void>();
    const onText = () => {
      if (++texts === 2 * SLOTS) begun.resolve();
    };
    const calls = Array.from({ length: CALLS }, (_, i) => askUs(i, onText));
    const all = Promise.all(calls);
    await Promise.race([begun.promise, all]);
    await takeDown();
    const late = Array.from({ length: LATE_CALLS }, (_, i) => askUs(CALLS + i));
    const [answers, lateAnswers] = await Promise.all([all, Promise.all(late), server.restart()]);
    return [...answers, ...lateAnswers];
  }

  it("answers as the server itself does", async () => {
    expect(await Promise.all(wanted.map((_, i) => askUs(i)))).toEqual(wanted);
    await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
  });

  it("hands on what only the server knows: a JSON schema, a field of its own", async () => {
    const schema = {
      type: "object",
      properties: { yes: { type: "boolean" } },
      required: ["yes"],
      additionalProperties: false,
    };
    const [json, exact] = await Promise.all([
      clients[0]?.chat.completions.create({
        model: "tiny",
        messages: [{ role: "user", content: "Yes or no?" }],
        max_tokens: 200,
        response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } },
      }),
      clients[0]?.chat.completions.create({
        model: "tiny",
        messages: [{ role: "user", content: "How long?" }],
        max_tokens: 333,
        ...{ ignore_eos: true },
      }),
    ]);
    const text = json?.choices[0]?.message.content ?? "";
    // A random model may write spaces until its room ends; what it wrote is the beginning of such an object.
    if (json?.choices[0]?.finish_reason === "stop") expect(typeof JSON.parse(text).yes).toBe("boolean");
    else expect(text).toMatch(/^\{\s*("yes"\s*(:\s*(true|false)?\s*)?)?/);
    expect([exact?.usage?.completion_tokens, exact?.choices[0]?.finish_reason]).toEqual([333, "length"]);
  });

  it("loses no call and answers none twice when the server is stopped and started again", async () => {
    expect(await askWhileDown(() => server.terminate())).toEqual(wanted);
    await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
  });

  it("loses no call and answers none twice when the server is killed and started again", async () => {
    expect(await askWhileDown(() => server.kill())).toEqual(wanted);
    await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
  });
});

// A server on the tiny model can have ended a call of thousands of tokens before it says that the call runs.
describe.skipIf(isMissing(vllm))("the whole system on vLLM with a real chat model", () => {
  let server: EngineServer;
  let stack: TestStack;
  beforeAll(async () => {
    const { chatModelDir: modelDir, ...python } = need(vllm);
    server = await startVllm({ ...python, modelDir, env: process.env, slots: SLOTS });
    stack = await startTestStack({ servers: [server.url], args: ["--slots", String(SLOTS)] });
  });
  afterAll(async () => {
    await stack?.stop();
    await server?.stop();
  });

  it("frees the server's slot when a client goes away", async () => {
    const abort = new AbortController();
    const stream = await clientOf(stack.urls[0] ?? "").chat.completions.create(
      {
        model: "tiny",
        messages: [{ role: "user", content: "Tell me more." }],
        max_tokens: 3_900,
        stream: true,
        ...{ ignore_eos: true },
      },
      { signal: abort.signal },
    );
    const first = await stream[Symbol.asyncIterator]().next();
    expect(first.done).toBe(false);
    await untilMetric(server.url, RUNNING, (running) => running === 1);
    abort.abort();
    await untilMetric(server.url, RUNNING, (running) => running === 0, SETTLE_MS_MAX);
    await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
  });
});
