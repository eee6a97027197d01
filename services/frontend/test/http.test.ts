import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger } from "@autellix/runtime";
import type { FastifyInstance } from "fastify";
import { afterEach, expect, test, vi } from "vitest";
import { configSchema, isLoopback } from "../src/config.ts";
import type { InquiryResult, ProgramControl, Submission } from "../src/events.ts";
import { createServer, type Desk, listen } from "../src/http/server.ts";
import { type KeyRing, keyRing, openRing } from "../src/keys.ts";
import { defaultLimits, type Limits } from "../src/limits.ts";
import { completed } from "./driver.ts";

const log = createLogger({ service: "test", level: "silent" });
const servers: FastifyInstance[] = [];
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.server.closeAllConnections();
    await server.close();
  }
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** Takes what the routes let through; each call is answered at once. */
class TestDesk implements Desk {
  readonly submitted: Submission[] = [];
  readonly controls: { tenant: string; message: ProgramControl }[] = [];
  readonly cancelled: { tenant: string; callId: string }[] = [];
  result: InquiryResult = { kind: "failed", failure: { code: "not_found", message: "no pool knows this program" } };

  submit(call: Submission, respond: Parameters<Desk["submit"]>[1]): void {
    this.submitted.push(call);
    const response = respond({ buffered: () => {}, gone: () => {} });
    const { response: completion } = completed("Hi", call.callId);
    if (!completion) throw new Error("a completed outcome has a response");
    if (!call.stream) {
      response.whole(completion);
      return;
    }
    response.open();
    response.text("Hi");
    response.finish("stop", completion.usage, completion.autellix);
  }

  async cancelCall(tenant: string, callId: string): Promise<InquiryResult> {
    this.cancelled.push({ tenant, callId });
    return { kind: "call", state: "pending" };
  }

  async program(tenant: string, message: ProgramControl): Promise<InquiryResult> {
    this.controls.push({ tenant, message });
    return this.result;
  }

  models(): string[] {
    return ["m", "hf:user/model:Q4"];
  }

  unreadyReason(): string | undefined {
    return "no engine is up";
  }
}

async function start(options: { keys?: KeyRing; limits?: Partial<Limits> } = {}) {
  const desk = new TestDesk();
  const limits = { ...defaultLimits, ...options.limits };
  const app = createServer({ desk, keys: options.keys ?? openRing, limits, log });
  servers.push(app);
  const port = await listen(app, "127.0.0.1", 0);
  const url = `http://127.0.0.1:${port}`;
  const post = async (body: string | Uint8Array, headers: Record<string, string> = {}) =>
    await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      body,
      headers: { "content-type": "application/json", ...headers },
    });
  return { desk, url, port, post };
}

const messages = [{ role: "user", content: "Where?" }];
const valid = JSON.stringify({ model: "m", messages });

async function codeOf(response: Response): Promise<[number, unknown]> {
  const { error } = (await response.json()) as { error: { code: string; message: string; type: string } };
  expect(error.message).not.toBe("");
  expect(error.type).toMatch(/_error$/);
  return [response.status, error.code];
}

/** What a socket that sends these bytes reads until the server closes it. */
async function raw(port: number, bytes: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
    socket.on("data", (piece) => {
      text += piece.toString();
    });
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });
}

test("a call arrives with everything that its headers say", async () => {
  const { desk, post } = await start();
  const body = JSON.stringify({ model: "m", messages, max_tokens: 7, stream: false });
  const response = await post(body, {
    "autellix-program-id": "my program",
    "autellix-thread-id": "t1",
    "autellix-parent-call-ids": "chatcmpl-a, b",
    "autellix-deadline-ms": "5000",
    traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
  });
  const [call] = desk.submitted;
  expect(call).toMatchObject({
    tenant: "default",
    program: "my program",
    thread: "t1",
    parents: ["a", "b"],
    deadlineMs: 5_000,
    trace: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
    model: "m",
    completionTokensMax: 7,
    promptTokens: 2,
  });
  expect(Buffer.from(call?.body ?? []).toString()).toBe(body);
  expect(response.headers.get("x-autellix-call-id")).toBe(call?.callId);
  expect(await response.json()).toMatchObject({ id: `chatcmpl-${call?.callId}`, autellix: { engine: "e1" } });
});

