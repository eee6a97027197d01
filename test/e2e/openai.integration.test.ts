/** What a person with the official `openai` package sees, on the whole system. */
import { connect, submit } from "@autellix/client";
import OpenAI, { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cachedDefaultModel, startTestStack, type TestStack } from "../support/stack.ts";

type Params = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, "model" | "stream">;

const trained = cachedDefaultModel();
const QUESTION: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "What is the capital of France?" }];
const POOL = "tiny";
const SETTLE = { timeout: 20_000, interval: 20 };

let stack: TestStack;
/** One per frontend. */
let clients: OpenAI[];
let openai: OpenAI;

beforeAll(async () => {
  stack = await startTestStack({ models: [POOL, ...(trained ? [trained] : [])], engines: 2, frontends: 2 });
  clients = stack.urls.map((url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 }));
  const [first] = clients;
  if (!first) throw new Error("no frontend");
  openai = first;
});

afterAll(async () => {
  await stack?.stop();
});

interface Timed {
  autellix: { service_ms: number };
}

interface Answer {
  text: string;
  finish: string | null | undefined;
  usage: OpenAI.CompletionUsage | null | undefined;
  id: string;
}

async function whole(params: Params, model = POOL, client = openai): Promise<Answer> {
  const { choices, usage, id } = await client.chat.completions.create({ model, ...params });
  return { text: choices[0]?.message.content ?? "", finish: choices[0]?.finish_reason, usage, id };
}

async function streamed(params: Params, model = POOL, client = openai): Promise<Answer & { chunks: number }> {
  const stream = await client.chat.completions.create({
    model,
    ...params,
    stream: true,
    stream_options: { include_usage: true },
  });
  const answer: Answer & { chunks: number } = { text: "", finish: undefined, usage: undefined, id: "", chunks: 0 };
  for await (const chunk of stream) {
    const [choice] = chunk.choices;
    answer.text += choice?.delta.content ?? "";
    answer.finish = choice?.finish_reason ?? answer.finish;
    answer.usage = chunk.usage ?? answer.usage;
    answer.id = chunk.id;
    answer.chunks++;
  }
  return answer;
}

/** @returns the error that the package throws. */
async function refused(params: object): Promise<APIError> {
  const error = await openai.chat.completions
    .create({ model: POOL, messages: QUESTION, max_tokens: 1, ...params })
    .catch((thrown: unknown) => thrown);
  if (error instanceof APIError) return error;
  throw new Error(`not refused: ${JSON.stringify(params)}`);
}

