/** What the engine finds out about a server, and what it asks of it. SGLang is known from its documentation only. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { type HttpEngineOptions, openHttpEngine } from "../src/http/index.ts";
import { ConformanceServer, type ServerOptions } from "./conformance-server/index.ts";
import { decode } from "./conformance-server/model.ts";
import { CERTIFICATE } from "./conformance-server/tls.ts";
import { contentOf, toolCallsOf } from "./contract/parameters.ts";
import { advanceOne, chat, complete, open } from "./contract.ts";
import { disposeRigs, FAST, makeHttpRig } from "./http-rig.ts";

afterEach(disposeRigs);

async function refusal(server: ServerOptions, options: Partial<HttpEngineOptions> = {}): Promise<string> {
  const running = await new ConformanceServer(server).start();
  try {
    const engine = await openHttpEngine({ url: running.url, limits: FAST, ...options });
    await engine.shutdown();
    return "";
  } catch (error) {
    return (error as Error).message;
  } finally {
    await running.stop();
  }
}

describe("discovery", () => {
  it.each([
    ["vllm", { kvBlocks: 64, blockTokens: 32, contextTokensMax: 512, preemption: "recompute" }],
    ["sglang", { kvBlocks: 256, blockTokens: 16, contextTokensMax: 512, preemption: "recompute" }],
    ["llama-server", { kvBlocks: 128, blockTokens: 16, contextTokensMax: 512, preemption: "recompute" }],
    ["openai", { kvBlocks: 32_768, blockTokens: 16, contextTokensMax: 131_072, preemption: "none" }],
  ] as const)("knows %s by what it says", async (dialect, info) => {
    const rig = await makeHttpRig({ dialect });
    expect(rig.engine.info).toEqual({
      kind: "http",
      models: ["conformance"],
      batchCallsMax: 4,
      residentCallsMax: 4,
      heldCallsMax: 1_024,
      forwards: true,
      ...info,
    });
    expect(rig.lines[0]).toContain(`is ${dialect}: model "conformance", 4 slots`);
  });

  it("needs to be told the slots only where the server does not say them", async () => {
    expect(await refusal({ dialect: "vllm" })).toMatch(/--slots .*--max-num-seqs/);
    expect(await refusal({ dialect: "openai" })).toMatch(/--slots/);
    expect(await refusal({ dialect: "sglang" })).toBe("");
    expect(await refusal({ dialect: "llama-server" })).toBe("");
    expect(await refusal({ dialect: "vllm" }, { slots: 0 })).toMatch(/slots must be/);
  });

  it("uses no more slots than the server has, and as few as it is told", async () => {
    const rig = await makeHttpRig({ dialect: "llama-server", slots: 3 }, { slots: 8 });
    expect(rig.engine.info.batchCallsMax).toBe(3);
    expect(rig.lines.join("\n")).toMatch(/warn: .*it has 3 slots: 8 were asked for, 3 are used/);
    expect((await makeHttpRig({ dialect: "sglang", slots: 3 }, { slots: 2 })).engine.info.batchCallsMax).toBe(2);
  });

  it("takes the shorter of the server's context and the operator's", async () => {
    const contextOf = async (contextTokensMax: number) =>
      (await makeHttpRig({ dialect: "vllm" }, { contextTokensMax })).engine.info.contextTokensMax;
    expect([await contextOf(100), await contextOf(1_000)]).toEqual([100, 512]);
  });

  it("offers the model under its aliases, and asks for it by the server's name", async () => {
    const rig = await makeHttpRig(
      { dialect: "vllm", models: ["org/base", "org/tuned"] },
      { models: ["chat", "org/tuned"] },
    );
    expect(rig.engine.info.models).toEqual(["chat", "org/tuned"]);
    await complete(rig.engine, chat("Hello.", { model: "chat" }));
    expect(rig.server.requests.map(({ body }) => body.model)).toEqual(["org/tuned"]);
  });

  it("says so when the API key is refused", async () => {
    expect(await refusal({ dialect: "vllm", apiKey: "right" }, { slots: 4, apiKey: "wrong" })).toMatch(
      /does not accept its API key \(status 401\)\. See --api-key-env/,
    );
    expect(await refusal({ dialect: "vllm", apiKey: "right" }, { slots: 4, apiKey: "right" })).toBe("");
  });

  it("trusts the operator's certificates, and no others", async () => {
    const server = await new ConformanceServer({ dialect: "vllm", tls: true }).start();
    const engine = await openHttpEngine({ url: server.url, slots: 4, ca: CERTIFICATE, limits: FAST });
    expect((await complete(engine, chat("Hello."))).text.length).toBeGreaterThan(0);
    await engine.shutdown();
    const opened = openHttpEngine({ url: server.url, slots: 4, limits: FAST });
    await expect(opened).rejects.toThrow(/certificate.*DEPTH_ZERO_SELF_SIGNED_CERT.*--ca/);
    await server.stop();
  });

  it("says so when the URL is none, and when the server is another than it was said to be", async () => {
    await expect(openHttpEngine({ url: "localhost" })).rejects.toThrow(/is no URL|must begin with http/);
    await expect(openHttpEngine({ url: "ftp://localhost" })).rejects.toThrow(/http:\/\/ or https:\/\//);
    expect(await refusal({ dialect: "vllm" }, { dialect: "llama-server", slots: 4 })).toMatch(/status 404|Not Found/);
    const other = createServer((_, response) => response.writeHead(status).end("<html>")).listen(0, "127.0.0.1");
    await new Promise((resolve) => other.on("listening", resolve));
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}/v1`;
    let status = 200;
    await expect(openHttpEngine({ url })).rejects.toThrow(/no list of models|not a list of models/);
    for (status of [404, 308]) {
      await expect(openHttpEngine({ url })).rejects.toThrow(
        /^http:\/\/127\.0\.0\.1:\d+\/ (?:has no|sends requests for) \/v1\/models .*\(status \d+\): is it the server's URL\?$/,
      );
    }
    other.close();
  });

  it("waits for a server that is not there yet, says so, and can be told to stop waiting", async () => {
    const server = await new ConformanceServer({ dialect: "vllm" }).start();
    const { url } = server;
    await server.stop();
    const said: string[] = [];
    const waiting = new AbortController();
    const wait = (signal: AbortSignal) => {
      const asked = new Promise<void>((resolve) => {
        void openHttpEngine({
          url: `${url}/v1/`,
          slots: 4,
          limits: FAST,
          signal,
          progress: (text) => {
            said.push(text);
            resolve();
          },
        }).then(opened.resolve, opened.reject);
      });
      return asked;
    };
    let opened = Promise.withResolvers<Awaited<ReturnType<typeof openHttpEngine>>>();
    await wait(waiting.signal);
    expect(said[0]).toMatch(/^waiting for the server at 127\.0\.0\.1:\d+: the connection broke \(ECONNREFUSED\)$/);
    waiting.abort(new Error("enough"));
    await expect(opened.promise).rejects.toThrow();
    opened = Promise.withResolvers();
    await wait(new AbortController().signal);
    await server.start();
    const engine = await opened.promise;
    expect(engine.info.models).toEqual(["conformance"]);
    await engine.shutdown();
    await server.stop();
  });

  it.each([
    ["vllm", "/tokenize", 503],
    ["vllm", "/v1/completions", 429],
    ["vllm", "/metrics", 500],
    ["sglang", "/v1/chat/completions", 503],
    ["sglang", "/v1/completions", 425],
  ] as const)("of %s asks again when %s says that it cannot now (%i)", async (dialect, path, code) => {
    const rig = await makeHttpRig({ dialect }, {}, { path: { path, code, times: 1 } });
    expect(rig.engine.info.preemption).toBe("recompute");
    expect(rig.engine.info.kvBlocks).toBe(dialect === "vllm" ? 64 : 256);
    await complete(rig.engine, chat("Hello.", { completionTokensMax: 3 }));
    if (dialect === "vllm") expect(rig.server.requests[0]?.body.priority).toBe(0);
  });

  it("takes a refusal for an answer", async () => {
    for (const code of [400, 404, 501]) {
      const rig = await makeHttpRig({ dialect: "vllm" }, {}, { path: { path: "/tokenize", code, times: 1 } });
      expect(rig.engine.info.preemption).toBe("none");
    }
  });

  it("does without token ids where a version has none", async () => {
    for (const dialect of ["vllm", "sglang"] as const) {
      const rig = await makeHttpRig({ dialect, noIds: true });
      expect(rig.engine.info.preemption).toBe("none");
      expect((await complete(rig.engine, chat("Hello."))).text.length).toBeGreaterThan(0);
      await expect(open(rig.engine, chat("Hello."), [20])).rejects.toMatchObject({ code: "engine_error" });
    }
  });

  it.each([
    ["sglang", { reasoning_parser: "qwen3" }],
    ["llama-server", { chat_template: "{{ messages }}<think>" }],
  ] as const)("leaves reasoning to %s's chat", async (dialect, extra) => {
    const rig = await makeHttpRig({ dialect, extra });
    await complete(rig.engine, chat("Hello.", { completionTokensMax: 5 }));
    expect(rig.server.requests.map(({ path }) => path)).toEqual(["/v1/chat/completions"]);
  });
});

describe("requests", () => {
  const VENDOR = { top_k: 7, min_p: 0.1, guided_choice: ["a"], chat_template_kwargs: { thinking: false } };

  it("pass the body through, but for what streaming and resuming need", async () => {
    const rig = await makeHttpRig({ dialect: "vllm" });
    const messages = [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "image_url", image_url: {} },
        ],
      },
    ];
    const body = {
      model: "whatever",
      messages,
      stream: false,
      stream_options: { continuous_usage_stats: true },
      stop: ["never in it"],
      tools: [{ type: "function", function: { name: "f" } }],
      tool_choice: "auto",
      max_tokens: 9,
      user: "someone",
      ...VENDOR,
    };
    const call = await rig.engine.open({ key: "t/c", chat: chat("a"), body, forcedIds: [] });
    await advanceOne(rig.engine, call);
    expect(rig.server.requests).toEqual([
      {
        path: "/v1/chat/completions",
        body: {
          ...body,
          model: "conformance",
          stream: true,
          stream_options: { continuous_usage_stats: true, include_usage: true },
          return_token_ids: true,
          priority: 0,
        },
      },
    ]);
    expect(body.stream).toBe(false);
  });

  it("carry the sampling parameters over when they go on by ids, with what is left of max_tokens", async () => {
    const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 3 });
    const sampling = { temperature: 0.5, top_p: 0.9, top_k: 7, min_p: 0.1, logit_bias: { "300": 1 }, ignore_eos: true };
    const body = { messages: [{ role: "user", content: "a" }], max_tokens: 200, stop: "zzz", ...sampling };
    const fields = { completionTokensMax: 200, stop: ["zzz"], temperature: 0.5 };
    const call = await rig.engine.open({ key: "t/c", chat: chat("a", fields), body, forcedIds: [] });
    while (call.completionTokens < 5) await rig.engine.step([call]);
    await rig.engine.park(call);
    const known = call.completionTokens;
    while (call.completionTokens === known) await rig.engine.step([call]);
    await rig.engine.close(call);
    const [first, ...later] = rig.server.requests;
    const second = later.find(({ body }) => body.stream === true);
    expect(first?.body).not.toHaveProperty("stop");
    expect(second?.path).toBe("/v1/completions");
    const { prompt, max_tokens, ...rest } = (second?.body ?? {}) as { prompt: number[]; max_tokens: number };
    expect(rest).toEqual({
      ...sampling,
      model: "conformance",
      stream: true,
      stream_options: { include_usage: true },
      return_token_ids: true,
      priority: 0,
    });
    const ids = prompt.slice(call.promptTokens);
    expect(ids).toEqual(call.ids.slice(0, ids.length));
    expect(max_tokens).toBe(200 - ids.length);
  });

  it("carry a priority by their place, where the server takes it", async () => {
    for (const noPriority of [false, true]) {
      const rig = await makeHttpRig({ dialect: "vllm", noPriority, tokenMs: 1 });
      const calls = await Promise.all([0, 1, 2].map((i) => open(rig.engine, chat(`Call ${i}`))));
      await rig.engine.step(calls);
      await rig.server.until(() => rig.server.requests.length === 3);
      const sent = rig.server.requests.map(({ body }) => [JSON.stringify(body.messages), body.priority]);
      expect(sent.sort()).toEqual(
        [0, 1, 2].map((i) => [expect.stringContaining(`Call ${i}`), noPriority ? undefined : i]),
      );
      await Promise.all(calls.map((call) => rig.engine.close(call)));
    }
  });

  it("refuse more than one choice", async () => {
    const { engine } = await makeHttpRig({ dialect: "openai" });
    const open = engine.open({ key: "t/c", chat: chat("a"), body: { n: 2 }, forcedIds: [] });
    await expect(open).rejects.toMatchObject({ code: "invalid_request", param: "n" });
  });
});

describe("answers that are more than text", () => {
  const answer = async (body: Record<string, unknown>, dialect: "vllm" | "openai" = "vllm") => {
    const rig = await makeHttpRig({ dialect });
    const call = chat("Think.", { completionTokensMax: 12 });
    const opened = await rig.engine.open({
      key: "t/c",
      chat: call,
      body: { messages: call.messages, temperature: 0, max_tokens: 12, ...body },
      forcedIds: [],
    });
    const told = await advanceOne(rig.engine, opened);
    return { rig, opened, told, plain: await complete(rig.engine, call) };
  };

  it("bring tool calls in order", async () => {
    const tools = { tools: [{ type: "function", function: { name: "f" } }] };
    const { opened, told } = await answer(tools);
    const call = { id: "call_1", type: "function", name: "f", arguments: decode(opened.ids).replace(/\ufffd$/, "") };
    expect(toolCallsOf(told.deltas)).toEqual([call]);
    expect([told.text, told.finish]).toEqual(["", opened.ids.length === 12 ? "length" : "tool_calls"]);
    expect(toolCallsOf((await answer(tools, "openai")).told.deltas)).toEqual([call]);
  });

  it("bring reasoning, and stop sequences are the server's there", async () => {
    const { rig, told, plain } = await answer({ think: true, stop: ["zzz"] });
    expect(told.deltas.map(({ delta }) => delta.reasoning_content ?? "").join("")).toBe(plain.text);
    expect(told.text).toBe("");
    expect(rig.server.requests[0]?.body.stop).toEqual(["zzz"]);
  });

  it("bring logprobs beside the text that they belong to", async () => {
    const { told, plain } = await answer({ logprobs: true });
    expect(contentOf(told.deltas)).toBe(plain.text);
    expect(told.text).toBe(plain.text);
    const tokens = told.deltas.flatMap(({ logprobs }) => (logprobs as { content: unknown[] }).content);
    expect(tokens).toHaveLength(told.tokens);
  });

  it("end as the server says", async () => {
    const rig = await makeHttpRig({ dialect: "openai" });
    rig.server.mischief = { finishReason: "function_call" };
    expect(await complete(rig.engine, chat("Why?"))).toMatchObject({ finish: "function_call" });
  });

  it.each([false, true])(
    "are counted once, by what a stream says last: usage in every chunk %s",
    async (continuous) => {
      const rig = await makeHttpRig({ dialect: "vllm" });
      const call = chat("Count.", { completionTokensMax: 12 });
      const stream_options = { include_usage: true, continuous_usage_stats: continuous };
      const body = { messages: call.messages, temperature: 0, max_tokens: 12, stream_options };
      const opened = await rig.engine.open({ key: "t/c", chat: call, body, forcedIds: [] });
      await advanceOne(rig.engine, opened);
      const { prefilledTokens, cachedTokens } = rig.engine.counters();
      expect([prefilledTokens, cachedTokens]).toEqual([opened.promptTokens - 3, 3]);
    },
  );

  it("say what the server counted", async () => {
    const { opened, told } = await answer({});
    expect(opened.completionTokens).toBe(told.finish === "stop" ? told.tokens + 1 : told.tokens);
    expect([opened.cachedTokens, opened.promptTokens > 3]).toEqual([3, true]);
  });

  it("count what a server without ids says", async () => {
    const { opened, told, plain } = await answer({}, "openai");
    expect([told.text, opened.ids, opened.cachedTokens]).toEqual([plain.text, [], 3]);
    expect(opened.completionTokens).toBe(12);
  });
});
