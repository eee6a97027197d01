import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { encode, headers, type ProgramView, send, subjects } from "@autellix/protocol";
import { createLogger } from "@autellix/runtime";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { type Frontend, startFrontend } from "../src/frontend.ts";
import { defaultLimits, type Limits } from "../src/limits.ts";
import { completed, failed, idsOf } from "./driver.ts";
import { type Arrival, TestPool } from "./pool.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const log = createLogger({ service: "test", level: "silent" });
const messages = [{ role: "user" as const, content: "The capital of France?" }];

let nats: TestNats;
let pool: TestPool;
let frontend: Frontend;
let url: string;
let openai: OpenAI;
let pools = 0;
const fatal: unknown[] = [];

async function startOne(limits: Partial<Limits> = {}): Promise<Frontend> {
  const config = {
    natsUrl: nats.url,
    host: "127.0.0.1",
    port: 0,
    apiKeysFile: undefined,
    limits: { ...defaultLimits, drainMsMax: 500, ...limits },
  };
  return await startFrontend(config, { log, progress: () => {}, fail: (error) => fatal.push(error) });
}

async function use(limits: Partial<Limits> = {}): Promise<void> {
  await frontend?.stop();
  frontend = await startOne(limits);
  url = `http://127.0.0.1:${frontend.port}`;
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  await vi.waitUntil(async () => (await fetch(`${url}/readyz`)).ok, WAIT);
}

beforeAll(async () => {
  nats = await startTestNats();
});
beforeEach(async () => {
  // A pool of its own for each test: nothing that one leaves on the queue reaches the next.
  pool = await TestPool.start(nats.url, `p${++pools}`);
  await use();
});
afterEach(async () => {
  await frontend.stop();
  await pool.stop();
  expect(fatal.splice(0)).toEqual([]);
});
afterAll(async () => {
  await nats?.stop();
});

/** A client that reads only when told. */
async function openStream(): Promise<{ http: ClientRequest; response: Promise<IncomingMessage> }> {
  const http = request(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
  });
  const response = new Promise<IncomingMessage>((resolve, reject) => http.on("response", resolve).on("error", reject));
  response.catch(() => {}); // a test that destroys the request does not read it
  http.end(JSON.stringify({ model: "m", messages, stream: true }));
  return { http, response };
}

/** The text of a stream, and its last frame. */
function textOf(sse: string): { text: string; last: string | undefined } {
  const frames = sse.split("\n\n").filter((frame) => frame.startsWith("data: "));
  const text = frames
    .filter((frame) => frame !== "data: [DONE]")
    .map((frame) => JSON.parse(frame.slice(6)).choices?.[0]?.delta.content ?? "")
    .join("");
  return { text, last: frames.at(-1) };
}

test("the openai package reads a stream, with usage", async () => {
  const stream = await Promise.all([
    openai.chat.completions.create(
      { model: "m", messages, stream: true, stream_options: { include_usage: true } },
      { headers: { [headers.program]: "capitals", [headers.deadlineMs]: "60000" } },
    ),
    pool.next().then(async (call) => {
      expect(call.request).toMatchObject({ model: "m", messages });
      expect(call.field(headers.program)).toBe("capitals");
      expect(call.field(headers.deadlineMs)).toBe("60000");
      expect(call.field(headers.encoding)).toBe("msgpack");
      expect(call.reply).toMatch(/^autellix\.tokens\./);
      pool.tokens(call, 0, "Pa");
      pool.tokens(call, 2, "ris");
      await pool.complete(call, "Paris.");
    }),
  ]).then(([first]) => first);
  let text = "";
  let usage: unknown;
  let reason: unknown;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  expect(text).toBe("Paris.");
  expect(reason).toBe("stop");
  expect(usage).toEqual({ prompt_tokens: 3, completion_tokens: 6, total_tokens: 9 });
});

test("the openai package reads a whole answer, with the extension", async () => {
  const answer = openai.chat.completions.create({ model: "m", messages });
  const call = await pool.next();
  expect(call.field(headers.program)).toBe(call.address.callId);
  await pool.complete(call, "Paris.");
  const completion = await answer;
  expect(completion.id).toBe(`chatcmpl-${call.address.callId}`);
  expect(completion.choices[0]?.message.content).toBe("Paris.");
  expect(completion).toMatchObject({ autellix: { call_id: call.address.callId, engine: "e1" } });
});

