/** The load as a client sends it. */
import type { CallBody, Endpoint } from "../http.ts";
import { type DecodeLoad, promptOf, TEMPERATURE } from "./load.ts";

const CALL_MS_MAX = 300_000;

/** All calls at once, each to its end. @returns tokens of the answers. @throws when one fails. */
export async function callAll(endpoint: Endpoint, model: string, load: DecodeLoad): Promise<number> {
  const answers = await Promise.all(
    Array.from({ length: load.batch }, (_, index) => {
      const body: CallBody = {
        model,
        messages: [{ role: "user", content: promptOf(load, index) }],
        max_tokens: load.tokens,
        temperature: TEMPERATURE,
        stream: true,
        stream_options: { include_usage: true },
      };
      return endpoint.send(body, {}, CALL_MS_MAX);
    }),
  );
  const failed = answers.find(({ complete, error }) => !complete || error !== undefined);
  if (failed !== undefined) throw new Error(`a call ended with ${failed.error ?? "half an answer"}`);
  return answers.reduce((sum, { completionTokens }) => sum + (completionTokens ?? 0), 0);
}

/** Tokens of all answers over the time from the first request to the last end. */
export async function tokensPerS(endpoint: Endpoint, model: string, load: DecodeLoad): Promise<number> {
  const startMs = performance.now();
  const tokens = await callAll(endpoint, model, load);
  return (1_000 * tokens) / (performance.now() - startMs);
}
