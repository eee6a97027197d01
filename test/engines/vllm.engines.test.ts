/** The HTTP engine on a real vLLM. */
import { type HttpEngine, type HttpEngineOptions, openHttpEngine } from "@autellix/engines/http";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { advanceOne, bodyOf, chat, complete, engineContract, open, SUBJECT } from "../../libs/engines/test/contract.ts";
import { differences, interruptedAnswers, randomCalls, rankOfVllm } from "./interrupted.ts";
import { metric, untilMetric } from "./metrics.ts";
import { isMissing, need } from "./need.ts";
import { type EngineServer, startVllm } from "./servers.ts";
import { decodeTiny, TINY_FOREIGN_ID } from "./tiny.ts";

const { vllm } = inject("equipment");
const RUNNING = "vllm:num_requests_running";
const KV_USED = "vllm:kv_cache_usage_perc";
/** Issue 6, 2: random calls, each interrupted 1–5 times. */
const CALLS = 200;
const CANCELS = 40;
const STEP_MS = 5;
const STEPS_WHILE_DOWN = 50;
/** Long enough that none has ended when all have begun. */
const CRASH_TOKENS = 60;
/** Sums of 32 bits in another order: two tokens nearer together than this may change places. */
const TIE_LOGPROB = 1e-3;

describe.skipIf(isMissing(vllm))("on vLLM", () => {
  let server: EngineServer;
  beforeAll(async () => {
    server = await startVllm({ ...need(vllm), env: process.env, slots: SUBJECT.batchCallsMax });
  });
  afterAll(() => server?.stop());
  const openEngine = (options: Partial<HttpEngineOptions>) =>
    openHttpEngine({ url: server.url, slots: SUBJECT.batchCallsMax, ...options });

  engineContract(
    "the HTTP engine",
    async () => ({
      engine: await openEngine({ contextTokensMax: SUBJECT.contextTokensMax }),
      decode: decodeTiny,
      foreignId: TINY_FOREIGN_ID,
    }),
    ({ engine }) => engine.shutdown(),
    { exactBatch: false, contexts: false, forwards: true },
  );

  describe("the HTTP engine", () => {
    let engine: HttpEngine;
    beforeAll(async () => {
      // Short steps: interruptions fall between a few tokens.
      engine = await openEngine({ limits: { stepMs: STEP_MS } });
    });
    afterAll(() => engine?.shutdown());

    it("knows the server", () => {
      expect(engine.info).toMatchObject({
        kind: "http",
        models: ["tiny"],
        preemption: "recompute",
        batchCallsMax: SUBJECT.batchCallsMax,
        contextTokensMax: 4_096,
      });
    });

    it(`gives ${CALLS} random calls the same greedy answers when they are interrupted 1–5 times`, async () => {
      const calls = randomCalls(CALLS, 1);
      const whole = await interruptedAnswers(engine, calls, 0);
      const interrupted = await interruptedAnswers(engine, calls, 1);
      expect(interrupted.interruptions).toBeGreaterThanOrEqual(CALLS);
      expect(interrupted.broken).toEqual([]);
      const different = await differences(whole.answers, interrupted.answers, {
        rank: rankOfVllm(server.url),
        tieLogprob: TIE_LOGPROB,
      });
      console.log(
        `${CALLS} calls, ${interrupted.interruptions} interruptions (${interrupted.inPrompt} before the first token): ${different.length} answers differ`,
        different,
      );
      expect(different.filter(({ explained }) => !explained)).toEqual([]);
    });

    it.each([
      ["before the stream", { top_k: -5 }, "top_k must be"],
      ["inside it", { logit_bias: { "99999": 5 } }, "out-of-vocab"],
    ])("gives a client's mistake that the server tells %s as its sentence", async (_, fields, sentence) => {
      const hello = chat("Hello.");
      const body = { ...bodyOf(hello), ...fields };
      const call = await engine.open({ key: "test/wrong", chat: hello, body, forcedIds: [] });
      await expect(advanceOne(engine, call)).rejects.toMatchObject({
        code: "invalid_request",
        message: expect.stringContaining(sentence),
      });
      await engine.close(call);
    });
  });
});

// The tiny model's tokens come faster than the server's process for HTTP can hand them on: whatever it is told then,
// it hears seconds later.
describe.skipIf(isMissing(vllm))("on vLLM with a real chat model", () => {
  let server: EngineServer;
  let engine: HttpEngine;
  beforeAll(async () => {
    const { chatModelDir: modelDir, ...python } = need(vllm);
    server = await startVllm({ ...python, modelDir, env: process.env, slots: SUBJECT.batchCallsMax });
    engine = await openHttpEngine({ url: server.url, slots: SUBJECT.batchCallsMax });
  });
  afterAll(async () => {
    await engine?.shutdown();
    await server?.stop();
  });

  it("frees the server's slot and KV when a call is cancelled under load", async () => {
    const long = chat("Tell me more.", { completionTokensMax: 2_000 });
    const times: number[] = [];
    for (let i = 0; i < CANCELS; i++) {
      const calls = await Promise.all(
        Array.from({ length: SUBJECT.batchCallsMax }, (_, place) =>
          engine.open({
            key: `test/long-${i}-${place}`,
            chat: long,
            body: { ...bodyOf(long), ignore_eos: true },
            forcedIds: [],
          }),
        ),
      );
      while (calls.some(({ completionTokens }) => completionTokens === 0)) await engine.step(calls);
      await untilMetric(server.url, RUNNING, (running) => running === SUBJECT.batchCallsMax);
      const [cancelled, ...others] = calls;
      if (cancelled === undefined) throw new Error("no call");
      const closing = engine.close(cancelled);
      times.push(await untilMetric(server.url, RUNNING, (running) => running < SUBJECT.batchCallsMax));
      await closing;
      await Promise.all(others.map((call) => engine.close(call)));
    }
    await untilMetric(server.url, RUNNING, (running) => running === 0);
    expect(await metric(server.url, KV_USED)).toBe(0);
    times.sort((a, b) => a - b);
    console.log(`${CANCELS} cancels, freed after ${times.map(Math.round).join(" ")} ms`);
  });

  it("goes on with its calls when the server is killed under them and comes back", async () => {
    const questions = Array.from({ length: SUBJECT.batchCallsMax }, (_, i) =>
      chat(`Tell me about crash ${i}.`, { completionTokensMax: CRASH_TOKENS }),
    );
    const wanted = [];
    for (const question of questions) wanted.push(await complete(engine, question));
    const calls = await Promise.all(questions.map((question) => open(engine, question)));
    const texts = calls.map(() => "");
    const live = new Set(calls);
    const step = async () => {
      for (const { call, text, finish, error } of (await engine.step([...live])).calls) {
        if (error !== undefined) throw error;
        texts[calls.indexOf(call)] += text;
        if (finish !== undefined) live.delete(call);
      }
    };
    while (texts.some((text) => text === "")) await step();
    expect(live.size).toBeGreaterThan(0);
    await server.kill();
    for (let i = 0; i < STEPS_WHILE_DOWN && live.size > 0; i++) await step();
    await server.restart();
    while (live.size > 0) await step();
    expect(texts).toEqual(wanted.map(({ text }) => text));
    await Promise.all(calls.map((call) => engine.close(call)));
  });
});