test("an error before the first token has its own status, streamed or not", async () => {
  for (const stream of [true, false]) {
    const answer = openai.chat.completions.create({ model: "m", messages, stream });
    const refused = expect(answer).rejects.toMatchObject({ status: 400, code: "context_length_exceeded" });
    await pool.end(await pool.next(), failed("context_length_exceeded"));
    await refused;
  }
});

test("an error after the first token ends the stream with an error", async () => {
  const answer = openai.chat.completions.create({ model: "m", messages, stream: true });
  const call = await pool.next();
  pool.tokens(call, 0, "Pa");
  const stream = await answer;
  const read = (async () => {
    for await (const _chunk of stream);
  })();
  const refused = expect(read).rejects.toMatchObject({ error: { code: "engine_error" } });
  await pool.end(call, failed("engine_error"));
  await refused;
});

test("a client that disconnects has its call cancelled, before and after the first token", async () => {
  pool.control = (control) => (control.op === "call.cancel" ? { ok: true, call: "pending" } : undefined);
  for (const started of [false, true]) {
    const { http, response } = await openStream();
    const call = await pool.next();
    if (started) {
      pool.tokens(call, 0, "Pa");
      await response;
    }
    http.destroy();
    const cancelled = () =>
      pool.controls.filter(({ control }) => "call_id" in control && control.call_id === call.address.callId);
    await vi.waitUntil(() => cancelled().length > 1, WAIT); // repeated as long as it is pending
    expect(cancelled()[0]).toMatchObject({ tenant: "default", control: { op: "call.cancel", cause: "client" } });
    await pool.end(call, failed("cancelled", "cancelled"));
    expect(await pool.have(call, 2)).toEqual({ state: "gone" });
  }
});

test("a call that is cancelled by its id ends with the error, and its client learns it", async () => {
  pool.control = () => ({ ok: true, call: "ended" });
  const answer = openai.chat.completions.create({ model: "m", messages });
  const refused = expect(answer).rejects.toMatchObject({ status: 499, code: "cancelled" });
  const call = await pool.next();
  const response = await fetch(`${url}/v1/calls/chatcmpl-${call.address.callId}`, { method: "DELETE" });
  expect(response.status).toBe(200);
  await refused;
  await vi.waitUntil(() => pool.controls.length > 0, WAIT);
  pool.control = () => ({ ok: true, call: "unknown" });
  expect((await fetch(`${url}/v1/calls/never`, { method: "DELETE" })).status).toBe(404);
});

test("a lost token is fetched from the agent, and a resumed attempt goes on from what the client has", async () => {
  const { response } = await openStream();
  const call = await pool.next();
  pool.answer = (question) =>
    question.kind === "tokens"
      ? { state: "known", epoch: 1, attempt: 1, index: question.from, count: 2, text: "ri", ids: idsOf("ri") }
      : undefined;
  pool.tokens(call, 0, "Pa");
  pool.tokens(call, 4, "s");
  await vi.waitFor(async () => expect(await pool.have(call, 1)).toMatchObject({ count: 5 }), WAIT);
  expect(await pool.have(call, 2)).toEqual({ state: "live", count: 5, ids: idsOf("Paris") });
  pool.tokens(call, 5, "XXX", 1);
  pool.tokens(call, 5, ".", 2);
  await pool.complete(call, "Paris.");
  let sse = "";
  for await (const piece of await response) sse += String(piece);
  expect(textOf(sse)).toEqual({ text: "Paris.", last: "data: [DONE]" });
});

test("an end that nobody told is found in the record", async () => {
  await use({ silenceMs: 200 });
  const answer = openai.chat.completions.create({ model: "m", messages });
  const call = await pool.next();
  await pool.store(call, completed("Paris.", call.address.callId));
  expect((await answer).choices[0]?.message.content).toBe("Paris.");
});