describe("an answer", () => {
  test.skipIf(!trained)("to the question for the capital of France is Paris, streamed and whole", async () => {
    const { data } = await openai.models.list();
    const model = data.find(({ id }) => id !== POOL)?.id ?? "";
    const params = { messages: QUESTION, max_tokens: 40, temperature: 0 };
    const answers = [await whole(params, model), await streamed(params, model)];
    for (const { text, finish } of answers) {
      expect(text).toContain("Paris");
      expect(finish).toBe("stop");
    }
  });

  test("is the same streamed and whole, with the engine's own usage", async () => {
    const params = { messages: QUESTION, max_completion_tokens: 40, temperature: 0 };
    const [a, b] = [await whole(params), await streamed(params)];
    expect(b).toMatchObject({ text: a.text, finish: a.finish, usage: a.usage });
    expect(b.chunks).toBeGreaterThan(3);
    expect(a.usage?.prompt_tokens).toBeGreaterThan(5);
    expect(a.usage?.total_tokens).toBe((a.usage?.prompt_tokens ?? 0) + (a.usage?.completion_tokens ?? 0));
    expect(a.id).toMatch(/^chatcmpl-[A-Za-z0-9_-]+$/);
  });

  test("at temperature 0 is the same through either frontend and through submit()", async () => {
    const params = { messages: QUESTION, max_completion_tokens: 48, temperature: 0 };
    const answers = await Promise.all(
      clients.flatMap((client) => [whole(params, POOL, client), streamed(params, POOL, client)]),
    );
    const texts = new Set(answers.map(({ text }) => text));
    const connection = await connect({ url: stack.natsUrl });
    try {
      const body = { messages: [{ role: "user" as const, content: "What is the capital of France?" }] };
      const call = submit(connection, { pool: POOL, body: { ...body, max_completion_tokens: 48, temperature: 0 } });
      const { response } = await call.result();
      texts.add(response?.choices[0].message.content ?? "");
      expect(response?.usage).toEqual(answers[0]?.usage);
    } finally {
      await connection.close();
    }
    expect([...texts]).toHaveLength(1);
  });

  test("with a seed repeats itself, and differs with another seed", async () => {
    const params = { messages: QUESTION, max_tokens: 40, temperature: 1.2 };
    const [a, b, c] = [
      await whole({ ...params, seed: 7 }),
      await streamed({ ...params, seed: 7 }, POOL, clients[1]),
      await whole({ ...params, seed: 8 }),
    ];
    expect(b.text).toBe(a.text);
    expect(c.text).not.toBe(a.text);
  });

  test("ends after max_tokens", async () => {
    for (const limit of [{ max_tokens: 3 }, { max_completion_tokens: 3 }]) {
      const { usage, finish } = await streamed({ messages: QUESTION, temperature: 0, ...limit });
      expect([usage?.completion_tokens, finish]).toEqual([3, "length"]);
    }
  });

  test("ends before a stop sequence, which is not in the text", async () => {
    const params = { messages: QUESTION, max_tokens: 40, temperature: 0 };
    const { text } = await whole(params);
    const at = Math.floor(text.length / 2);
    const stop = text.slice(at, at + 3);
    const expected = text.slice(0, text.indexOf(stop));
    for (const given of [stop, ["never in there", stop]]) {
      const [a, b] = [await whole({ ...params, stop: given }), await streamed({ ...params, stop: given })];
      expect([a.text, a.finish]).toEqual([expected, "stop"]);
      expect([b.text, b.finish]).toEqual([expected, "stop"]);
    }
  });

  test("carries its call id, its program and its times", async () => {
    const { data, response } = await openai.chat.completions
      .create({ model: POOL, messages: QUESTION, max_tokens: 2 }, { headers: { "Autellix-Program-Id": "of times" } })
      .withResponse();
    const callId = response.headers.get("x-autellix-call-id");
    expect(data.id).toBe(`chatcmpl-${callId}`);
    expect(data).toMatchObject({
      object: "chat.completion",
      model: POOL,
      autellix: { call_id: callId, program_id: "of times", attempts: 1, service_ms: expect.any(Number) },
    });
  });
});

describe("a parameter", () => {
  test("that the engine cannot serve is refused by its name, streamed or not", async () => {
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } };
    const refusals: [string, object][] = [
      ["n", { n: 2 }],
      ["messages[0].content[0].type", { messages: [{ role: "user", content: [image] }] }],
      ["tools[0].type", { tools: [{ type: "custom", custom: { name: "f" } }] }],
      ["response_format.type", { response_format: { type: "grammar", grammar: "x" } }],
      ["logit_bias", { logit_bias: { 5: 1 } }],
      ["top_k", { top_k: 40 }],
    ];
    for (const stream of [false, true]) {
      for (const [param, params] of refusals) {
        const { status, code, param: named, message } = await refused({ ...params, stream });
        expect([status, code, named]).toEqual([400, "unsupported_parameter", param]);
        expect(message).toContain(param);
      }
    }
  });

  test("at its neutral value is accepted", async () => {
    const neutral = {
      n: 1,
      tools: [],
      tool_choice: "none" as const,
      response_format: { type: "text" as const },
      logprobs: false,
      logit_bias: {},
      presence_penalty: 0,
      frequency_penalty: 0,
      top_p: 1,
      stop: null,
      user: "somebody",
      store: false,
      metadata: { any: "thing" },
    };
    const params = { messages: QUESTION, max_tokens: 8, temperature: 0 };
    expect((await whole({ ...params, ...neutral })).text).toBe((await whole(params)).text);
  });

  test("of a wrong value is refused as such", async () => {
    for (const params of [{ max_tokens: -1 }, { temperature: 3 }, { top_p: -1 }, { seed: 1.5 }, { messages: [] }]) {
      expect(await refused(params)).toMatchObject({
        status: 400,
        code: "invalid_request",
        param: Object.keys(params)[0],
      });
    }
    expect(await refused({ model: "gpt-none" })).toMatchObject({ status: 404, code: "model_not_found" });
  });
});

