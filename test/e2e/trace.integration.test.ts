/** `npm start -- --trace FILE`: what clients asked for is recorded, without a word of it, and comes back as programs. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCallTrace } from "@autellix/protocol/call-trace";
import { programsOfTrace } from "@autellix/simulation";
import OpenAI from "openai";
import { expect, onTestFinished, test } from "vitest";
import { startTestStack } from "../support/stack.ts";

const PROGRAM = "trip of Mrs Miller";
const QUESTION = "Where is the harbour?";
const TURNS = 3;

test("a trace of two frontends holds the calls of both, and is played as the programs that they were", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autellix-trace-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const stack = await startTestStack({ frontends: 2, args: ["--trace", join(folder, "trace.jsonl")] });
  const told: { promptTokens: number; completionTokens: number; serviceMs: number }[] = [];
  try {
    const messages: OpenAI.ChatCompletionMessageParam[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      messages.push({ role: "user", content: QUESTION });
      const baseURL = `${stack.urls[turn % 2]}/v1`;
      const openai = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
      const completion = await openai.chat.completions.create(
        { model: "tiny", messages, temperature: 0, max_completion_tokens: 8 },
        { headers: { "Autellix-Program-Id": PROGRAM } },
      );
      messages.push({ role: "assistant", content: completion.choices[0]?.message.content ?? "" });
      const { usage, autellix } = completion as typeof completion & { autellix: { service_ms: number } };
      told.push({
        promptTokens: usage?.prompt_tokens ?? Number.NaN,
        completionTokens: usage?.completion_tokens ?? Number.NaN,
        serviceMs: autellix.service_ms,
      });
    }
  } finally {
    await stack.stop();
  }

  expect((await readdir(folder)).sort()).toEqual(["trace.frontend-0.jsonl", "trace.frontend-1.jsonl"]);
  const texts = await Promise.all(["0", "1"].map((n) => readFile(join(folder, `trace.frontend-${n}.jsonl`), "utf8")));
  for (const secret of [PROGRAM, "Miller", QUESTION, "harbour"]) expect(texts.join("")).not.toContain(secret);

  const { calls, torn } = await readCallTrace(texts.join("").split("\n"));
  expect(torn).toBe(false);
  expect(calls.map(({ status, model }) => [status, model])).toEqual(told.map(() => ["completed", "tiny"]));
  expect(
    calls.map(({ promptTokens, completionTokens, serviceMs }) => ({ promptTokens, completionTokens, serviceMs })),
  ).toEqual(told);

  const { programs } = programsOfTrace(calls);
  expect(programs).toHaveLength(1);
  expect(programs[0]?.calls.map(({ parents }) => parents)).toEqual([[], [0], [1]]);
  expect(programs[0]?.calls.map(({ decodeTokens }) => decodeTokens)).toEqual(told.map((call) => call.completionTokens));
});