test("the prompt is estimated from what is text in it, tools and formats too, and not from images", async () => {
  const { desk, post } = await start();
  const call = { id: "1", type: "function", function: { name: "f", arguments: "a".repeat(399) } };
  const image = { type: "image_url", image_url: { url: `data:,${"A".repeat(4_000)}` } };
  const bodies = [
    { messages: [...messages, { role: "user", content: [image, { type: "text", text: "b".repeat(394) }] }] },
    { messages: [...messages, { role: "assistant", content: null, tool_calls: [call] }] },
    { messages, tools: [{ type: "function", function: { name: "f", description: "c".repeat(4_000) } }] },
    {
      messages,
      response_format: { type: "json_schema", json_schema: { name: "s", schema: { $comment: "d".repeat(4_000) } } },
    },
  ];
  for (const body of bodies) await post(JSON.stringify({ model: "m", ...body }));
  const [image100 = 0, call100 = 0, tools1000 = 0, format1000 = 0] = desk.submitted.map((call) => call.promptTokens);
  expect([image100, call100]).toEqual([100, 102]);
  for (const tokens of [tools1000, format1000]) expect(tokens > 1_000 && tokens < 1_050).toBe(true);
});

test("the program may be named in the body, and the header wins", async () => {
  const { desk, post } = await start();
  const body = JSON.stringify({ model: "m", messages, metadata: { autellix_program_id: "body" } });
  await post(body);
  await post(body, { "autellix-program-id": Buffer.from("Größe").toString("latin1") });
  await post(valid);
  expect(desk.submitted.map(({ program }) => program)).toEqual(["body", "Größe", undefined]);
});

test("a deadline beyond the lifetime of a call is cut to it", async () => {
  const { desk, post } = await start();
  await post(valid, { "autellix-deadline-ms": "99999999999" });
  expect(desk.submitted[0]?.deadlineMs).toBe(defaultLimits.callLifetimeMsMax);
});

test("a stream has OpenAI's chunks, and the extension on the last", async () => {
  const { post } = await start();
  const body = { model: "m", messages, stream: true, stream_options: { include_usage: true } };
  const response = await post(JSON.stringify(body));
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const frames = (await response.text()).split("\n\n").filter((frame) => frame !== "");
  expect(frames.pop()).toBe("data: [DONE]");
  const chunks = frames.map((frame) => JSON.parse(frame.slice("data: ".length)));
  expect(new Set(chunks.map(({ id, object, model }) => `${id} ${object} ${model}`)).size).toBe(1);
  expect(chunks.map(({ choices, usage }) => [choices[0]?.delta, choices[0]?.finish_reason, usage])).toEqual([
    [{ role: "assistant", content: "" }, null, null],
    [{ content: "Hi" }, null, null],
    [{}, "stop", null],
    [undefined, undefined, { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 }],
  ]);
  expect(chunks[2].autellix).toMatchObject({ engine: "e1" });
});

test.each<[string, string | Uint8Array, Record<string, string>, [number, string]]>([
  ["no JSON", "{", {}, [400, "invalid_json"]],
  ["nothing", "", {}, [400, "invalid_json"]],
  ["msgpack", new Uint8Array([0x81, 0xa1, 0x61, 0x01]), {}, [400, "invalid_json"]],
  ["a list", "[]", {}, [400, "invalid_request"]],
  ["null", "null", {}, [400, "invalid_request"]],
  ["no model", JSON.stringify({ messages }), {}, [400, "invalid_request"]],
  ["empty messages", JSON.stringify({ model: "m", messages: [] }), {}, [400, "invalid_request"]],
  ["a wrong type", JSON.stringify({ model: "m", messages, temperature: "hot" }), {}, [400, "invalid_request"]],
  ["negative tokens", JSON.stringify({ model: "m", messages, max_tokens: -1 }), {}, [400, "invalid_request"]],
  [
    "absurd numbers",
    `{"model":"m","messages":[{"role":"user","content":""}],"max_tokens":1e999}`,
    {},
    [400, "invalid_request"],
  ],
  ["deep nesting", "[".repeat(1_000_000), {}, [400, "invalid_json"]],
  ["n = 2", JSON.stringify({ model: "m", messages, n: 2 }), {}, [400, "unsupported_parameter"]],
  ["a tool without a type", JSON.stringify({ model: "m", messages, tools: [{}] }), {}, [400, "invalid_request"]],
  [
    "a wrong program in the body",
    JSON.stringify({ model: "m", messages, metadata: { autellix_program_id: 1 } }),
    {},
    [400, "invalid_request"],
  ],
  ["a long program id", valid, { "autellix-program-id": "x".repeat(257) }, [400, "invalid_request"]],
  [
    "a control character in the program id",
    JSON.stringify({ model: "m", messages, metadata: { autellix_program_id: "a\nNats-X: y" } }),
    {},
    [400, "invalid_request"],
  ],
  ["a deadline of 0", valid, { "autellix-deadline-ms": "0" }, [400, "invalid_request"]],
  ["a deadline in words", valid, { "autellix-deadline-ms": "soon" }, [400, "invalid_request"]],
  ["a parent with a dot", valid, { "autellix-parent-call-ids": "a.b" }, [400, "invalid_request"]],
  ["too many parents", valid, { "autellix-parent-call-ids": "a,".repeat(101) }, [400, "invalid_request"]],
  ["text", valid, { "content-type": "text/plain" }, [415, "unsupported_media_type"]],
  ["a form", valid, { "content-type": "multipart/form-data" }, [415, "unsupported_media_type"]],
  ["a compressed body", valid, { "content-encoding": "gzip" }, [415, "unsupported_media_type"]],
  ["a large body", `"${"x".repeat(2_000)}"`, {}, [413, "body_too_large"]],
])("%s is refused in OpenAI's format", async (_name, body, headers, expected) => {
  const large = typeof body === "string" && body.length > 3_000;
  const { desk, post } = await start({ limits: { bodyBytesMax: large ? 2_000_000 : 2_000 } });
  expect(await codeOf(await post(body, headers))).toEqual(expected);
  expect(desk.submitted).toEqual([]);
});

