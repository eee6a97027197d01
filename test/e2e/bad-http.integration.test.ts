/**
 * What a careless or hostile HTTP client may send: it gets OpenAI's error shape with a stable code, and nobody else
 * notices. The simulated engine gives the call beside it any length.
 */
import { connect, type Socket } from "node:net";
import { errorTable, isErrorCode } from "@autellix/protocol";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Observer, openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const MODEL = "tiny";
const MB = 1024 * 1024;
const SETTLE = { timeout: 20_000, interval: 20 };
const HELLO = [{ role: "user", content: "Hello" }];
const WHOLE = { model: MODEL, messages: HELLO, max_tokens: 2 };
const JSON_TYPE = { "content-type": "application/json" };

let stack: TestStack;
let observer: Observer;
let url: string;
let pids: string;
let neighbour: { chunks: number; ended: Promise<string>; abort(): void };

beforeAll(async () => {
  stack = await startTestStack({ args: ["--engine", "simulated"] });
  observer = await openObserver(stack.natsUrl);
  url = stack.urls[0] ?? "";
  pids = JSON.stringify(stack.processes());
  neighbour = await openNeighbour();
});

afterAll(async () => {
  neighbour?.abort();
  await observer?.close();
  await stack?.stop();
});

/** A call that streams all the while. */
async function openNeighbour(): Promise<typeof neighbour> {
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  const stream = await openai.chat.completions.create({
    model: MODEL,
    messages: [{ role: "user", content: "Beside all the others" }],
    max_tokens: 7_500,
    stream: true,
  });
  const opened = { chunks: 0, ended: Promise.resolve(""), abort: () => stream.controller.abort() };
  opened.ended = (async () => {
    for await (const _ of stream) opened.chunks++;
    return "ended";
  })().catch((error: unknown) => `failed: ${error}`);
  await vi.waitUntil(() => opened.chunks > 2, SETTLE);
  return opened;
}

interface Refusal {
  status: number;
  headers: Headers;
  code: string;
  param: string | null;
  message: string;
}

/** @throws when the answer is no error of OpenAI's shape with a code of our table and its HTTP status. */
async function refusalOf(response: Response): Promise<Refusal> {
  const text = await response.text();
  const { error } = JSON.parse(text) as {
    error: { message: string; type: string; param: string | null; code: string };
  };
  expect(Object.keys(error).sort(), text).toEqual(["code", "message", "param", "type"]);
  const { code, param, message } = error;
  if (!isErrorCode(code)) throw new Error(`no code of ours: ${text}`);
  expect([response.status, error.type]).toEqual([errorTable[code].http, errorTable[code].type]);
  expect(message).toMatch(/\w+ \w+/);
  expect(text.length, "it repeats nothing of what was sent").toBeLessThan(1_000);
  return { status: response.status, headers: response.headers, code, param, message };
}

async function post(body: unknown, headers: Record<string, string> = {}, path = "/v1/chat/completions") {
  const bytes = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  return await fetch(url + path, { method: "POST", headers: { ...JSON_TYPE, ...headers }, body: bytes });
}

/** Sends bytes as they are. @returns all that comes back until the server closes, or `until` appears. */
async function raw(text: string | Buffer, until = /(?!)/): Promise<string> {
  const { socket, received } = dial();
  socket.write(text);
  await vi.waitUntil(() => socket.closed || until.test(received()), SETTLE);
  socket.destroy();
  return received();
}

function dial(): { socket: Socket; received(): string } {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  socket.on("data", (bytes) => {
    text += bytes.toString("latin1");
  });
  socket.on("error", () => socket.destroy()); // a reset is a way to end, too
  return { socket, received: () => text };
}