test("a stream that waits is opened and kept alive", async () => {
  await use({ sseHeadersAfterMs: 100, keepAliveMs: 100 });
  const { response } = await openStream();
  const call = await pool.next();
  let sse = "";
  for await (const piece of await response) {
    sse += String(piece);
    if (sse.includes(": waiting") && !sse.includes("Paris")) pool.tokens(call, 0, "Paris");
    if (sse.includes("Paris") && !sse.includes("engine_error")) void pool.end(call, failed("engine_error"));
  }
  expect(sse).toContain(": waiting\n\n");
  expect(textOf(sse).last).toBe("data: [DONE]");
  expect(sse).toContain('"code":"engine_error"');
});

const LARGE = "0123456789".repeat(500_000);
/** More than the kernel's buffers of a loopback connection take. */
const HUGE = "0123456789".repeat(1_200_000);

test("a slow client gets everything, and only 1 MB of it is held for it", async () => {
  const { response } = await openStream();
  const call = await pool.next();
  const count = 20_000;
  const from = (index: number) => {
    const text = HUGE.slice(index, index + count);
    return { index, count: text.length, text };
  };
  pool.answer = (question) =>
    question.kind === "tokens" ? { state: "known", epoch: 1, attempt: 1, ...from(question.from) } : undefined;
  const sendFrom = (index: number) => {
    const items = [{ call: call.key, attempt: 1, ...from(index) }];
    send(pool.bus, call.reply, { kind: "tokens", engine: "e1", epoch: 1, items });
  };
  sendFrom(0);
  const stream = await response;
  stream.pause();
  for (let index = count; index < HUGE.length; index += count) sendFrom(index);
  // Answered behind the tokens: the frontend has heard them all, and taken only the first of them.
  const have = await pool.have(call, 1);
  expect(have?.state === "live" && have.count < HUGE.length / 2).toBe(true);
  let sse = "";
  let end: Promise<void> | undefined;
  for await (const bytes of stream) {
    sse += String(bytes);
    if (pool.asks.length > 100) end ??= pool.complete(call, HUGE);
  }
  await end;
  const { text, last } = textOf(sse);
  expect(text === HUGE).toBe(true);
  expect(last).toBe("data: [DONE]");
});

test("an answer of 5 MB that comes at once goes out in pieces", async () => {
  const { response } = await openStream();
  const call = await pool.next();
  const ended = pool.complete(call, LARGE);
  let sse = "";
  for await (const bytes of await response) sse += String(bytes);
  await ended;
  const { text, last } = textOf(sse);
  expect(text === LARGE).toBe(true);
  expect(last).toBe("data: [DONE]");
});

test("a client that reads nothing is cut off, and its call cancelled", async () => {
  await use({ slowClientMsMax: 300 });
  const { response } = await openStream();
  const call = await pool.next();
  pool.tokens(call, 0, "x");
  (await response).on("error", () => {}).pause();
  const item = { call: call.key, attempt: 1, index: 1, count: 500_000, text: "y".repeat(500_000) };
  for (let i = 0; i < 20; i++) {
    pool.bus.nc.publish(
      call.reply,
      encode({ kind: "tokens", engine: "e1", epoch: 1, items: [{ ...item, index: 1 + i * 500_000 }] }),
    );
  }
  await vi.waitUntil(() => pool.controls.some(({ control }) => control.op === "call.cancel"), WAIT);
  expect(await pool.have(call, 2)).toEqual({ state: "gone" });
});

test("a full pool answers 429 with Retry-After, and takes calls again later", async () => {
  pool.status = { ...pool.status, queuedCalls: 100, queuedCallsMax: 100, endsPerSecond: 10 };
  const body = JSON.stringify({ model: "m", messages });
  const post = async () =>
    await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      body,
      headers: { "content-type": "application/json" },
    });
  const answered: Arrival[] = [];
  let response: Response | undefined;
  void (async () => {
    for (;;) {
      const call = await pool.next();
      answered.push(call);
      await pool.complete(call, "early");
    }
  })();
  await vi.waitUntil(async () => {
    response = await post();
    return response.status === 429;
  }, WAIT);
  expect(response?.headers.get("retry-after")).toBe("10");
  expect(await response?.json()).toMatchObject({ error: { code: "queue_full", type: "rate_limit_error" } });
  pool.status = { ...pool.status, queuedCalls: 0 };
  await vi.waitUntil(async () => (await post()).status === 200, WAIT);
});