test.each<[string, string, [number, string]]>([
  ["GET", "/", [404, "not_found"]],
  ["GET", "/v1/nothing", [404, "not_found"]],
  ["GET", "/v1/chat/completions", [405, "method_not_allowed"]],
  ["PUT", "/v1/programs/x", [405, "method_not_allowed"]],
  ["POST", "/healthz", [405, "method_not_allowed"]],
  ["GET", "/v1/models/other", [404, "model_not_found"]],
  ["GET", "/v1/programs/%00", [400, "invalid_request"]],
  ["GET", `/v1/programs/${"x".repeat(257)}`, [400, "invalid_request"]],
  ["GET", "/v1/programs/x", [404, "not_found"]],
  ["GET", "/v1/programs/%zz", [400, "invalid_request"]],
  ["DELETE", "/v1/programs/x?cancel=perhaps", [400, "invalid_request"]],
  ["DELETE", "/v1/calls/a.b", [404, "not_found"]],
])("%s %s is answered in OpenAI's format", async (method, path, expected) => {
  const { url } = await start();
  expect(await codeOf(await fetch(url + path, { method }))).toEqual(expected);
});

test("what is no HTTP, and a request that does not arrive, are answered too", async () => {
  const { port } = await start({ limits: { requestMsMax: 300 } });
  expect(await raw(port, "nonsense\r\n\r\n")).toMatch(/^HTTP\/1.1 400 .*"code":"invalid_request"/s);
  const head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
  expect(await raw(port, `${head}content-length: 100\r\n\r\n{`)).toMatch(/^HTTP\/1.1 408 .*"code":"request_timeout"/s);
  expect(await raw(port, `${head}x: ${"y".repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 400 .*too large/s);
  const ask = (fields: string) => raw(port, `GET /healthz HTTP/1.1\r\n${fields}connection: close\r\n\r\n`);
  expect(await ask("")).toMatch(/^HTTP\/1.1 400 .*"code":"invalid_request"/s);
  expect(await ask("host: x\r\nexpect: wonders\r\n")).toMatch(/^HTTP\/1.1 200 /);
});

test("a program or thread that is named twice is refused, parents add up", async () => {
  const { desk, port } = await start();
  const post = (fields: string) => {
    const head = `host: x\r\ncontent-type: application/json\r\ncontent-length: ${valid.length}\r\n${fields}`;
    return raw(port, `POST /v1/chat/completions HTTP/1.1\r\n${head}connection: close\r\n\r\n${valid}`);
  };
  for (const name of ["autellix-program-id", "autellix-thread-id"])
    expect(await post(`${name}: a\r\n${name}: b\r\n`)).toMatch(/^HTTP\/1.1 400 .*more than once/s);
  expect(await post("autellix-parent-call-ids: a\r\nautellix-parent-call-ids: b\r\n")).toMatch(/^HTTP\/1.1 200 /);
  expect(desk.submitted.map(({ parents }) => parents)).toEqual([["a", "b"]]);
});

test("models are listed and looked up, also with a slash in the name", async () => {
  const { url } = await start();
  const list = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(list.data.map(({ id }) => id)).toEqual(["m", "hf:user/model:Q4"]);
  for (const path of ["hf:user/model:Q4", encodeURIComponent("hf:user/model:Q4")]) {
    expect(await (await fetch(`${url}/v1/models/${path}`)).json()).toMatchObject({ id: "hf:user/model:Q4" });
  }
});

test("health and readiness need no key and tell different things", async () => {
  const { url } = await start();
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const ready = await fetch(`${url}/readyz`);
  expect([ready.status, await ready.json()]).toEqual([503, { status: "unready", reason: "no engine is up" }]);
});

test("programs are started, read and ended, and calls cancelled, by what their paths say", async () => {
  const { desk, url } = await start();
  const json = { "content-type": "application/json" };
  await fetch(`${url}/v1/programs`, { method: "POST" });
  await fetch(`${url}/v1/programs`, { method: "POST", headers: json, body: "{}" });
  await fetch(`${url}/v1/programs`, { method: "POST", headers: json, body: `{"id":"a/b"}` });
  await fetch(`${url}/v1/programs/a%2Fb`);
  await fetch(`${url}/v1/programs/a%2Fb?cancel=true`, { method: "DELETE", headers: json });
  expect(desk.controls.map(({ message }) => message)).toEqual([
    { op: "program.start", program_id: expect.stringMatching(/^program-/) },
    { op: "program.start", program_id: expect.stringMatching(/^program-/) },
    { op: "program.start", program_id: "a/b" },
    { op: "program.read", program_id: "a/b" },
    { op: "program.end", program_id: "a/b", cancel: true },
  ]);
  const response = await fetch(`${url}/v1/calls/chatcmpl-c1`, { method: "DELETE" });
  expect(await response.json()).toEqual({ id: "c1", object: "call.cancelled", state: "pending" });
  expect(desk.cancelled).toEqual([{ tenant: "default", callId: "c1" }]);
});

test("a program request with a bad body is refused", async () => {
  const { url } = await start();
  for (const [body, code] of [
    ["{", "invalid_json"],
    ["[]", "invalid_request"],
    [`{"id":7}`, "invalid_request"],
    [`{"id":""}`, "invalid_request"],
  ]) {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${url}/v1/programs`, { method: "POST", headers, body: body ?? "" });
    expect(await codeOf(response)).toEqual([400, code]);
  }
});