describe("a body", () => {
  const many = (text: string, times: number) => text.repeat(times);
  const message = (fields: object) => ({ ...WHOLE, messages: [fields] });

  const refused: [string, unknown, string, string | null][] = [
    ["that is empty", "", "invalid_json", null],
    ["that is cut short", '{"model":"tiny","messages":[', "invalid_json", null],
    ["that is no JSON", "model=tiny", "invalid_json", null],
    ["that is not UTF-8", Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), "invalid_json", null],
    ["that is a number", "7", "invalid_request", null],
    ["that is a list", "[]", "invalid_request", null],
    ["that is null", "null", "invalid_request", null],
    ["without a model", { messages: HELLO }, "invalid_request", "model"],
    ["with a number as model", { ...WHOLE, model: 7 }, "invalid_request", "model"],
    ["with an unknown model", { ...WHOLE, model: "gpt-none" }, "model_not_found", "model"],
    ["with a model of odd characters", { ...WHOLE, model: "../../x\u0000*" }, "model_not_found", "model"],
    ["with a long model", { ...WHOLE, model: many("m", 100_000) }, "model_not_found", "model"],
    ["without messages", { model: MODEL }, "invalid_request", "messages"],
    ["with no messages", { ...WHOLE, messages: [] }, "invalid_request", "messages"],
    ["with a text as messages", { ...WHOLE, messages: "Hello" }, "invalid_request", "messages"],
    ["with null as message", { ...WHOLE, messages: [null] }, "invalid_request", "messages[0]"],
    ["with an unknown role", message({ role: "boss", content: "x" }), "invalid_request", "messages[0].role"],
    ["with a number as content", message({ role: "user", content: 7 }), "invalid_request", "messages[0].content"],
    ["with no content", message({ role: "user" }), "invalid_request", "messages[0].content"],
    ["with too many messages", { ...WHOLE, messages: Array(20_000).fill(HELLO[0]) }, "invalid_request", "messages"],
    ["with max_tokens below 0", { ...WHOLE, max_tokens: -1 }, "invalid_request", "max_tokens"],
    ["with max_tokens 0", { ...WHOLE, max_tokens: 0 }, "invalid_request", "max_tokens"],
    ["with half a token", { ...WHOLE, max_tokens: 0.5 }, "invalid_request", "max_tokens"],
    ["with max_tokens as text", { ...WHOLE, max_tokens: "9" }, "invalid_request", "max_tokens"],
    ["with max_tokens beyond 2^53", { ...WHOLE, max_tokens: 1e300 }, "invalid_request", "max_tokens"],
    [
      "with max_tokens beyond all numbers",
      `{"model":"tiny","messages":[],"max_tokens":1e999}`,
      "invalid_request",
      "messages",
    ],
    ["with a temperature below 0", { ...WHOLE, temperature: -0.1 }, "invalid_request", "temperature"],
    ["with a temperature as list", { ...WHOLE, temperature: [1] }, "invalid_request", "temperature"],
    ["with top_p above 1", { ...WHOLE, top_p: 1.5 }, "invalid_request", "top_p"],
    ["with half a seed", { ...WHOLE, seed: 0.5 }, "invalid_request", "seed"],
    ["with stream as text", { ...WHOLE, stream: "yes" }, "invalid_request", "stream"],
    ["with stream_options as text", { ...WHOLE, stream_options: "yes" }, "invalid_request", "stream_options"],
    ["with too many stops", { ...WHOLE, stop: ["a", "b", "c", "d", "e"] }, "invalid_request", "stop"],
    ["with a long stop", { ...WHOLE, stop: many("s", 5_000) }, "invalid_request", "stop"],
    ["with metadata as list", { ...WHOLE, metadata: [] }, "invalid_request", "metadata"],
    ["with n 2", { ...WHOLE, n: 2 }, "unsupported_parameter", "n"],
    ["with a huge parameter name", { ...WHOLE, [many("p", 5_000)]: 1 }, "unsupported_parameter", many("p", 100)],
    ["with __proto__", '{"model":"tiny","messages":[],"__proto__":{"x":1}}', "invalid_request", "messages"],
    [
      "nested deeply",
      `{"model":"tiny","messages":${many("[", 100_000)}${many("]", 100_000)}}`,
      "invalid_request",
      "messages",
    ],
    ["nested deeply and cut short", `{"messages":${many('{"a":', 100_000)}`, "invalid_json", null],
    [
      "with a program id of control characters",
      { ...WHOLE, metadata: { autellix_program_id: "a\nb" } },
      "invalid_request",
      "metadata.autellix_program_id",
    ],
  ];

  for (const [name, body, code, param] of refused) {
    test(`${name} is refused as ${code}`, async () => {
      expect(await refusalOf(await post(body))).toMatchObject({ code, param });
    });
  }

  test("above the limit is refused, announced, streamed in chunks, or sent without a word", async () => {
    // The client is still sending when it is refused: it must see the answer, not a broken connection.
    for (const megabytes of [9, 40, 9, 40]) {
      const large = JSON.stringify({ ...WHOLE, metadata: { text: "x".repeat(megabytes * MB) } });
      expect((await refusalOf(await post(large))).code).toBe("body_too_large");
      expect((await refusalOf(await post(large, { "content-type": "text/plain" }))).code).toBe(
        "unsupported_media_type",
      );
      expect((await refusalOf(await post(large, {}, "/v1/models"))).code).toBe("method_not_allowed");
    }
    const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
    const chunk = `100000\r\n${"x".repeat(MB)}\r\n`;
    const chunked = await raw(`${head}transfer-encoding: chunked\r\n\r\n${chunk.repeat(9)}0\r\n\r\n`, /body_too_large/);
    expect(chunked).toMatch(/^HTTP\/1\.1 413 /);
    expect(await raw(`${head}content-length: 99999999999\r\n\r\n`, /body_too_large/)).toMatch(/^HTTP\/1\.1 413 /);
  });

  test("of another content type is refused, on any path", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]) {
      expect((await refusalOf(await post(WHOLE, { "content-type": type }))).code).toBe("unsupported_media_type");
      const programs = await post({}, { "content-type": type }, "/v1/programs");
      expect((await refusalOf(programs)).code).toBe("unsupported_media_type");
    }
    expect((await post(WHOLE, { "content-type": "application/json; charset=utf-8" })).status).toBe(200);
  });
});

