import { randomUUID } from "node:crypto";
import { mergeAnswer } from "@autellix/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, program, type QueueConnection, type Submission, type SubmitEvent, submit } from "../src/index.ts";
import { startTestNats, type TestNats } from "./support/nats.ts";
import { type QueuePeer, startQueuePeer } from "./support/queue-peer.ts";

const pool = "main";
const body = { messages: [{ role: "user" as const, content: "hello" }] };
let nats: TestNats;
let peer: QueuePeer;
let connection: QueueConnection;

beforeAll(async () => {
  nats = await startTestNats();
  peer = await startQueuePeer(nats.url, pool);
  connection = await connect({ url: nats.url });
});

afterAll(async () => {
  await connection?.close();
  await peer?.close();
  await nats?.stop();
});

/** The text as a reader sees it at the end, restarts applied. */
async function read(call: Submission): Promise<string> {
  let text = "";
  for await (const event of call) text = event.kind === "restart" ? "" : text + event.text;
  return text;
}

test("a call's chunks arrive in order, and its result is the record", async () => {
  const call = submit(connection, { pool, body, deadlineMs: 60_000 });
  const text = read(call);
  const queued = await peer.next();
  expect(queued.address).toEqual({ pool, tenant: "default", callId: call.callId });
  expect(queued.body.messages[0]?.content).toBe("hello");
  expect(queued.field("Autellix-Deadline-Ms")).toBe("60000");
  expect(queued.field("Autellix-Program-Id")).toBe("");
  queued.chunk("Good ");
  queued.chunk("day");
  await queued.end("completed", "Good day");
  expect(await text).toBe("Good day");
  const result = await call.result();
  expect(result).toMatchObject({ callId: call.callId, status: "completed", usage: { completion_tokens: 2 } });
  expect(result.response?.choices[0].message.content).toBe("Good day");
});

test("an attempt that starts over clears the text before it", async () => {
  const call = submit(connection, { pool, body });
  const events: string[] = [];
  const reading = (async () => {
    for await (const event of call) events.push(event.kind === "restart" ? "restart" : event.text);
  })();
  const queued = await peer.next();
  queued.chunk("Half an ans");
  queued.chunk("Whole", { restart: true });
  await queued.end("completed", "Whole");
  await reading;
  expect(events).toEqual(["Half an ans", "restart", "Whole"]);
});

test("tool calls and logprobs arrive, and what of them was lost comes from the record", async () => {
  const called = (fields: Record<string, unknown>, id?: string) => ({
    delta: { tool_calls: [{ index: 0, ...(id ? { id, type: "function" } : {}), function: fields }] },
  });
  const pieces = [
    { delta: { content: "Hm." }, logprobs: { content: [{ token: "Hm.", logprob: -1 }] } },
    called({ name: "look", arguments: "{" }, "x"),
    called({ arguments: "}" }),
  ];
  for (const shown of [3, 2, 0]) {
    const call = submit(connection, {
      pool,
      body: { ...body, tools: [{ type: "function", function: { name: "look" } }] },
    });
    const events: SubmitEvent[] = [];
    const reading = (async () => {
      for await (const event of call) events.push(event);
    })();
    const queued = await peer.next();
    for (const piece of pieces.slice(0, shown)) queued.chunk(piece);
    await queued.end("completed", pieces);
    await reading;
    const { response, usage } = await call.result();
    const deltas = events.flatMap((event) => (event.kind === "chunk" ? [event] : []));
    expect(deltas).toHaveLength(events.length);
    const { message, logprobs, finish_reason } = response?.choices[0] ?? {};
    expect(mergeAnswer(deltas)).toEqual({ message, logprobs });
    expect(deltas.map(({ text }) => text).join("")).toBe("Hm.");
    expect(message).toMatchObject({ tool_calls: [{ id: "x", function: { name: "look", arguments: "{}" } }] });
    expect([finish_reason, usage?.prompt_tokens_details]).toEqual(["tool_calls", { cached_tokens: 1 }]);
  }
});

