/** The HTTP engine on a real llama-server. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type HttpEngine, openHttpEngine } from "@autellix/engines/http";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { advance, bodyOf, chat, complete, engineContract, open, SUBJECT } from "../../libs/engines/test/contract.ts";
import { TINY_SEED } from "./equipment/index.ts";
import { differences, interruptedAnswers, randomCalls, rankOfLlamaServer } from "./interrupted.ts";
import { metric, untilMetric } from "./metrics.ts";
import { isMissing, need } from "./need.ts";
import { type EngineServer, startLlamaServer } from "./servers.ts";
import { decodeTiny, TINY_FOREIGN_ID } from "./tiny.ts";

const { llamaServer } = inject("equipment");
const RUNNING = "llamacpp:requests_processing";
/** Tokens of prompts, without those that it found computed. */
const COMPUTED = "llamacpp:prompt_tokens_total";
const CALLS = 60;
const STEP_MS = 5;
/**
 * llama.cpp rounds what it multiplies to 8 bits, and how depends on where a prompt is cut, which depends on what a slot
 * still holds: two tokens nearer together than this may change places.
 */
const TIE_LOGPROB = 0.25;

describe.skipIf(isMissing(llamaServer))("on llama-server", () => {
  let folder: string;
  const servers: EngineServer[] = [];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "autellix-llama-server-"));
    await writeTinyModel(join(folder, "tiny.gguf"), { seed: TINY_SEED });
  });
  afterAll(async () => {
    for (const server of servers) await server.stop();
    await rm(folder, { recursive: true });
  });

  async function start(args: readonly string[]): Promise<EngineServer> {
    const modelFile = join(folder, "tiny.gguf");
    const { batchCallsMax: slots } = SUBJECT;
    const server = await startLlamaServer({ ...need(llamaServer), env: process.env, modelFile, slots, args });
    servers.push(server);
    return server;
  }

  engineContract(
    "the HTTP engine",
    async () => {
      // A prompt that goes on from what a slot still holds is cut elsewhere, and numerics change greedy answers.
      const { url } = await start(["--no-cache-prompt"]);
      const engine = await openHttpEngine({ url, contextTokensMax: SUBJECT.contextTokensMax });
      return { engine, decode: decodeTiny, foreignId: TINY_FOREIGN_ID };
    },
    ({ engine }) => engine.shutdown(),
    { exactBatch: false, contexts: false, forwards: true },
  );

  describe("the HTTP engine", () => {
    let server: EngineServer;
    let engine: HttpEngine;
    beforeAll(async () => {
      server = await start([]);
      // Short steps: interruptions fall between a few tokens.
      engine = await openHttpEngine({ url: server.url, limits: { stepMs: STEP_MS } });
    });
    afterAll(() => engine?.shutdown());

    it("knows the server, its slots and their contexts", () => {
      expect(engine.info).toMatchObject({
        kind: "http",
        models: ["tiny"],
        preemption: "recompute",
        batchCallsMax: SUBJECT.batchCallsMax,
        contextTokensMax: 1_024,
      });
    });

    it(`gives ${CALLS} random calls the same greedy answers when they are interrupted 1–5 times`, async () => {
      const calls = randomCalls(CALLS, 1);
      const whole = await interruptedAnswers(engine, calls, 0);
      const interrupted = await interruptedAnswers(engine, calls, 1);
      expect(interrupted.broken).toEqual([]);
      const by = { rank: rankOfLlamaServer(server.url), tieLogprob: TIE_LOGPROB };
      const different = await differences(whole.answers, interrupted.answers, by);
      // The same calls beside others, uninterrupted: what numerics do without us.
      const beside = (await interruptedAnswers(engine, calls.toReversed(), 0)).answers.toReversed();
      console.log(
        `${CALLS} calls, ${interrupted.interruptions} interruptions (${interrupted.inPrompt} before the first token): ${different.length} answers differ,`,
        `of two tokens ${different.map(({ logprobGap }) => logprobGap?.toFixed(3)).join(" ")} apart in logprob;`,
        `${(await differences(whole.answers, beside, by)).length} differ uninterrupted, beside other calls`,
      );
      expect(different.filter(({ explained }) => !explained)).toEqual([]);
    });

    it("frees the server's slot when a call is cancelled", async () => {
      const long = chat("Tell me more.", { completionTokensMax: 900 });
      const body = { ...bodyOf(long), ignore_eos: true };
      const call = await engine.open({ key: "test/long", chat: long, body, forcedIds: [] });
      while (call.completionTokens === 0) await engine.step([call]);
      await engine.close(call);
      await untilMetric(server.url, RUNNING, (running) => running === 0);
      // Had it gone on, the answer would be there.
      expect(call.completionTokens).toBeLessThan(900);
    });

    it("finds the context of a parked call in the server's host memory when all slots had others since", async () => {
      const prompt = (name: string) => chat(`${name} `.repeat(100), { completionTokensMax: 20 });
      const parked = await open(engine, prompt("parked"));
      while (parked.completionTokens < 5) await engine.step([parked]);
      // The first step without it closes its stream.
      for (let i = 0; i < 2 * SUBJECT.batchCallsMax; i++) await complete(engine, prompt(`other ${i}`));
      await untilMetric(server.url, RUNNING, (running) => running === 0);
      const before = await metric(server.url, COMPUTED);
      await advance(engine, [parked]);
      const computed = (await metric(server.url, COMPUTED)) - before;
      await engine.close(parked);
      expect(parked.promptTokens).toBeGreaterThan(200);
      expect(computed).toBeLessThan(10);
    });

    it("goes on with its calls when the server is killed under them and comes back", async () => {
      const questions = Array.from({ length: SUBJECT.batchCallsMax }, (_, i) => chat(`Tell me about crash ${i}.`));
      const wanted: string[] = [];
      for (const question of questions) wanted.push((await complete(engine, question)).text);
      const calls = await Promise.all(questions.map((question) => open(engine, question)));
      await server.kill();
      const [answers] = await Promise.all([advance(engine, calls), server.restart()]);
      expect(answers.map(({ text }) => text)).toEqual(wanted);
      await Promise.all(calls.map((call) => engine.close(call)));
    });
  });
});
