/**
 * The queue for everybody (design §3): a NATS client in another language, and what a hostile or broken one may send.
 * The simulated engine makes answers as long as they are asked to be, so that "waits" and "runs" are states and no luck.
 */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { CALLS_STREAM, OUTCOMES_STREAM, type ReportCall, subjects } from "@autellix/protocol";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Observer, openObserver } from "../support/observer.ts";
import { type Ack, type Outsider, obtainNatsPy, startOutsider } from "../support/outsider.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const POOL = "tiny";
const ENGINE = "tiny-0";
const BATCH_CALLS_MAX = 2;
/** Longer than any test here: about 8 ms a token. */
const LONG_TOKENS = 7_500;
const SETTLE = { timeout: 20_000, interval: 20 };
const CONTROL = subjects.control(POOL, "default");

// On a CI machine a client that cannot be had is a failure, elsewhere Python may be missing.
const natsPy = await obtainNatsPy().catch((error: unknown) => {
  if (process.env.CI) throw error;
  return undefined;
});

let stack: TestStack;
let observer: Observer;
let outsider: Outsider;
let lastId = 0;

beforeAll(async () => {
  if (natsPy === undefined) return;
  stack = await startTestStack({
    // First come, first served: what waits behind two long calls waits until one of them is cancelled.
    args: ["--engine", "simulated", "--policy", "fcfs"],
    env: { AUTELLIX_BATCH_CALLS_MAX: String(BATCH_CALLS_MAX) },
  });
  observer = await openObserver(stack.natsUrl);
  outsider = startOutsider(stack.natsUrl, natsPy);
});

afterAll(async () => {
  await outsider?.close();
  await observer?.close();
  await stack?.stop();
});

function newCallId(): string {
  return `call-${++lastId}`;
}

function bodyOf(completionTokensMax: number, text = "Hello"): object {
  return { messages: [{ role: "user", content: text }], max_tokens: completionTokensMax };
}

async function publish(callId: string, body: unknown, fields?: Record<string, string>): Promise<Ack> {
  return await outsider.publish(subjects.call(POOL, "default", callId), body, fields);
}

async function record(callId: string) {
  const stored = await outsider.record(OUTCOMES_STREAM, subjects.outcome(POOL, "default", callId));
  return stored && { ...stored, body: JSON.parse(stored.text) as { error?: { code: string; message: string } } };
}

async function onEngine(callId: string): Promise<ReportCall | undefined> {
  return (await observer.report(ENGINE)).calls.find(({ call }) => call === `default/${callId}`);
}

async function untilRunning(callId: string): Promise<void> {
  await vi.waitUntil(async () => ((await onEngine(callId))?.completionTokens ?? 0) > 0, SETTLE);
}

async function cancel(callId: string): Promise<void> {
  await outsider.request(CONTROL, { op: "call.cancel", call_id: callId });
  await expect.poll(() => observer.recordedEnd(POOL, "default", callId), SETTLE).toBe("cancelled:cancelled");
}

/** Fills the engine's batch. @returns the calls, to be cancelled. */
async function occupy(): Promise<string[]> {
  const ids = Array.from({ length: BATCH_CALLS_MAX }, newCallId);
  for (const id of ids) await publish(id, bodyOf(LONG_TOKENS));
  for (const id of ids) await untilRunning(id);
  return ids;
}

async function expectNothingQueued(): Promise<void> {
  await expect.poll(() => observer.queuedCalls(), SETTLE).toBe(0);
}

