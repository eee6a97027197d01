/** How long a server is waited for, and when it is left alone. */
import { afterEach, describe, expect, it } from "vitest";
import { advanceOne, chat, complete, open } from "./contract.ts";
import { disposeRigs, makeHttpRig, stepUntil } from "./http-rig.ts";

afterEach(disposeRigs);

const CALL = chat("Tell me something.", { completionTokensMax: 40 });

describe("a server that says when to come again", () => {
  it("is waited for, however often it says so", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { triesMax: 3 } });
    const whole = await complete(rig.engine, CALL);
    rig.server.requests.length = 0;
    rig.server.mischief = { status: { code: 429, times: 10, retryAfter: "0" } };
    expect((await complete(rig.engine, CALL)).text).toBe(whole.text);
    expect(rig.server.requests).toHaveLength(11);
  });

  it("gets no request before, from no call, but within the limit", async () => {
    const retryAfterMsMax = 200;
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { retryAfterMsMax } });
    rig.server.mischief = { status: { code: 429, times: 1, retryAfter: new Date(Date.now() + 60_000).toUTCString() } };
    const calls = [await open(rig.engine, CALL)];
    await stepUntil(rig.engine, calls, () => rig.engine.server().failures === 1);
    const toldMs = performance.now();
    calls.push(await open(rig.engine, chat("Another.")));
    await stepUntil(rig.engine, calls, () => rig.server.requests.length > 1);
    // The pause began up to a step before we saw it.
    expect(performance.now() - toldMs).toBeGreaterThan(retryAfterMsMax / 2);
    await stepUntil(rig.engine, calls, () => calls.every((call) => call.completionTokens > 0));
    await Promise.all(calls.map((call) => rig.engine.close(call)));
  });
});

describe("a look at a server whose list of models", () => {
  const broken = async (code: number) => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const path = { path: "/v1/models", code, times: 1 };
    rig.server.mischief = { after: { tokens: 3, times: 1, what: "close" }, path };
    expect((await complete(rig.engine, CALL)).finish).toBeDefined();
    return { downs: rig.engine.server().downs, said: rig.lines.join("\n") };
  };

  it.each([401, 403, 429])("is refused with status %i finds it up", async (code) => {
    expect((await broken(code)).downs).toBe(0);
  });

  it("fails finds it down, but does not say that the model is gone", async () => {
    const { downs, said } = await broken(503);
    expect(downs).toBe(1);
    expect(said).not.toMatch(/no longer serves/);
  });

  it("lacks the model says so", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const call = await open(rig.engine, CALL);
    rig.server.options.models = ["another"];
    rig.server.mischief = { after: { tokens: 0, times: 1, what: "close" }, status: { code: 503, times: 1 } };
    await stepUntil(rig.engine, [call], () => rig.engine.health().state === "down");
    expect(rig.lines.join("\n")).toMatch(/no longer serves "conformance"/);
  });
});

describe("the HTTP engine", () => {
  it("does not wait long for a count that it can do without", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" }, { limits: { tokenizeMsMax: 20 } });
    rig.server.mischief = { path: { path: "/tokenize", times: 1_000 } };
    const call = await open(rig.engine, CALL);
    expect((await advanceOne(rig.engine, call)).finish).toBeDefined();
  });

  it.each([{}, { tools: [{ type: "function", function: { name: "f" } }] }])(
    "gives SGLang as long for a prompt whose ids it asks for as for a stream: %j",
    async (more) => {
      const rig = await makeHttpRig({ dialect: "sglang" }, { limits: { answerMsMax: 200 } });
      rig.server.options.tokenMs = 400;
      const asked = chat("Slow.", { completionTokensMax: 1 });
      const body = { messages: asked.messages, temperature: 0, max_tokens: 1, ...more };
      const call = await rig.engine.open({ key: "t/c", chat: asked, body, forcedIds: [] });
      expect((await advanceOne(rig.engine, call)).finish).toBeDefined();
      expect(rig.engine.server().failures).toBe(0);
    },
  );
});