describe("a prompt longer than the context", () => {
  const messages = [{ role: "user", content: "word ".repeat(20_000) }];

  for (const stream of [false, true]) {
    test(`is refused with 400, ${stream ? "streamed" : "whole"}`, async () => {
      const refusal = await refusalOf(await post({ model: MODEL, messages, stream }));
      expect(refusal).toMatchObject({ status: 400, code: "context_length_exceeded" });
      expect(refusal.message).toMatch(/\d+ tokens/);
    });
  }
});

describe("a body above the payload limit of NATS", () => {
  const metadata = { text: "x".repeat(3 * MB) };
  const none = () => expect.poll(() => observer.storedObjects(), SETTLE).toBe(0);

  test("is answered, whole and streamed, and its object is deleted", async () => {
    const whole = await post({ ...WHOLE, metadata });
    expect([whole.status, await whole.json()]).toMatchObject([200, { usage: { completion_tokens: 2 } }]);
    const streamed = await post({ ...WHOLE, metadata, stream: true });
    expect(await streamed.text()).toMatch(/data: \[DONE\]\n\n$/);
    await none();
  });

  test("is refused when its prompt is too long, and its object is deleted", async () => {
    const messages = [{ role: "user", content: "word ".repeat(600_000) }];
    expect((await refusalOf(await post({ model: MODEL, messages }))).code).toBe("context_length_exceeded");
    await none();
  });

  test("is cancelled when its client leaves, and its object is deleted", async () => {
    const abort = new AbortController();
    const body = JSON.stringify({ ...WHOLE, max_tokens: 7_000, metadata, stream: true });
    const path = `${url}/v1/chat/completions`;
    const response = await fetch(path, { method: "POST", headers: JSON_TYPE, body, signal: abort.signal });
    const callId = response.headers.get("x-autellix-call-id") ?? "";
    await response.body?.getReader().read();
    abort.abort();
    await expect.poll(() => observer.recordedEnd(MODEL, "default", callId), SETTLE).toBe("cancelled:cancelled");
    await none();
  });
});