describe("the API beside calls", () => {
  const get = async (path: string, method = "GET") => {
    const response = await fetch(`${stack.urls[0]}${path}`, { method });
    return { status: response.status, body: await response.json() };
  };

  test("lists the models, and tells of one", async () => {
    const { data } = await openai.models.list();
    expect(data.map(({ id }) => id)).toContain(POOL);
    expect(await openai.models.retrieve(POOL)).toMatchObject({ id: POOL, object: "model" });
    await expect(openai.models.retrieve("gpt-none")).rejects.toMatchObject({ status: 404, code: "model_not_found" });
  });

  test("is healthy and ready", async () => {
    expect(await get("/healthz")).toEqual({ status: 200, body: { status: "ok" } });
    expect(await get("/readyz")).toEqual({ status: 200, body: { status: "ready" } });
  });

  test("opens, shows and ends programs; an ended one takes no more calls", async () => {
    const started = await get("/v1/programs", "POST");
    const { id } = started.body as { id: string };
    expect(started).toMatchObject({ status: 200, body: { object: "program", state: "open" } });
    const headers = { "Autellix-Program-Id": id };
    const call = () => openai.chat.completions.create({ model: POOL, messages: QUESTION, max_tokens: 2 }, { headers });
    await call();
    expect(await get(`/v1/programs/${id}`)).toMatchObject({ status: 200, body: { id, state: "open" } });
    expect(await get(`/v1/programs/${id}`, "DELETE")).toMatchObject({ status: 200, body: { id, state: "ended" } });
    expect(await get(`/v1/programs/${id}`, "DELETE")).toMatchObject({ status: 200, body: { id, state: "ended" } });
    await expect(call()).rejects.toMatchObject({ status: 409, code: "program_ended" });
    expect(await get("/v1/programs/nobody-knows")).toMatchObject({
      status: 404,
      body: { error: { code: "not_found" } },
    });
  });

  test.skipIf(!trained)("shows one program that uses two models, with an entry of each pool", async () => {
    const headers = { "Autellix-Program-Id": "two models" };
    const path = "/v1/programs/two%20models";
    const models = (await openai.models.list()).data.map(({ id }) => id);
    expect(models).toHaveLength(2);
    const call = async (model: string) =>
      await openai.chat.completions.create({ model, messages: QUESTION, max_tokens: 4 }, { headers });
    const answers = await Promise.all(models.map(call));
    const serviceMs = answers.map((answer) => (answer as unknown as Timed).autellix.service_ms);
    await expect
      .poll(async () => (await get(path)).body, SETTLE)
      .toMatchObject({
        calls: { waiting: 0, running: 0, ended: 2 },
        service_ms: expect.closeTo(
          serviceMs.reduce((a, b) => a + b),
          2,
        ),
        attained_service_ms: expect.closeTo(Math.max(...serviceMs), 2),
        pools: [{ calls: { ended: 1 } }, { calls: { ended: 1 } }],
      });
    expect(await get(path, "DELETE")).toMatchObject({ status: 200, body: { state: "ended" } });
    for (const model of models) await expect(call(model)).rejects.toMatchObject({ code: "program_ended" });
  });

  test("logs no word of a prompt or an answer", async () => {
    const secret = "zanzibar-quokka-4711";
    await whole({ messages: [{ role: "user", content: secret }], max_tokens: 2 });
    await refused({ messages: [{ role: secret, content: secret }] });
    await refused({ messages: [{ role: "user", content: secret }], stop: [secret, secret.repeat(100)] });
    const logs = await stack.logs();
    expect(logs.length).toBeGreaterThan(0);
    expect(logs).not.toContain("quokka");
  });
});