test("keys decide the tenant, are read again when the file changes, and survive a broken file", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autellix-keys-"));
  cleanups.push(() => rm(folder, { recursive: true }));
  const file = join(folder, "keys.json");
  const entry = (tenant: string, key: string) => ({
    tenant,
    sha256: createHash("sha256").update(key).digest("hex"),
    created: "2026-01-01T00:00:00Z",
  });
  const write = (keys: unknown) => writeFile(file, JSON.stringify({ keys }));
  await write([entry("alice", "key-a")]);
  const keys = await keyRing(file, log, 20);
  cleanups.push(() => keys.stop());
  const { desk, url, post } = await start({ keys });

  expect(await codeOf(await post(valid))).toEqual([401, "invalid_api_key"]);
  expect(await codeOf(await post(valid, { authorization: "Bearer wrong" }))).toEqual([401, "invalid_api_key"]);
  expect(await codeOf(await post("{", { authorization: "Basic a" }))).toEqual([401, "invalid_api_key"]);
  for (const path of ["/v1/models", "/%761/models", "/v1%2Fmodels", "/V1/models", "//v1/models", "/v1/programs/x"]) {
    expect(await codeOf(await fetch(url + path)), path).toEqual([401, "invalid_api_key"]);
  }
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect((await post(valid, { authorization: "Bearer key-a" })).status).toBe(200);
  expect(desk.submitted.map(({ tenant }) => tenant)).toEqual(["alice"]);

  await write([entry("alice", "key-a"), entry("bob", "key-b")]);
  await vi.waitUntil(async () => (await post(valid, { authorization: "Bearer key-b" })).status === 200, 10_000);
  expect(desk.submitted.at(-1)?.tenant).toBe("bob");

  const error = vi.spyOn(log, "error");
  await writeFile(file, "{");
  await vi.waitUntil(() => error.mock.calls.length > 0, 10_000);
  expect((await post(valid, { authorization: "Bearer key-a" })).status).toBe(200);
});

test("a key file that cannot be used stops the start with one line", async () => {
  await expect(keyRing("/nonexistent/keys.json", log)).rejects.toThrow(/the key file .* cannot be used/);
});

test("without a key file the host must be loopback", () => {
  expect(configSchema.safeParse({ AUTELLIX_HOST: "0.0.0.0" }).success).toBe(false);
  expect(configSchema.safeParse({ AUTELLIX_HOST: "0.0.0.0", AUTELLIX_API_KEYS_FILE: "f" }).success).toBe(true);
  expect(configSchema.parse({ AUTELLIX_OPEN_CALLS_MAX: "7" }).limits.openCallsMax).toBe(7);
  expect(["127.0.0.1", "127.1.2.3", "::1", "localhost"].every(isLoopback)).toBe(true);
  expect(["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.com"].some(isLoopback)).toBe(false);
});

test("a busy port is one readable line", async () => {
  const { port } = await start();
  const app = createServer({ desk: new TestDesk(), keys: openRing, limits: defaultLimits, log });
  servers.push(app);
  await expect(listen(app, "127.0.0.1", port)).rejects.toThrow(
    `cannot listen on 127.0.0.1:${port}: the port is in use`,
  );
});