describe("a path", () => {
  test("that does not exist, or not for this method, is told so", async () => {
    for (const path of ["/", "/v1", "/v1/completions", "/v1/chat", "/v1/../etc/passwd", "/v1/chat/completions/x"]) {
      expect((await refusalOf(await fetch(url + path))).code).toBe("not_found");
    }
    for (const [method, path] of [
      ["GET", "/v1/chat/completions"],
      ["PUT", "/v1/chat/completions"],
      ["OPTIONS", "/v1/chat/completions"],
      ["POST", "/v1/models"],
      ["PATCH", "/v1/programs/x"],
      ["GET", "/v1/calls/x"],
      ["POST", "/healthz"],
    ] as const) {
      const refusal = await refusalOf(await fetch(url + path, { method }));
      expect(refusal.code).toBe("method_not_allowed");
      expect(refusal.headers.get("allow")).toMatch(/GET|POST|DELETE/);
    }
  });

  test("with an id that cannot be one is refused", async () => {
    const refused: [string, string][] = [
      ["/v1/programs/%00", "invalid_request"],
      ["/v1/programs/a%0Ab", "invalid_request"],
      ["/v1/programs/%20a", "invalid_request"],
      ["/v1/programs/%E0%A4%A", "invalid_request"],
      [`/v1/programs/${"p".repeat(257)}`, "invalid_request"],
      ["/v1/programs/nobody-knows", "not_found"],
      ["/v1/models/nobody/knows", "model_not_found"],
    ];
    for (const [path, code] of refused)
      expect([path, (await refusalOf(await fetch(url + path))).code]).toEqual([path, code]);
    const long = await refusalOf(await fetch(`${url}/v1/programs/${"p".repeat(9_000)}`));
    expect(long.code).toMatch(/invalid_request|not_found/);
    for (const id of ["a.b", "*", "%3E", "x".repeat(65), "nobody-knows"]) {
      const response = await fetch(`${url}/v1/calls/${id}`, { method: "DELETE" });
      expect((await refusalOf(response)).code).toBe("not_found");
    }
    expect((await refusalOf(await fetch(`${url}/v1/programs/x?cancel=maybe`, { method: "DELETE" }))).param).toBe(
      "cancel",
    );
  });

  test("takes programs of odd but valid ids", async () => {
    for (const id of ["a/b c", "Ωμέγα 😀", "*", ">", "$KV.x", "a.b", "p".repeat(256), "__proto__", "constructor"]) {
      expect((await post({ id }, {}, "/v1/programs")).status).toBe(200);
      const view = await fetch(`${url}/v1/programs/${encodeURIComponent(id)}`);
      expect([view.status, await view.json()]).toMatchObject([200, { id, state: "open" }]);
    }
    for (const id of [7, "", " a", "a\u0000", "p".repeat(257), [], {}]) {
      expect(await refusalOf(await post({ id }, {}, "/v1/programs"))).toMatchObject({
        code: "invalid_request",
        param: "id",
      });
    }
  });
});