test("an unknown model is refused, and bodies above the payload limit go through", async () => {
  await expect(openai.chat.completions.create({ model: "other", messages })).rejects.toMatchObject({
    status: 404,
    code: "model_not_found",
  });
  const content = "x".repeat(3_000_000);
  const answer = openai.chat.completions.create({ model: "m", messages: [{ role: "user", content }] });
  const call = await pool.next();
  expect((call.request as { messages: { content: string }[] }).messages[0]?.content.length).toBe(3_000_000);
  await pool.complete(call, "long");
  expect((await answer).choices[0]?.message.content).toBe("long");
});

test("programs are started, read and ended through the leader", async () => {
  const view = (id: string, state: ProgramView["state"]): ProgramView => ({
    id,
    object: "program",
    pool: pool.pool,
    state,
    service_ms: 1,
    waiting_ms: 2,
    attained_service_ms: 1,
    calls: { waiting: 0, running: 0, ended: 1 },
  });
  pool.control = (control) => {
    if (control.op === "call.cancel") return undefined;
    if (control.program_id === "unknown") return { ok: true };
    return { ok: true, program: view(control.program_id, control.op === "program.end" ? "ended" : "open") };
  };
  const headersOfJson = { "content-type": "application/json" };
  const start = await fetch(`${url}/v1/programs`, { method: "POST", headers: headersOfJson, body: `{"id":"x"}` });
  expect(await start.json()).toEqual(view("x", "open"));
  expect(await (await fetch(`${url}/v1/programs/x`)).json()).toEqual(view("x", "open"));
  expect(await (await fetch(`${url}/v1/programs/x`, { method: "DELETE" })).json()).toEqual(view("x", "ended"));
  expect((await fetch(`${url}/v1/programs/unknown`)).status).toBe(404);
});

test("messages that make no sense harm nothing", async () => {
  const answer = openai.chat.completions.create({ model: "m", messages });
  const call = await pool.next();
  for (const bytes of [
    Buffer.from("{"),
    Buffer.from([0xc1, 0xff]),
    encode({ kind: "tokens" }),
    encode({
      kind: "tokens",
      engine: "e1",
      epoch: 1,
      items: [{ call: call.key, attempt: 1, index: -5, count: 1e300, text: 7 }],
    }),
    encode({
      kind: "tokens",
      engine: "e1",
      epoch: 1,
      items: [{ call: "nobody/x", attempt: 1, index: 0, count: 1, text: "a" }],
    }),
    encode({ kind: "end", call: call.key, pool: pool.pool, status: "perhaps" }),
  ]) {
    pool.bus.nc.publish(call.reply, bytes);
  }
  pool.bus.nc.publish(subjects.status(pool.pool), Buffer.from("nonsense"));
  await pool.complete(call, "Paris.");
  expect((await answer).choices[0]?.message.content).toBe("Paris.");
});

test("a stop lets open streams finish, then cancels the rest, and leaves no port open", async () => {
  pool.control = () => ({ ok: true, call: "ended" });
  const finishing = openai.chat.completions.create({ model: "m", messages });
  const call = await pool.next();
  const hanging = openai.chat.completions.create({ model: "m", messages });
  const refused = expect(hanging).rejects.toMatchObject({ status: 503, code: "queue_unavailable" });
  const other = await pool.next();
  const stopped = frontend.stop();
  await pool.complete(call, "Paris.");
  expect((await finishing).choices[0]?.message.content).toBe("Paris.");
  await refused;
  await stopped;
  expect(pool.controls.at(-1)?.control).toMatchObject({ op: "call.cancel", call_id: other.address.callId });
  await expect(fetch(`${url}/healthz`)).rejects.toThrow();
  frontend = await startOne();
});

test("a restart of NATS in the middle of a call is not seen by its client", async () => {
  const { response } = await openStream();
  const call = await pool.next();
  pool.tokens(call, 0, "Pa");
  const stream = await response;
  await nats.kill9();
  await vi.waitFor(async () => expect((await fetch(`${url}/readyz`)).status).toBe(503), WAIT);
  await nats.restart();
  await vi.waitUntil(async () => (await fetch(`${url}/readyz`)).ok, WAIT);
  await pool.complete(call, "Paris.");
  let sse = "";
  for await (const piece of stream) sse += String(piece);
  expect(textOf(sse)).toEqual({ text: "Paris.", last: "data: [DONE]" });
});
