/** Parameters beyond plain text: an engine serves them in OpenAI's shape or refuses them by name, never ignores them. */
import type { AnswerDelta, ChatCall } from "@autellix/protocol";
import { expect } from "vitest";
import { type Answer, chat, complete, itIf, type Rig, type Traits } from "./subject.ts";

export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
};
export const TOOL = { name: "get_weather", description: "The weather in a city.", parameters: SCHEMA };
const ROOM = { completionTokensMax: 300 };

export function parameterTests(rig: Rig, can: Traits): void {
  /** @returns undefined when the engine refuses the call as it must: as unsupported, by the field's name. */
  const served = async (call: ChatCall, param: string): Promise<Answer | undefined> => {
    try {
      return await complete(rig.engine, call);
    } catch (error) {
      // Some chat formats explain tools at such length that they do not fit these contexts.
      if (param === "tool" && (error as { code?: string }).code === "context_length_exceeded") return undefined;
      expect(error).toMatchObject({ code: "unsupported_parameter", param: expect.stringContaining(param) });
      return undefined;
    }
  };

  itIf(!can.forwards)("refuses a call with fields that it does not get, naming the first", async () => {
    const foreign = ["messages[0].content[1].type", "guided_regex"];
    await expect(complete(rig.engine, { ...rig.short, foreign })).rejects.toMatchObject({
      code: "unsupported_parameter",
      param: foreign[0],
    });
  });

  itIf(!can.forwards)("serves logprobs in OpenAI's shape, or refuses them", async () => {
    const answer = await served({ ...rig.short, logprobs: 2 }, "logprobs");
    if (answer === undefined) return;
    expect(answer.text).toBe(rig.whole.text);
    expect(contentOf(answer.deltas)).toBe(answer.text);
    const items = logprobsOf(answer.deltas);
    for (const item of items) {
      expect(item.top_logprobs).toHaveLength(2);
      expect([item.logprob <= 0, item.token, Array.isArray(item.bytes)]).toEqual([true, expect.any(String), true]);
      const tops = item.top_logprobs.map((top) => top.logprob);
      expect(tops).toEqual([...tops].sort((a, b) => b - a));
    }
    expect(Buffer.from(items.flatMap((item) => item.bytes)).toString()).toBe(answer.text);
  });

  itIf(!can.forwards)("serves a JSON schema with an answer that validates, or refuses it", async () => {
    for (let seed = 0; seed < 4; seed++) {
      const format = { type: "json_schema" as const, schema: SCHEMA };
      const call = chat("Weather?", { ...ROOM, responseFormat: format, temperature: seed === 0 ? 0 : 1, seed });
      const answer = await served(call, "response_format");
      if (answer === undefined) return;
      expect(answer.finish).toBe("stop");
      expectArguments(answer.text);
    }
  });

  itIf(!can.forwards)("serves a JSON object, or refuses it", async () => {
    const call = chat("Some JSON.", { completionTokensMax: 400, responseFormat: { type: "json_object" } });
    const answer = await served(call, "response_format");
    if (answer?.finish === "stop") expect(JSON.parse(answer.text)).toEqual(expect.any(Object));
  });

  itIf(!can.forwards)("serves tool calls that it must make, or refuses tools", async () => {
    for (const toolChoice of ["required", { name: "get_weather" }] as const) {
      const call = chat("Weather?", { ...ROOM, tools: [TOOL], toolChoice, parallelToolCalls: false });
      const answer = await served(call, "tool");
      if (answer === undefined) return;
      expect([answer.finish, answer.text]).toEqual(["tool_calls", ""]);
      const [made, ...more] = toolCallsOf(answer.deltas);
      expect([made?.type, made?.name, more, (made?.id.length ?? 0) > 8]).toEqual(["function", TOOL.name, [], true]);
      expectArguments(made?.arguments ?? "");
    }
  });

  itIf(!can.forwards)("answers with plain text where no tool may be called, or refuses tools", async () => {
    const call = chat("Weather?", { completionTokensMax: 20, tools: [TOOL], toolChoice: "none" });
    const answer = await served(call, "tool");
    if (answer !== undefined) expect([toolCallsOf(answer.deltas), answer.finish]).not.toContain("tool_calls");
  });
}

export function expectArguments(text: string): void {
  const value = JSON.parse(text) as { city: string; days: number };
  expect(Object.keys(value).sort()).toEqual(["city", "days"]);
  expect([typeof value.city, Number.isInteger(value.days), [...value.city].length <= 12]).toEqual([
    "string",
    true,
    true,
  ]);
}

export function contentOf(deltas: readonly AnswerDelta[]): string {
  return deltas.map(({ delta }) => (typeof delta.content === "string" ? delta.content : "")).join("");
}

interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[];
  top_logprobs: { token: string; logprob: number; bytes: number[] }[];
}

export function logprobsOf(deltas: readonly AnswerDelta[]): TokenLogprob[] {
  return deltas.flatMap(({ logprobs }) => (logprobs as { content: TokenLogprob[] } | undefined)?.content ?? []);
}

interface MadeCall {
  id: string;
  type: string;
  name: string;
  arguments: string;
}

/** Puts the fragments of a stream together, as clients do. */
export function toolCallsOf(deltas: readonly AnswerDelta[]): MadeCall[] {
  const made: MadeCall[] = [];
  for (const { delta } of deltas) {
    const fragments = (delta.tool_calls ?? []) as {
      index: number;
      id?: string;
      type?: string;
      function?: { name?: string; arguments?: string };
    }[];
    for (const { index, id, type, function: named } of fragments) {
      made[index] ??= { id: "", type: "", name: "", arguments: "" };
      const one = made[index];
      one.id += id ?? "";
      one.type += type ?? "";
      one.name += named?.name ?? "";
      one.arguments += named?.arguments ?? "";
    }
  }
  return made;
}