describe("a header", () => {
  test("of ours with a value that cannot be is refused by its name", async () => {
    const refused: [string, string][] = [
      ["Autellix-Program-Id", "p".repeat(257)],
      ["Autellix-Program-Id", "a\tb"],
      ["Autellix-Thread-Id", "t".repeat(257)],
      ["Autellix-Parent-Call-Ids", "a.b"],
      ["Autellix-Parent-Call-Ids", Array(101).fill("x").join(",")],
      ["Autellix-Deadline-Ms", "0"],
      ["Autellix-Deadline-Ms", "-1"],
      ["Autellix-Deadline-Ms", "1e3"],
      ["Autellix-Deadline-Ms", "9".repeat(400)],
    ];
    for (const [name, value] of refused) {
      expect(await refusalOf(await post(WHOLE, { [name]: value }))).toMatchObject({
        code: "invalid_request",
        param: name,
      });
    }
  });

  test("of ours that only a frontend or an agent may set changes nothing", async () => {
    const foreign = {
      "Autellix-Reply": "$KV.autellix_pools.lease.tiny",
      "Autellix-Body-Object": "nowhere",
      "Autellix-Body-Bytes": "1",
      "Autellix-Kind": "outcome",
      "Autellix-Status": "completed",
      "Autellix-Prompt-Tokens": "99999999",
      "Nats-Msg-Id": "1",
      "Nats-Expected-Last-Subject-Sequence": "9",
      traceparent: "nonsense",
    };
    const response = await post(WHOLE, foreign);
    expect([response.status, await response.json()]).toMatchObject([200, { usage: { completion_tokens: 2 } }]);
  });

  test("that breaks out of its line does not reach the queue", async () => {
    const body = JSON.stringify(WHOLE);
    const length = `content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n`;
    const request = (line: string) =>
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n${length}${line}\r\n\r\n${body}`;
    for (const line of [
      "Autellix-Program-Id: a\nNats-Msg-Id: 1",
      "Autellix-Program-Id: a\rb",
      "Autellix-Program-Id: a\0b",
    ]) {
      const answer = await raw(request(line));
      expect(answer).toMatch(/^HTTP\/1\.1 (400|200) /);
      if (answer.startsWith("HTTP/1.1 400")) expect(answer).toMatch(/"code":"invalid_request"/);
    }
    expect(await raw(request("Autellix-Thread-Id: fine"))).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("that is too long, and what is no HTTP, is answered in the same shape", async () => {
    const host = "GET /v1/models HTTP/1.1\r\nhost: x\r\n";
    const nonsense = [
      `${host}x: ${"y".repeat(100_000)}\r\n\r\n`,
      `GET /${"y".repeat(100_000)} HTTP/1.1\r\nhost: x\r\n\r\n`,
      "EHLO example.org\r\n\r\n",
      `${host}content-length: -5\r\n\r\n`,
      `${host}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n`,
      Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
    ];
    for (const bytes of nonsense) {
      const answer = await raw(bytes);
      expect(answer).toMatch(/^HTTP\/1\.1 400 /);
      expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toMatchObject({ error: { code: "invalid_request" } });
    }
  });
});

describe("a client that leaves in the middle of its request", () => {
  test("leaves nothing in the queue", async () => {
    const before = (await observer.bus.jsm.streams.info("AUTELLIX_CALLS")).state.last_seq;
    const head =
      "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n";
    const texts = ["POST /v1/ch", head.slice(0, 60), head, `${head}{"model":"tiny","messages":[{"role":"us`];
    for (const text of texts) {
      const { socket } = dial();
      await new Promise((sent) => socket.write(text, sent));
      socket.destroy();
    }
    // Behind them on the same server: when it is answered, they have been seen.
    expect((await post(WHOLE)).status).toBe(200);
    const { last_seq } = (await observer.bus.jsm.streams.info("AUTELLIX_CALLS")).state;
    expect(last_seq - before).toBe(1);
  });

  test("and pipelines requests: each is answered in order", async () => {
    const body = JSON.stringify(WHOLE);
    const bad = "GET /nope HTTP/1.1\r\nhost: x\r\n\r\n";
    const good = `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    const last = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const answers = await raw(bad + good + bad + last);
    expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
      "404",
      "200",
      "404",
      "200",
    ]);
  });
});

test("after all that the call beside it streams, nothing has crashed and nothing is left", async () => {
  const { chunks } = neighbour;
  await expect.poll(() => neighbour.chunks, SETTLE).toBeGreaterThan(chunks);
  expect((await post(WHOLE)).status).toBe(200);
  neighbour.abort();
  await neighbour.ended;
  await expect.poll(() => observer.queuedCalls(), SETTLE).toBe(0);
  await expect.poll(async () => (await observer.report("tiny-0")).calls, SETTLE).toEqual([]);
  expect(await observer.storedObjects()).toBe(0);
  expect(JSON.stringify(stack.processes())).toBe(pids);
  expect(await stack.logs()).not.toMatch(/"level":"(error|fatal)"/);
});
