/**
 * The examples and the client on the real system: nats-server, scheduler, llama.cpp with the tiny model, frontend.
 */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { autellixFetch, connect, program, submit } from "@autellix/client";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../../test/support/stack.ts";

const run = promisify(execFile);
const pool = "tiny";
let stack: TestStack;
let baseUrl: string;

beforeAll(async () => {
  stack = await startTestStack();
  baseUrl = stack.urls[0] ?? "";
});

afterAll(async () => {
  await stack?.stop();
});

/** @returns what the example prints. @throws when its exit code is not 0. */
async function example(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [resolve(import.meta.dirname, "..", name), ...args]);
  return stdout;
}

test("single-call", async () => {
  expect(await example("single-call.ts", baseUrl)).toMatch(/\(\d+ tokens of tiny\)/);
});

test("react-loop, whatever a random model answers, ends within its turns", async () => {
  const printed = await example("react-loop.ts", baseUrl);
  expect(printed).toMatch(/turn 1: /);
  expect(printed).toMatch(/answer after \d turns: |no answer after 4 turns/);
});

test("threads: the program has service and waiting of all its calls", async () => {
  expect(await example("threads.ts", baseUrl)).toMatch(/8 calls ended, \d+ ms of service, \d+ ms of waiting/);
});

test("plain-nats", async () => {
  const printed = await example("plain-nats.ts", stack.natsUrl, pool);
  expect(printed).toContain("ended: completed");
  expect(printed).toMatch(/on record: \{"prompt_tokens":\d+/);
});

test("an example fails where nobody answers", async () => {
  await expect(example("single-call.ts", "http://127.0.0.1:9")).rejects.toMatchObject({ code: 1 });
});

test("submit gives the answer that the frontend gives", async () => {
  const body = {
    messages: [{ role: "user" as const, content: "What is the capital of France?" }],
    temperature: 0,
    max_completion_tokens: 40,
  };
  const openai = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: "any" });
  const completion = await openai.chat.completions.create({ model: pool, ...body });
  const connection = await connect({ url: stack.natsUrl });
  try {
    const call = submit(connection, { pool, body });
    let text = "";
    for await (const event of call) text = event.kind === "restart" ? "" : text + event.text;
    const { status, usage, response } = await call.result();
    expect(status).toBe("completed");
    expect(text).toBe(completion.choices[0]?.message.content);
    expect(usage ?? response?.usage).toEqual(completion.usage);
  } finally {
    await connection.close();
  }
});

test("a call that is submitted and cancelled ends as cancelled", async () => {
  const connection = await connect({ url: stack.natsUrl });
  try {
    const messages = [{ role: "user" as const, content: "Count for ever." }];
    const call = submit(connection, { pool, body: { messages, max_completion_tokens: 200 } });
    await call.cancel();
    expect((await call.result()).status).toMatch(/cancelled|completed/);
  } finally {
    await connection.close();
  }
});

test("a program over HTTP and NATS ends at the server", async () => {
  const openai = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: "any", maxRetries: 0, fetch: autellixFetch() });
  const messages = [{ role: "user" as const, content: "Hello" }];
  const connection = await connect({ url: stack.natsUrl });
  try {
    const id = await program("both", async (p) => {
      await openai.chat.completions.create({ model: pool, messages, max_completion_tokens: 8 });
      await submit(connection, { pool, body: { messages, max_completion_tokens: 8 } }).result();
      return p.id;
    });
    const view = await (await fetch(`${baseUrl}/v1/programs/${id}`)).json();
    expect(view).toMatchObject({ state: "ended", calls: { waiting: 0, running: 0, ended: 2 } });
    const late = submit(connection, { pool, program: id, body: { messages } });
    expect(await late.result()).toMatchObject({ status: "failed", error: { code: "program_ended" } });
  } finally {
    await connection.close();
  }
});
