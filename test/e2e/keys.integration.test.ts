/** With a file of keys: who may call, and what a tenant sees of another one. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Observer, openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const MODEL = "tiny";
const SETTLE = { timeout: 20_000, interval: 20 };
const MESSAGES: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Hello" }];

let folder: string;
let stack: TestStack;
let observer: Observer;
let keys: Record<"anna" | "bert", string>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-keys-"));
  const file = join(folder, "keys.json");
  keys = { anna: await createKey(file, "anna"), bert: await createKey(file, "bert") };
  stack = await startTestStack({ args: ["--engine", "simulated", "--api-keys", file] });
  observer = await openObserver(stack.natsUrl);
});

afterAll(async () => {
  await observer?.close();
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** @returns the key, which is shown only once. */
async function createKey(file: string, tenant: string): Promise<string> {
  const start = resolve(import.meta.dirname, "../../scripts/start.mjs");
  const args = [start, "keys", "create", tenant, "--file", file];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return stdout.split("\n")[0] ?? "";
}

function clientOf(apiKey: string): OpenAI {
  return new OpenAI({ baseURL: `${stack.urls[0]}/v1`, apiKey, maxRetries: 0 });
}

async function as(apiKey: string, method: string, path: string): Promise<{ status: number; code?: string }> {
  const headers = { authorization: `Bearer ${apiKey}` };
  const response = await fetch(stack.urls[0] + path, { method, headers });
  const body = (await response.json()) as { error?: { code: string } };
  return { status: response.status, ...(body.error ? { code: body.error.code } : {}) };
}

test("without a key, or with a wrong one, nobody is served but the health checks", async () => {
  for (const key of ["wrong", `${keys.anna}x`, keys.anna.slice(0, -1)]) {
    const call = clientOf(key).chat.completions.create({ model: MODEL, messages: MESSAGES, max_tokens: 2 });
    await expect(call).rejects.toMatchObject({ status: 401, code: "invalid_api_key" });
    for (const path of ["/v1/models", "/v1/programs/x"]) {
      expect(await as(key, "GET", path)).toEqual({ status: 401, code: "invalid_api_key" });
    }
  }
  expect((await fetch(`${stack.urls[0]}/v1/models`)).status).toBe(401);
  expect((await fetch(`${stack.urls[0]}/healthz`)).status).toBe(200);
  expect((await fetch(`${stack.urls[0]}/readyz`)).status).toBe(200);
});

test("a key's calls belong to its tenant", async () => {
  for (const tenant of ["anna", "bert"] as const) {
    const { id } = await clientOf(keys[tenant]).chat.completions.create({
      model: MODEL,
      messages: MESSAGES,
      max_tokens: 2,
    });
    expect(await observer.recordedEnd(MODEL, tenant, id.replace("chatcmpl-", ""))).toBe("completed");
  }
});

test("a tenant neither sees nor touches programs and calls of another one", async () => {
  const headers = { "Autellix-Program-Id": "mine" };
  const stream = await clientOf(keys.anna).chat.completions.create(
    { model: MODEL, messages: MESSAGES, max_tokens: 5_000, stream: true },
    { headers },
  );
  const chunks = stream[Symbol.asyncIterator]();
  const first = await chunks.next();
  const callId = (first.value as OpenAI.ChatCompletionChunk).id;

  expect(await as(keys.bert, "GET", "/v1/programs/mine")).toEqual({ status: 404, code: "not_found" });
  expect(await as(keys.bert, "DELETE", "/v1/programs/mine?cancel=true")).toEqual({ status: 404, code: "not_found" });
  expect(await as(keys.bert, "DELETE", `/v1/calls/${callId}`)).toEqual({ status: 404, code: "not_found" });
  expect((await chunks.next()).done, "it goes on").toBe(false);

  expect(await as(keys.anna, "GET", "/v1/programs/mine")).toEqual({ status: 200 });
  expect(await as(keys.anna, "DELETE", `/v1/calls/${callId}`)).toEqual({ status: 200 });
  const bare = callId.replace("chatcmpl-", "");
  await expect.poll(() => observer.recordedEnd(MODEL, "anna", bare), SETTLE).toBe("cancelled:cancelled");
  stream.controller.abort();
});

test("a key is in no log line", async () => {
  const logs = await stack.logs();
  for (const key of Object.values(keys)) expect(logs).not.toContain(key);
});
