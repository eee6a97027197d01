/** Sampling parameters and structured output of the llama engine, on the tiny model. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LlamaEngine } from "../src/llama/index.ts";
import { contentOf, logprobsOf } from "./contract/parameters.ts";
import { advance, chat, complete, open } from "./contract.ts";
import { expectSameAtEveryCut, type TinyEngine, tinyEngine } from "./llama-parameters.ts";

let tiny: TinyEngine;
let engine: LlamaEngine;
beforeAll(async () => {
  tiny = await tinyEngine();
  engine = tiny.engine;
});
afterAll(() => tiny.dispose());

describe("structured output", () => {
  const cases: [name: string, schema: Record<string, unknown>, check: (value: never) => unknown][] = [
    [
      "optional properties",
      { type: "object", properties: { a: { type: "boolean" }, b: { type: "null" } }, required: ["b"] },
      ({ b }) => b === null,
    ],
    [
      "choices",
      { type: "object", properties: { c: { enum: ["x", 1, null, { deep: true }] } }, required: ["c"] },
      ({ c }) => ["x", 1, null].includes(c) || (c as { deep: boolean }).deep,
    ],
    [
      "lists",
      {
        type: "object",
        properties: { l: { type: "array", items: { type: "integer", minimum: 0 }, minItems: 2, maxItems: 3 } },
        required: ["l"],
      },
      ({ l }) =>
        (l as number[]).length >= 2 &&
        (l as number[]).length <= 3 &&
        (l as number[]).every((n) => Number.isInteger(n) && n >= 0),
    ],
    [
      "references",
      {
        $ref: "#/$defs/node",
        $defs: {
          node: {
            type: "object",
            properties: { kids: { type: "array", items: { $ref: "#/$defs/node" }, maxItems: 1 } },
            required: ["kids"],
          },
        },
      },
      ({ kids }) => Array.isArray(kids),
    ],
    [
      "bounds",
      {
        type: "object",
        properties: {
          n: { type: "integer", minimum: -3, maximum: 120 },
          x: { type: "number", minimum: 0, maximum: 1 },
        },
        required: ["n", "x"],
      },
      ({ n, x }) => Number.isInteger(n) && n >= -3 && n <= 120 && x >= 0 && x <= 1,
    ],
    [
      "odd names",
      {
        type: "object",
        properties: { "": { const: 1 }, 'a"\\b\n': { enum: ["x", 7], type: "string" } },
        required: ["", "constructor"],
      },
      (value) => value[""] === 1 && Object.hasOwn(value, "constructor"),
    ],
    [
      "dates",
      {
        type: "object",
        properties: { d: { type: "string", format: "date" }, u: { type: "string", format: "uuid" } },
        required: ["d", "u"],
      },
      ({ d, u }) => !Number.isNaN(Date.parse(d)) && (u as string).length === 36,
    ],
    [
      "several types",
      {
        type: "object",
        properties: { v: { type: ["number", "null"] }, w: { anyOf: [{ const: "one" }, { type: "boolean" }] } },
        required: ["v", "w"],
      },
      ({ v, w }) => (v === null || Number.isFinite(v)) && (w === "one" || typeof w === "boolean"),
    ],
    [
      "maps",
      { type: "object", additionalProperties: { type: "boolean" } },
      (map) => Object.values(map).every((v) => typeof v === "boolean"),
    ],
    [
      "nothing",
      { type: "object", properties: {}, additionalProperties: false },
      (value) => Object.keys(value).length === 0,
    ],
    [
      "pairs",
      {
        type: "object",
        properties: { p: { type: "array", prefixItems: [{ type: "boolean" }, { type: "null" }], items: false } },
        required: ["p"],
      },
      ({ p }) => typeof p[0] === "boolean" && p[1] === null,
    ],
  ];

  it.each(cases)("is valid JSON of its schema: %s", async (_, schema, check) => {
    let ended = 0;
    for (let seed = 0; seed < 5; seed++) {
      const call = chat("JSON, please.", {
        responseFormat: { type: "json_schema", schema },
        temperature: seed === 0 ? 0 : 1.5,
        seed,
        completionTokensMax: 600,
      });
      const answer = await complete(engine, call);
      if (answer.finish === "length") continue;
      ended++;
      expect([answer.text, check(JSON.parse(answer.text) as never)]).toEqual([answer.text, true]);
    }
    expect(ended).toBeGreaterThan(2);
  });

  it("is the same in a later attempt, wherever the earlier one ended", async () => {
    const schema = { type: "object", properties: { city: { type: "string", maxLength: 8 } }, required: ["city"] };
    const call = chat("JSON.", {
      responseFormat: { type: "json_schema", schema },
      temperature: 1,
      seed: 3,
      completionTokensMax: 200,
    });
    await expectSameAtEveryCut(engine, call, await complete(engine, call), "test/json");
  });

  it("refuses ids that the grammar does not allow", async () => {
    const plain = await complete(engine, chat("Hello.", { completionTokensMax: 5 }));
    const call = chat("JSON.", { responseFormat: { type: "json_object" } });
    await expect(open(engine, call, plain.ids)).rejects.toMatchObject({ code: "engine_error" });
  });

  it.each([
    [
      "response_format.json_schema.schema.properties.a.pattern",
      { type: "object", properties: { a: { type: "string", pattern: "^x" } } },
    ],
    [
      "response_format.json_schema.schema.properties.a.multipleOf",
      { type: "object", properties: { a: { type: "integer", multipleOf: 3 } } },
    ],
    [
      "response_format.json_schema.schema.properties.a.format",
      { type: "object", properties: { a: { type: "string", format: "email" } } },
    ],
    [
      "response_format.json_schema.schema.properties.a.$ref",
      { type: "object", properties: { a: { $ref: "#/nothing" } } },
    ],
    [
      "response_format.json_schema.schema.properties.a.items.not",
      { type: "object", properties: { a: { type: "array", items: { not: {} } } } },
    ],
    [
      "response_format.json_schema.schema.properties.a.oneOf",
      { type: "object", properties: { a: { oneOf: [{ type: "number" }, { type: "integer" }] } } },
    ],
    ["response_format.json_schema.schema.type", { type: "string" }],
    ["response_format.json_schema.schema.minProperties", { type: "object", minProperties: 2 }],
  ])("refuses what it cannot enforce: %s", async (param, schema) => {
    const opening = open(engine, chat("JSON.", { responseFormat: { type: "json_schema", schema } }));
    await expect(opening).rejects.toMatchObject({ code: "unsupported_parameter", param });
  });
});

describe("sampling", () => {
  it("lists the likeliest tokens, whose probabilities are those of the model", async () => {
    for (const temperature of [0, 1]) {
      const call = chat("Hello there.", { temperature, seed: 4, completionTokensMax: 30 });
      const [plain, listed] = [await complete(engine, call), await complete(engine, { ...call, logprobs: 20 })];
      expect(listed.ids).toEqual(plain.ids);
      const items = logprobsOf(listed.deltas);
      expect(items.length).toBeGreaterThan(5);
      for (const item of items) {
        expect(item.top_logprobs).toHaveLength(20);
        const mass = item.top_logprobs.reduce((sum, top) => sum + Math.exp(top.logprob), 0);
        expect(mass).toBeLessThanOrEqual(1.0001);
        if (temperature === 0) expect(item.logprob).toBe(item.top_logprobs[0]?.logprob);
      }
      expect(contentOf(listed.deltas)).toBe(listed.text);
    }
    expect(
      logprobsOf((await complete(engine, chat("Hi.", { logprobs: 0, completionTokensMax: 3 }))).deltas)[0]
        ?.top_logprobs,
    ).toEqual([]);
  });

  it("keeps to tokens that make up top_p, and to the likeliest at temperature 0", async () => {
    const call = chat("Hello there.", { completionTokensMax: 30 });
    const greedy = await complete(engine, call);
    for (const seed of [1, 2, 3]) {
      expect((await complete(engine, { ...call, temperature: 1, topP: 0.000001, seed })).ids).toEqual(greedy.ids);
    }
  });

  it("penalises what was said, and resumes with the same penalties", async () => {
    const call = chat("Hello there.", { completionTokensMax: 60, temperature: 0 });
    const penalised = { ...call, frequencyPenalty: 2, presencePenalty: 2 };
    const [plain, varied] = [await complete(engine, call), await complete(engine, penalised)];
    const repeats = (ids: readonly number[]) => 1 - new Set(ids).size / ids.length;
    expect(repeats(varied.ids)).toBeLessThan(repeats(plain.ids) + 0.001);
    expect(varied.ids).not.toEqual(plain.ids);
    await expectSameAtEveryCut(engine, penalised, varied, "test/penalties", 5);
  });

  it("serves calls of all kinds in one batch as it serves them alone", async () => {
    const kinds = [
      chat("One.", { completionTokensMax: 30 }),
      chat("Two.", { completionTokensMax: 30, temperature: 1, seed: 2, logprobs: 3 }),
      chat("Three.", { completionTokensMax: 30, responseFormat: { type: "json_object" } }),
      chat("Four.", { completionTokensMax: 30, temperature: 0.7, seed: 9, presencePenalty: 1 }),
    ];
    const alone = [];
    for (const kind of kinds) alone.push((await complete(engine, kind)).ids);
    const calls = await Promise.all(kinds.map((kind) => open(engine, kind)));
    expect((await advance(engine, calls)).map((answer) => answer.ids)).toEqual(alone);
    await Promise.all(calls.map((call) => engine.close(call)));
  });
});
