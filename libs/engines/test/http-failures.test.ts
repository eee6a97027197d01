/** What a server can do wrong, and what becomes of the calls. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { Message } from "../src/http/replay.ts";
import type { EngineCall } from "../src/port.ts";
import type { Mischief } from "./conformance-server/index.ts";
import { advance, advanceOne, chat, complete, open } from "./contract.ts";
import { disposeRigs, type HttpRig, makeHttpRig, stepUntil } from "./http-rig.ts";

afterEach(disposeRigs);

const CALL = chat("Tell me something.", { completionTokensMax: 40 });
const SECRET = "Secret";

it.each(["vllm", "sglang"] as const)(
  "on %s, a server that dies behind an answer's last token has counted its end",
  async (dialect) => {
    const rig = await makeHttpRig({ dialect });
    const counted = async () => {
      const tokens: [string | undefined, number][] = [];
      for (let i = 0; i < 8; i++) {
        const call = await open(rig.engine, chat(`Question ${i}?`, { completionTokensMax: 60 }));
        const { finish } = await advanceOne(rig.engine, call);
        tokens.push([finish, call.completionTokens]);
        await rig.engine.close(call);
      }
      return tokens;
    };
    const told = await counted();
    expect(told.map(([finish]) => finish)).toContain("stop");
    rig.server.mischief = { tellsNoCount: true };
    expect(await counted()).toEqual(told);
  },
);

it("an answer whose count came before its end has that count", async () => {
  const rig = await makeHttpRig({ dialect: "openai", tokensPerChunk: 3 });
  const asked = chat("Tell me something.", { completionTokensMax: 41 });
  const counted = async () => {
    const call = await open(rig.engine, asked);
    await advanceOne(rig.engine, call);
    return call.completionTokens;
  };
  const told = await counted();
  rig.server.mischief = { tellsNoCount: true };
  expect(await counted()).toBeLessThan(told);
  rig.server.mischief = { tellsNoCount: "was told" };
  expect(await counted()).toBe(told);
});

describe.each(["vllm", "sglang", "llama-server"] as const)("on %s, a call goes on by its ids", (dialect) => {
  it.each<[string, Mischief]>([
    ["when the stream is closed", { after: { tokens: 7, times: 1, what: "close" } }],
    ["when the stream ends before the answer", { after: { tokens: 7, times: 1, what: "end" } }],
    ["when the server stalls", { after: { tokens: 7, times: 1, what: "stall" } }],
    ["when it stalls behind comments", { after: { tokens: 7, times: 1, what: "murmur" } }],
    ["when an event is no JSON", { after: { tokens: 7, times: 1, what: "garbage" } }],
    ["when a line is too long", { after: { tokens: 7, times: 1, what: "huge line" } }],
    ["when the stream tells an error", { after: { tokens: 7, times: 1, what: "error event" } }],
    ["when all that goes wrong before its first token", { after: { tokens: 0, times: 2, what: "close" } }],
    ["when the server is overloaded", { status: { code: 503, times: 2 } }],
    ["when it is told to come later", { status: { code: 429, times: 2 } }],
  ])("%s", async (_name, mischief) => {
    const rig = await makeHttpRig({ dialect }, { limits: { lineCharsMax: 64 * 1024, stallMsMax: 500 } });
    const whole = await complete(rig.engine, CALL);
    rig.server.mischief = mischief;
    const answer = await complete(rig.engine, CALL);
    expect([answer.text, answer.ids, answer.finish]).toEqual([whole.text, whole.ids, whole.finish]);
    expect(rig.engine.server().failures).toBeGreaterThan(0);
    expect(rig.lines.join("\n")).toMatch(/warn: A stream is taken up again/);
    expect(rig.lines.join("\n")).not.toContain(SECRET);
  });

  it("when the server is killed and started again under load: none is lost, none is told twice", async () => {
    const rig = await makeHttpRig({ dialect, tokenMs: 2 });
    const chats = [0, 1, 2, 3].map((i) => chat(`Under load ${i}.`, { completionTokensMax: 60 }));
    const wholes = [];
    for (const one of chats) wholes.push(await complete(rig.engine, one));
    const calls = await Promise.all(chats.map((one) => open(rig.engine, one)));
    const first = await advance(rig.engine, calls, 3);
    await rig.server.stop();
    const steps = await stepUntil(rig.engine, calls, () => rig.engine.health().state === "down");
    const between = steps.map((some) => some.map(({ text }) => text).join(""));
    const pause = await rig.engine.step(calls);
    expect([pause.durationMs, pause.calls.map((step) => step.tokens)]).toEqual([0, [0, 0, 0, 0]]);
    await rig.server.start();
    const rest = await advance(rig.engine, calls);
    expect(calls.map((_, i) => `${first[i]?.text}${between[i]}${rest[i]?.text}`)).toEqual(
      wholes.map(({ text }) => text),
    );
    expect(calls.map(({ ids }) => ids)).toEqual(wholes.map(({ ids }) => ids));
    expect(rig.engine.health()).toEqual({ state: "up" });
    expect(rig.engine.server()).toMatchObject({ downs: 1, failedCalls: 0 });
    expect(rig.lines.join("\n")).toMatch(/warn: The server is down.*\n(?:.*\n)*info: The server is back/);
  });
});

describe("a call fails", () => {
  const failed = async (rig: HttpRig, body: Record<string, unknown> = {}, fields = {}): Promise<unknown> => {
    const call = await rig.engine.open({
      key: "t/c",
      chat: { ...CALL, ...fields },
      body: { messages: CALL.messages, temperature: 0, max_completion_tokens: 40, ...body },
      forcedIds: [],
    });
    try {
      await advanceOne(rig.engine, call);
      return undefined;
    } catch (error) {
      expect(await rig.engine.step([call])).toMatchObject({ calls: [{ error, tokens: 0 }] });
      return error;
    } finally {
      await rig.engine.close(call);
    }
  };
  const message = (text: string) => ({ error: { message: text, type: "BadRequestError", code: 400 } });

  it.each([
    [400, message("top_k must be positive. More of it."), "invalid_request", "top_k must be positive."],
    [422, { detail: "Field required" }, "invalid_request", "Field required"],
    [400, "Only greedy sampling here, e.g. temperature 0. Secret.", "invalid_request", "e.g. temperature 0."],
    [400, [{ error: { code: 400, message: "Bad schema." } }], "invalid_request", "Bad schema."],
    [
      400,
      message("This model's maximum context length is 4096 tokens. However, you asked for more."),
      "context_length_exceeded",
      "This model's maximum context length is 4096 tokens.",
    ],
    [400, { error: { message: "too big", type: "exceed_context_size_error" } }, "context_length_exceeded", "too big"],
    [
      404,
      { error: { message: "The model x does not exist.", type: "NotFoundError" } },
      "model_not_found",
      "The model x",
    ],
    [413, "too large", "body_too_large", "status 413"],
    [400, message(`${SECRET} ${"x".repeat(2_000)}\u0007`), "invalid_request", SECRET],
    [401, { error: { message: "Unauthorized" } }, "engine_error", "API key"],
    [400, "<html>\n</html>", "invalid_request", "status 400"],
  ])("with the server's sentence at status %i (%#)", async (code, body, expected, said) => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    rig.server.mischief = { status: { code, times: 1, body } };
    const error = await failed(rig);
    expect(error).toMatchObject({ code: expected, message: expect.stringContaining(said) });
    expect((error as Error).message.length).toBeLessThan(400);
    expect(rig.lines.join("\n")).not.toContain(SECRET);
    expect(rig.server.requests).toHaveLength(1);
  });

  it.each([
    [400, { error: { message: "Too low.", param: "top_k" } }, "top_k"],
    [
      422,
      { detail: [{ loc: ["body", "messages", 0, "role"], msg: "Field required", type: "missing" }] },
      "messages[0].role",
    ],
    [400, { error: { message: "Too low.", param: `${SECRET} as a field` } }, undefined],
    [500, { error: { message: "Too low.", param: "top_k" } }, undefined],
  ])("with the field that it names at status %i (%#)", async (code, body, param) => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { triesMax: 1 } });
    rig.server.mischief = { status: { code, times: 10, body } };
    const error = await failed(rig);
    expect(error).toMatchObject({ param });
    if (code === 422) expect(error).toMatchObject({ message: expect.stringContaining("messages[0].role: Field req") });
  });

  it("when an answer that is no error by its status is one by its words", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    rig.server.mischief = {
      status: { code: 200, times: 1, body: { error: { message: "No such field.", code: 400 } } },
    };
    expect(await failed(rig)).toMatchObject({ code: "invalid_request", message: "No such field." });
  });

  it("when the stream itself says that the request is at fault", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    rig.server.mischief = { after: { tokens: 0, times: 1, what: "refusal" } };
    expect(await failed(rig)).toMatchObject({ code: "invalid_request", message: "Token 9 is out of range." });
    expect(rig.server.requests).toHaveLength(1);
  });

  it("as the engine's fault when the stream that it was gone on with says that its request is", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const whole = await complete(rig.engine, CALL);
    const call = await open(rig.engine, CALL, whole.ids.slice(0, 5));
    rig.server.mischief = { after: { tokens: 0, times: 1, what: "refusal" } };
    await expect(advanceOne(rig.engine, call)).rejects.toMatchObject({
      code: "engine_error",
      message: expect.stringMatching(/^The engine's server refused .*: Token 9 is out of range\.$/),
    });
  });

  it.each([
    [
      "context_length_exceeded",
      { message: "Too long.", type: "invalid_request_error", code: "context_length_exceeded" },
      1,
    ],
    ["invalid_request", { message: "No.", type: "BadRequestError", code: null }, 1],
    ["invalid_request", { message: "No.", type: "invalid_request_error" }, 1],
    ["model_not_found", { message: "No.", type: "invalid_request_error", code: "model_not_found" }, 1],
    ["engine_error", { message: "No.", type: "rate_limit_error", code: "rate_limit_exceeded" }, 3],
    ["engine_error", { message: "No.", type: "server_error", code: null }, 3],
    ["engine_error", "CUDA error", 3],
  ])("as %s where the stream names what is wrong: %j", async (code, error, requests) => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { triesMax: 3 } });
    rig.server.mischief = { after: { tokens: 0, times: 1_000, what: "refusal", event: { error } } };
    expect(await failed(rig)).toMatchObject({ code });
    expect(rig.server.requests).toHaveLength(requests);
  });

  it("after two stalls, if no token comes", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { stallMsMax: 50 } });
    rig.server.mischief = { after: { tokens: 0, times: 1_000, what: "stall" } };
    expect(await failed(rig)).toMatchObject({ code: "engine_error", message: "The engine's server stalled." });
    expect(rig.server.requests).toHaveLength(2);
  });

  it("after bounded tries, and its neighbours are unaffected", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { triesMax: 3 } });
    rig.server.mischief = { status: { code: 500, times: 1_000 } };
    expect(await failed(rig)).toMatchObject({ code: "engine_error" });
    expect(rig.server.requests).toHaveLength(3);
    rig.server.mischief = {};
    expect(await failed(rig)).toBeUndefined();
    expect(rig.engine.server()).toMatchObject({ failures: 3, failedCalls: 1 });
  });

  it("when the answer is no stream", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    rig.server.mischief = { contentType: { value: "text/html", times: 1 } };
    expect(await failed(rig)).toMatchObject({ code: "engine_error", message: expect.stringMatching(/stream/) });
  });

  it("when it can neither be gone on with nor be given again", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const drawn = { tools: [{ type: "function", function: { name: "f" } }], temperature: 1 };
    rig.server.mischief = { after: { tokens: 0, times: 1, what: "close" } };
    expect(await failed(rig, drawn, { temperature: 1 })).toBeUndefined();
    rig.server.options.tokenMs = 10;
    rig.server.mischief = { after: { tokens: 5, times: 1, what: "close" } };
    const error = { code: "engine_error", message: expect.stringMatching(/exactly/) };
    expect(await failed(rig, drawn, { temperature: 1 })).toMatchObject(error);
  });

  it("when the server gives another answer than the one that was shown in part", async () => {
    const rig = await makeHttpRig({ dialect: "openai", tokenMs: 10 });
    const call = await open(rig.engine, CALL);
    await stepUntil(rig.engine, [call], () => call.completionTokens > 3);
    rig.server.mischief = { after: { tokens: call.completionTokens + 3, times: 1, what: "close" }, drifts: true };
    await expect(advanceOne(rig.engine, call)).rejects.toMatchObject({
      code: "engine_error",
      message: expect.stringMatching(/another answer/),
    });
    await rig.server.until(() => rig.server.running === 0);
  });
});

describe("a greedy call that ids cannot go on with is given again, and shown once", () => {
  it.each<[string, "vllm" | "openai", Record<string, unknown>]>([
    ["tool calls", "vllm", { tools: [{ type: "function", function: { name: "f" } }] }],
    ["tool calls without ids", "openai", { tools: [{ type: "function", function: { name: "f" } }] }],
    ["reasoning", "vllm", { think: true }],
    ["logprobs", "vllm", { logprobs: true }],
    ["text without ids", "openai", {}],
  ])("%s", async (_name, dialect, more) => {
    const rig = await makeHttpRig({ dialect, tokenMs: 3 });
    const told = async () => {
      const call = await rig.engine.open({
        key: "t/c",
        chat: CALL,
        body: { messages: CALL.messages, temperature: 0, max_completion_tokens: 40, ...more },
        forcedIds: [],
      });
      const answer = await advanceOne(rig.engine, call);
      const message = new Message();
      message.add({ ...answer, deltas: answer.deltas.length > 0 ? answer.deltas : undefined });
      const { completionTokens, ids } = call;
      await rig.engine.close(call);
      return { ...message, finish: answer.finish, text: answer.text, completionTokens, called: [...ids] };
    };
    const whole = await told();
    for (const tokens of [2, 5, 7]) {
      rig.server.mischief = { after: { tokens, times: 2, what: "close" } };
      expect(await told()).toEqual(whole);
    }
    expect(rig.engine.server()).toMatchObject({ failures: 6, failedCalls: 0 });
  });
});

describe("the HTTP engine", () => {
  it("never has more calls on the server than its slots, those that it goes on with included", async () => {
    const rig = await makeHttpRig({ dialect: "vllm", slots: 3, tokenMs: 2 }, { limits: { watchMs: 5 } });
    rig.server.mischief = { ignoresDisconnectMs: 150 };
    const calls = await Promise.all(
      Array.from({ length: 6 }, (_, i) => open(rig.engine, chat(`Call ${i}`, { completionTokensMax: 500 - 30 }))),
    );
    const [a, b, c, d, e] = calls as [EngineCall, EngineCall, EngineCall, EngineCall, EngineCall];
    await stepUntil(rig.engine, [a, b, c], () => [a, b, c].every((call) => call.completionTokens > 0));
    expect(rig.server.running).toBe(3);
    await Promise.all([a, b].map((call) => rig.engine.park(call)));
    await stepUntil(rig.engine, [c], () => rig.engine.server().foreignCalls === 2);
    expect(rig.server.running).toBe(3);
    await stepUntil(rig.engine, [c, d, e], () => d.completionTokens > 0 && e.completionTokens > 0);
    expect(rig.server.runningMax).toBe(3);
    expect(rig.lines.join("\n")).toMatch(/2 calls on the server are not ours/);
    await Promise.all(calls.map((call) => rig.engine.close(call)));
  });

  it.each(["vllm", "sglang", "llama-server"] as const)("leaves slots of %s to others' calls", async (dialect) => {
    const rig = await makeHttpRig({ dialect, slots: 4, tokenMs: 2 }, { limits: { watchMs: 5 } });
    const calls = await Promise.all([0, 1, 2, 3].map((i) => open(rig.engine, chat(`Call ${i}`))));
    rig.server.foreign = 3;
    await stepUntil(rig.engine, calls.slice(0, 1), () => rig.engine.server().foreignCalls === 3);
    await rig.engine.step(calls);
    await rig.engine.step(calls);
    expect(rig.server.runningMax).toBe(1);
    rig.server.foreign = 9;
    await stepUntil(rig.engine, calls.slice(0, 1), () => rig.engine.server().foreignCalls >= 3);
    await stepUntil(rig.engine, calls.slice(1, 2), () => (calls[1]?.completionTokens ?? 0) > 0);
    rig.server.foreign = 0;
    await stepUntil(rig.engine, calls, () => calls.every((call) => call.completionTokens > 0));
    expect(rig.server.runningMax).toBe(4);
    await Promise.all(calls.map((call) => rig.engine.close(call)));
  });

  it("stops the server's work on a call that is parked or closed", async () => {
    const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 2 });
    const call = await open(rig.engine, chat("Long.", { completionTokensMax: 400 }));
    for (const leave of [() => rig.engine.park(call), () => rig.engine.close(call)]) {
      await stepUntil(rig.engine, [call], () => rig.server.running === 1 && call.completionTokens > 0);
      await leave();
      expect([call.contextTokens, rig.engine.counters().residentCalls]).toEqual([0, 0]);
      await rig.server.until(() => rig.server.running === 0);
    }
  });

  it("begins a call again whose client waits for the whole answer, and hands nothing out before its end", async () => {
    const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 3 });
    const tools = { tools: [{ type: "function", function: { name: "f" } }], max_tokens: 20, temperature: 0 };
    const call = { ...chat("Whole.", { completionTokensMax: 20 }), stream: false };
    const opened = () =>
      rig.engine.open({ key: "t/c", chat: call, body: { messages: call.messages, ...tools }, forcedIds: [] });
    const whole = await advanceOne(rig.engine, await opened());
    rig.server.mischief = { after: { tokens: 3, times: 1, what: "close" } };
    const again = await opened();
    const seen: unknown[] = [];
    const [steps = []] = await stepUntil(rig.engine, [again], ([some]) => {
      if (again.completionTokens > 0) seen.push(again.preemptible);
      return some?.at(-1)?.finish !== undefined;
    });
    expect(steps.slice(0, -1).every(({ tokens, deltas }) => tokens === 0 && deltas === undefined)).toBe(true);
    expect(steps.at(-1)).toMatchObject({ tokens: whole.tokens, ids: whole.ids, deltas: whole.deltas });
    expect([seen[0], rig.engine.server().failures]).toEqual([false, 1]);
  });

  it("knows that its server is down while it has no call", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { idleMs: 10 } });
    const said = async (text: string) => {
      while (!rig.lines.some((line) => line.includes(text))) await sleep(5);
    };
    await rig.server.stop();
    await said("is down");
    expect(rig.engine.health()).toMatchObject({ state: "down", sinceMs: expect.any(Number) });
    await rig.server.start();
    await said("is back after");
    expect(rig.engine.health()).toEqual({ state: "up" });
  });

  it("keeps calls waiting when its server is back as another one, until it is used as that", async () => {
    const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 2 });
    const call = await open(rig.engine, CALL);
    await advance(rig.engine, [call], 2);
    await rig.server.stop();
    await stepUntil(rig.engine, [call], () => rig.engine.health().state === "down");
    rig.server.options.contextTokensMax = 256;
    await rig.server.start();
    await stepUntil(rig.engine, [call], () => rig.engine.health().state === "changed");
    expect(rig.lines.join("\n")).toMatch(/warn: The server is another than before: vllm: .* contexts of 256\./);
    const requests = rig.server.requests.length;
    expect((await rig.engine.step([call])).calls).toMatchObject([{ tokens: 0 }]);
    expect([rig.engine.renew(), rig.engine.info.contextTokensMax]).toEqual([false, 512]);
    expect(rig.server.requests).toHaveLength(requests);
    await rig.engine.close(call);
    expect([rig.engine.renew(), rig.engine.info.contextTokensMax]).toEqual([true, 256]);
    expect(rig.engine.health()).toEqual({ state: "up" });
    await complete(rig.engine, CALL);
    await expect(open(rig.engine, chat("Too long.", { completionTokensMax: 300 }))).rejects.toMatchObject({
      code: "context_length_exceeded",
    });
  });

  it("is down while its server is back as what cannot be used", async () => {
    const rig = await makeHttpRig({ dialect: "llama-server" }, { limits: { idleMs: 10 } });
    const said = async (text: string) => {
      while (!rig.lines.some((line) => line.includes(text))) await sleep(5);
    };
    await rig.server.stop();
    await said("is down");
    rig.server.mischief = { path: { path: "/props", code: 404, times: 1_000_000 } };
    await rig.server.start();
    await said("not as what can be used");
    expect(rig.engine.health()).toMatchObject({ state: "down" });
    rig.server.mischief = {};
    await said("is back after");
    expect(rig.engine.health()).toEqual({ state: "up" });
  });

  it("ends an answer whose stream does not end, and takes an unknown reason as a stop", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    rig.server.mischief = { finishReason: "because" };
    expect(await complete(rig.engine, chat("Why?"))).toMatchObject({ finish: "stop" });
    expect(rig.lines.join("\n")).toMatch(/because/);
    rig.server.mischief = { neverEnds: true };
    expect(await complete(rig.engine, chat("Why?"))).toMatchObject({ finish: "stop" });
  });

  it("takes up again what the server gave up", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const whole = await complete(rig.engine, CALL);
    rig.server.mischief = { after: { tokens: 4, times: 1, what: "abort" } };
    expect(await complete(rig.engine, CALL)).toEqual({ ...whole, texts: expect.any(Array) });
  });

  it("opens and resumes calls while the server is down, once it is back", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const whole = await complete(rig.engine, CALL);
    await rig.server.stop();
    const fresh = await open(rig.engine, CALL);
    const resumed = open(rig.engine, CALL, whole.ids.slice(0, 5));
    await stepUntil(rig.engine, [fresh], () => rig.engine.health().state === "down");
    await rig.server.start();
    expect((await advanceOne(rig.engine, fresh)).text).toBe(whole.text);
    const call = await resumed;
    expect(call.forcedText + (await advanceOne(rig.engine, call)).text).toBe(whole.text);
  });

  it("shuts down while the server is down", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const call = await open(rig.engine, CALL);
    await rig.server.stop();
    await stepUntil(rig.engine, [call], () => rig.engine.health().state === "down");
    await rig.engine.shutdown();
    await expect(rig.engine.step([call])).rejects.toThrow();
    await expect(open(rig.engine, CALL)).rejects.toMatchObject({ code: "engine_error" });
  });
});

it("calls go on where vLLM comes back without priority scheduling", async () => {
  const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 1 });
  const chats = [0, 1].map((i) => chat(`With priority ${i}.`, { completionTokensMax: 60 }));
  const wholes = [];
  for (const one of chats) wholes.push(await complete(rig.engine, one));
  const calls = await Promise.all(chats.map((one) => open(rig.engine, one)));
  const first = await advance(rig.engine, calls, 3);
  await rig.server.stop();
  rig.server.options.noPriority = true;
  await rig.server.start();
  const rest = await advance(rig.engine, calls);
  expect(calls.map((_, i) => `${first[i]?.text}${rest[i]?.text}`)).toEqual(wholes.map(({ text }) => text));
  const later = await complete(rig.engine, chat("Another.", { completionTokensMax: 5 }));
  expect(later.finish).toBe("length");
  expect(rig.server.requests.at(-1)?.body).not.toHaveProperty("priority");
  expect(rig.engine.server().failedCalls).toBe(0);
});