test("a lost end and lost chunks are made good from the record", async () => {
  const call = submit(connection, { pool, body });
  const text = read(call);
  const queued = await peer.next();
  queued.chunk("Only the ");
  await queued.end("completed", "Only the beginning", { tell: false });
  expect(await text).toBe("Only the beginning");
});

test("iterating throws the code of a call that failed, and its result tells the same", async () => {
  const call = submit(connection, { pool, body });
  const text = read(call);
  const queued = await peer.next();
  await Promise.all([queued.end("failed", ""), expect(text).rejects.toMatchObject({ code: "engine_error" })]);
  expect(await call.result()).toMatchObject({ status: "failed", error: { code: "engine_error", message: "no" } });
});

test("cancel, the abort signal and leaving the loop each cancel the call at the leader", async () => {
  const ways: ((call: Submission, abort: AbortController) => Promise<unknown>)[] = [
    (call) => call.cancel(),
    async (_call, abort) => abort.abort(),
    async (call) => {
      for await (const event of call) if (event.kind === "chunk") break;
    },
  ];
  for (const way of ways) {
    const abort = new AbortController();
    const call = submit(connection, { pool, body, signal: abort.signal });
    const queued = await peer.next();
    queued.chunk("some");
    peer.onControl = async (message) => {
      if (message.op === "call.cancel" && message.call_id === call.callId) await queued.end("cancelled", "");
    };
    await way(call, abort);
    expect(await call.result()).toMatchObject({ status: "cancelled" });
  }
  peer.onControl = () => {};
});

test("calls inside a program carry its id, thread and parents, and the program ends in the pool", async () => {
  const id = await program("agent", async (p) => {
    const first = submit(connection, { pool, body });
    const one = await peer.next();
    expect(one.field("Autellix-Program-Id")).toBe(p.id);
    await one.end("completed", "1");
    await first.result();
    await p.thread("branch", async () => {
      const second = submit(connection, { pool, body });
      const two = await peer.next();
      expect(two.field("Autellix-Thread-Id")).toBe("branch");
      expect(two.field("Autellix-Parent-Call-Ids")).toBe(first.callId);
      await two.end("completed", "2");
      await second.result();
    });
    return p.id;
  });
  expect(peer.controls).toContainEqual({ op: "program.end", program_id: id, cancel: false });
});

test("a program, thread and parents may be named by hand", async () => {
  const call = submit(connection, { pool, body, program: "p1", thread: "t1", parents: ["a", "b"], tenant: "acme" });
  const queued = await peer.next();
  expect(queued.address.tenant).toBe("acme");
  expect(queued.field("Autellix-Program-Id")).toBe("p1");
  expect(queued.field("Autellix-Thread-Id")).toBe("t1");
  expect(queued.field("Autellix-Parent-Call-Ids")).toBe("a,b");
  await queued.end("completed", "x");
  await call.result();
});

test("what cannot be accepted is refused by name", async () => {
  await expect(submit(connection, { pool, body, callId: "a.b" }).result()).rejects.toMatchObject({
    code: "bad_call_id",
  });
  await expect(submit(connection, { pool: "nowhere", body }).result()).rejects.toMatchObject({ code: "not_found" });
  await expect(submit(connection, { pool, body, signal: AbortSignal.abort() }).result()).rejects.toMatchObject({
    name: "AbortError",
  });
});

test("a connection that was closed takes no calls, and may be closed again", async () => {
  const closed = await connect({ url: nats.url });
  await Promise.all([closed.close(), closed.close()]);
  await closed.close();
  await expect(submit(closed, { pool, body }).result()).rejects.toMatchObject({ code: "queue_unavailable" });
});

test("a large body takes the way of the object store", async () => {
  const callId = randomUUID();
  const content = "x".repeat(2 * 1024 * 1024);
  const call = submit(connection, { pool, callId, body: { messages: [{ role: "user", content }] } });
  call.result().catch(() => {});
  const queued = await peer.next();
  expect(queued.field("Autellix-Body-Object")).not.toBe("");
  expect(queued.body.messages[0]?.content).toBe(content);
  await queued.end("completed", "x");
  await call.result();
});