describe.skipIf(natsPy === undefined)("a NATS client of another language", () => {
  test("gets chunks on its inbox and finds the record", async () => {
    const callId = newCallId();
    const inbox = await outsider.listen();
    expect(await publish(callId, bodyOf(5), { "Autellix-Reply": inbox })).toMatchObject({ stream: CALLS_STREAM });
    const messages = await outsider.read(inbox);
    const chunks = messages.map(({ text }) => JSON.parse(text));
    expect(chunks[0]).toMatchObject({ id: `chatcmpl-${callId}`, object: "chat.completion.chunk" });
    expect(messages.at(-1)?.headers).toMatchObject({ "Autellix-End": "completed" });
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    const stored = await record(callId);
    expect(stored?.headers).toMatchObject({ "Autellix-Kind": "outcome", "Autellix-Status": "completed" });
    expect(stored?.body).toMatchObject({
      call_id: callId,
      status: "completed",
      usage: { completion_tokens: 5 },
      response: { choices: [{ message: { content: text }, finish_reason: "length" }] },
    });
    await expectNothingQueued();
  });

  test("runs the example of the repository", async () => {
    const example = resolve(import.meta.dirname, "../../examples/plain_nats.py");
    const { stdout } = await promisify(execFile)("python3", [example, stack.natsUrl, POOL], {
      env: { ...process.env, PYTHONPATH: natsPy },
    });
    expect(stdout).toContain("ended: completed");
    expect(stdout).toMatch(/on record: \{"prompt_tokens": \d+/);
  });

  test("needs no inbox: the record is enough", async () => {
    const callId = newCallId();
    await publish(callId, bodyOf(3));
    await expect.poll(() => observer.recordedEnd(POOL, "default", callId), SETTLE).toBe("completed");
  });

  test("who publishes an id again replaces nothing and runs nothing: waiting, running and ended", async () => {
    const blockers = await occupy();
    const callId = newCallId();
    const [first, second] = [await outsider.listen(), await outsider.listen()];
    const again = () => publish(callId, bodyOf(9, "Something else"), { "Autellix-Reply": second });

    expect(await publish(callId, bodyOf(400), { "Autellix-Reply": first })).toHaveProperty("seq");
    const waitingAck = await again();
    expect((await onEngine(callId))?.completionTokens ?? 0, "it waits").toBe(0);
    expect(waitingAck.error?.description).toMatch(/per subject/);

    await cancel(blockers[0] ?? "");
    await untilRunning(callId);
    const runningAck = await again();
    expect(await onEngine(callId), "it still runs").toMatchObject({ state: "running" });
    expect(runningAck.error?.description).toMatch(/per subject/);
    // Now: a step that it is still in when it is cancelled counts its token later.
    await cancel(blockers[1] ?? "");

    const answer = await outsider.read(first);
    expect(answer.at(-1)?.headers["Autellix-End"]).toBe("completed");
    const stored = await record(callId);
    expect(stored?.body).toMatchObject({ status: "completed", usage: { completion_tokens: 400 } });
    await expectNothingQueued();

    const before = (await observer.report(ENGINE)).counters.tokens;
    expect(await again(), "the queue has room for it").toHaveProperty("seq");
    const [end] = await outsider.read(second);
    expect(end?.headers["Autellix-End"], "told how the first one ended").toBe("completed");
    await expectNothingQueued();
    expect((await observer.report(ENGINE)).counters.tokens, "nothing was generated").toBe(before);
    expect(await record(callId)).toEqual(stored);
    expect(await outsider.unread(first)).toBe(0);
  });

  test("who publishes one id many times at once gets one answer", async () => {
    const callId = newCallId();
    const inbox = await outsider.listen();
    const before = (await observer.report(ENGINE)).counters.tokens;
    const acks = await Promise.all(
      Array.from({ length: 20 }, () => publish(callId, bodyOf(50), { "Autellix-Reply": inbox })),
    );
    expect(acks.filter(({ seq, error }) => seq && !error)).toHaveLength(1);
    const answer = await outsider.read(inbox);
    expect(answer.at(-1)?.headers["Autellix-End"]).toBe("completed");
    expect((await observer.report(ENGINE)).counters.tokens - before).toBe(50);
    expect(await outsider.unread(inbox)).toBe(0);
    await expectNothingQueued();
  });

  test("cancels a waiting and a running call", async () => {
    const blockers = await occupy();
    const waiting = newCallId();
    const inbox = await outsider.listen();
    await publish(waiting, bodyOf(5), { "Autellix-Reply": inbox });
    const answer = await outsider.request(CONTROL, { op: "call.cancel", call_id: waiting });
    expect(answer).toMatchObject({ ok: true });
    const [end, ...more] = await outsider.read(inbox);
    expect([end?.headers["Autellix-End"], more]).toEqual(["cancelled", []]);
    expect(JSON.parse(end?.text ?? "")).toMatchObject({ error: { code: "cancelled", message: expect.any(String) } });
    for (const id of blockers) await cancel(id);
    expect((await observer.report(ENGINE)).calls).toEqual([]);
    expect(await outsider.request(CONTROL, { op: "call.cancel", call_id: waiting })).toEqual({
      ok: true,
      call: "ended",
    });
    await expectNothingQueued();
  });

  test("cancels a call before the queue has it: the cancel may be faster", async () => {
    const callId = newCallId();
    const answer = await outsider.request(CONTROL, { op: "call.cancel", call_id: callId });
    expect(answer).toEqual({ ok: true, call: "unknown" });
    await publish(callId, bodyOf(LONG_TOKENS));
    await expect.poll(() => observer.recordedEnd(POOL, "default", callId), SETTLE).toBe("cancelled:cancelled");
    await expectNothingQueued();
  });

  test("starts, reads and ends a program", async () => {
    const program_id = "program of an outsider / Ωμέγα";
    const fields = { "Autellix-Program-Id": program_id };
    const ask = (op: string) => outsider.request(CONTROL, { op, program_id });
    expect(await ask("program.read")).toMatchObject({ ok: false, error: { code: "not_found" } });
    expect(await ask("program.start")).toMatchObject({ ok: true, program: { id: program_id, state: "open" } });
    const [a, b, late] = [newCallId(), newCallId(), newCallId()];
    for (const id of [a, b]) {
      await publish(id, bodyOf(4), fields);
      await expect.poll(() => observer.recordedEnd(POOL, "default", id), SETTLE).toBe("completed");
    }
    await expect
      .poll(() => ask("program.read"), SETTLE)
      .toMatchObject({ program: { calls: { waiting: 0, running: 0, ended: 2 }, service_ms: expect.any(Number) } });
    expect(await ask("program.end")).toMatchObject({ ok: true, program: { state: "ended" } });
    expect(await ask("program.end"), "again").toMatchObject({ ok: true, program: { state: "ended" } });
    await publish(late, bodyOf(4), fields);
    await expect.poll(() => observer.recordedEnd(POOL, "default", late), SETTLE).toBe("failed:program_ended");
    await expectNothingQueued();
  });

  test("ends a program with all its calls", async () => {
    const fields = { "Autellix-Program-Id": "cut short" };
    const ids = Array.from({ length: BATCH_CALLS_MAX + 3 }, newCallId);
    for (const id of ids) await publish(id, bodyOf(LONG_TOKENS), fields);
    await untilRunning(ids[0] ?? "");
    const end = { op: "program.end", program_id: "cut short", cancel: true };
    expect(await outsider.request(CONTROL, end)).toMatchObject({ ok: true, program: { state: "ended" } });
    for (const id of ids) {
      await expect.poll(() => observer.recordedEnd(POOL, "default", id), SETTLE).toBe("cancelled:cancelled");
    }
    expect((await observer.report(ENGINE)).calls).toEqual([]);
    await expectNothingQueued();
  });

  test("a deadline that passes ends a call that waits and one that runs", async () => {
    const blockers = await occupy();
    const waiting = newCallId();
    await publish(waiting, bodyOf(4), { "Autellix-Deadline-Ms": "100" });
    await expect.poll(() => observer.recordedEnd(POOL, "default", waiting), SETTLE).toBe("expired:expired");
    for (const id of blockers) await cancel(id);
    const running = newCallId();
    await publish(running, bodyOf(LONG_TOKENS), { "Autellix-Deadline-Ms": "500" });
    await untilRunning(running);
    await expect.poll(() => observer.recordedEnd(POOL, "default", running), SETTLE).toBe("expired:expired");
    await expectNothingQueued();
  });
});

describe.skipIf(natsPy === undefined)("bad input on NATS", () => {
  const garbage = Buffer.from(Array.from({ length: 900 * 1024 }, (_, index) => (index * 2_654_435_761) >>> 13));
  const long = bodyOf(2, "word ".repeat(9_000));
  const hello = bodyOf(2);

  /** What ends as a record with a code: name, body, headers, code. */
  const refused: [string, unknown, Record<string, string>, string][] = [
    ["no body", "", {}, "invalid_json"],
    ["neither msgpack nor JSON", Buffer.from([0xc1, 0xff, 0x00]), {}, "invalid_json"],
    ["JSON cut short", '{"messages":[{"role":"us', {}, "invalid_json"],
    ["900 KB of garbage", garbage, {}, "invalid_json"],
    ["a number", "7", {}, "invalid_request"],
    ["a msgpack number", Buffer.from([0x07]), {}, "invalid_json"],
    ["a list", "[1,2]", {}, "invalid_request"],
    ["deep nesting", `${'{"messages":'.repeat(20_000)}1${"}".repeat(20_000)}`, {}, "invalid_request"],
    ["no messages", {}, {}, "invalid_request"],
    ["empty messages", { messages: [] }, {}, "invalid_request"],
    ["messages that are none", { messages: [7, null] }, {}, "invalid_request"],
    ["negative max_tokens", bodyOf(-1), {}, "invalid_request"],
    ["a number that is none", '{"messages":[{"role":"user","content":"x"}],"max_tokens":1e999}', {}, "invalid_request"],
    ["a huge max_tokens", bodyOf(Number.MAX_SAFE_INTEGER), {}, "context_length_exceeded"],
    ["a tool without a type", { ...hello, tools: [{}] }, {}, "invalid_request"],
    ["a parameter that is not served", { ...hello, top_k: 5 }, {}, "unsupported_parameter"],
    ["a wrong model", { ...hello, model: "gpt-none" }, {}, "model_not_found"],
    ["a prompt longer than the context", long, {}, "context_length_exceeded"],
    ["a lease as inbox", hello, { "Autellix-Reply": "$KV.autellix_pools.lease.tiny" }, "bad_reply_subject"],
    ["a queue as inbox", hello, { "Autellix-Reply": "autellix.calls.tiny.default.loop" }, "bad_reply_subject"],
    ["a plan as inbox", hello, { "Autellix-Reply": "autellix.engines.tiny-0.plan" }, "bad_reply_subject"],
    ["an API as inbox", hello, { "Autellix-Reply": "$JS.API.STREAM.DELETE.AUTELLIX_CALLS" }, "bad_reply_subject"],
    ["all inboxes", hello, { "Autellix-Reply": "_INBOX.>" }, "bad_reply_subject"],
    ["a huge inbox", hello, { "Autellix-Reply": `_INBOX.${"x".repeat(5_000)}` }, "bad_reply_subject"],
    ["a negative deadline", hello, { "Autellix-Deadline-Ms": "-5" }, "invalid_request"],
    ["a deadline that is no number", hello, { "Autellix-Deadline-Ms": "1e3" }, "invalid_request"],
    ["an absurd prompt count", hello, { "Autellix-Prompt-Tokens": "9".repeat(400) }, "invalid_request"],
    ["parents that are none", hello, { "Autellix-Parent-Call-Ids": "a.b,*" }, "invalid_request"],
    ["a huge program id", hello, { "Autellix-Program-Id": "p".repeat(5_000) }, "invalid_request"],
    ["a huge thread id", hello, { "Autellix-Thread-Id": "t".repeat(5_000) }, "invalid_request"],
    ["a huge body name", "", { "Autellix-Body-Object": "b".repeat(60_000) }, "invalid_request"],
    ["a body that is not in the store", "", { "Autellix-Body-Object": "default.nowhere" }, "result_expired"],
  ];

  let neighbour: string;
  let pids: string;

  beforeAll(async () => {
    neighbour = newCallId();
    await publish(neighbour, bodyOf(LONG_TOKENS, "Beside all the others"));
    await untilRunning(neighbour);
    pids = JSON.stringify(stack.processes());
  });

  for (const [name, body, fields, code] of refused) {
    test(`${name}: the call ends as ${code}, and says why`, async () => {
      const callId = newCallId();
      expect(await publish(callId, body, fields)).toHaveProperty("seq");
      await expect.poll(() => observer.recordedEnd(POOL, "default", callId), SETTLE).toBe(`failed:${code}`);
      const { body: stored, text } = (await record(callId)) ?? {};
      expect(stored?.error?.code).toBe(code);
      expect(stored?.error?.message).toMatch(/^\S+ .*\w/);
      expect(text?.length, "it repeats nothing of what was sent").toBeLessThan(1_000);
    });
  }

  test("an unknown pool and a call id with a dot are refused at publish", async () => {
    for (const subject of [
      "autellix.calls.nope.default.x",
      "autellix.calls.tiny.default.a.b",
      "autellix.calls.tiny.x",
    ]) {
      expect((await outsider.publish(subject, hello)).error?.description).toBe("no responders");
    }
  });

  test("a call id and a tenant of odd characters end as bad_call_id", async () => {
    for (const [tenant, callId] of [
      ["default", "a$b"],
      ["de+fault", "x"],
      ["default", "x".repeat(300)],
    ] as const) {
      expect(await outsider.publish(subjects.call(POOL, tenant, callId), hello)).toHaveProperty("seq");
      await expect.poll(() => observer.recordedEnd(POOL, tenant, callId), SETTLE).toBe("failed:bad_call_id");
    }
  });

  test("an error is told on the inbox, too", async () => {
    const inbox = await outsider.listen();
    await publish(newCallId(), "{", { "Autellix-Reply": inbox });
    const [end] = await outsider.read(inbox);
    expect(end?.headers["Autellix-End"]).toBe("failed");
    expect(JSON.parse(end?.text ?? "")).toMatchObject({
      error: { code: "invalid_json", type: "invalid_request_error" },
    });
  });

  test("a control request that makes no sense is answered with an error", async () => {
    const bodies = [
      "",
      "{",
      "7",
      garbage,
      {},
      { op: "no.such" },
      { op: "program.start" },
      { op: "program.read", program_id: 7 },
    ];
    const ids = [
      { op: "call.cancel", call_id: "a.b" },
      { op: "program.start", program_id: "p".repeat(5_000) },
    ];
    for (const body of [...bodies, ...ids]) {
      const answer = await outsider.request(CONTROL, body).catch((error: unknown) => error);
      expect(answer).toMatchObject({ ok: false, error: { code: expect.stringMatching(/^invalid_(json|request)$/) } });
    }
  });

  test("garbage on the internal subjects harms nothing", async () => {
    const internal = [
      subjects.plan(ENGINE),
      subjects.ask(ENGINE),
      subjects.report(POOL),
      subjects.beat(POOL),
      subjects.status(POOL),
      CONTROL,
    ];
    const nonsense = ["", "{", "[]", "7", garbage, { kind: "report" }, { kind: "tokens" }, { pool: POOL, epoch: 1e9 }];
    for (const subject of internal) for (const body of nonsense) await outsider.send(subject, body);
  });

  test("the calls beside it are unaffected, nothing stays, nothing has crashed", async () => {
    expect(await onEngine(neighbour)).toMatchObject({ state: "running", attempt: 1 });
    const after = newCallId();
    await publish(after, bodyOf(4));
    await expect.poll(() => observer.recordedEnd(POOL, "default", after), SETTLE).toBe("completed");
    await cancel(neighbour);
    await expectNothingQueued();
    expect((await observer.report(ENGINE)).calls).toEqual([]);
    expect(JSON.stringify(stack.processes())).toBe(pids);
    expect(await stack.logs()).not.toMatch(/"level":"(error|fatal)"/);
  });
});
