import { describe, expect, it } from "vitest";
import { type AnswerDelta, mergeAnswer, REST_PIECE_CHARS_MAX, ShownAnswer, textDelta } from "../src/index.ts";

function shownOf(pieces: readonly AnswerDelta[]): ShownAnswer {
  const shown = new ShownAnswer();
  for (const piece of pieces) shown.add(piece);
  return shown;
}

/** What is left when `shown` was shown of the answer that `all` makes. */
function rest(shown: readonly AnswerDelta[], all: readonly AnswerDelta[]): AnswerDelta[] | undefined {
  const { message, logprobs } = mergeAnswer(all);
  return shownOf(shown).restOf(message, logprobs);
}

const call = (index: number, fields: Record<string, unknown>, id?: string): AnswerDelta => ({
  delta: { tool_calls: [{ index, ...(id ? { id, type: "function" } : {}), function: fields }] },
});
const logprobs = (text: string): AnswerDelta => ({
  delta: { content: text },
  logprobs: { content: [...text].map((token) => ({ token, logprob: -0.5, bytes: null, top_logprobs: [] })) },
});

describe("the rest of an answer", () => {
  it("is nothing when all was shown", () => {
    const all = [textDelta("Pa"), textDelta("ris"), call(0, { name: "f", arguments: "{}" }, "a"), logprobs("!")];
    expect(rest(all, all)).toEqual([]);
    expect(rest([], [])).toEqual([]);
  });

  it("is the whole in one delta when nothing was shown", () => {
    expect(rest([], [logprobs("ab")])).toEqual([logprobs("ab")]);
    const calls = [call(0, { name: "f", arguments: "{}" }, "a"), call(1, { name: "g", arguments: "" }, "b")];
    expect(rest([], [{ delta: { reasoning_content: "So" } }, ...calls])).toEqual([
      {
        delta: {
          reasoning_content: "So",
          tool_calls: [
            { index: 0, id: "a", type: "function", function: { name: "f", arguments: "{}" } },
            { index: 1, id: "b", type: "function", function: { name: "g", arguments: "" } },
          ],
        },
      },
    ]);
  });

  it("takes text as it takes deltas of text", () => {
    const shown = new ShownAnswer();
    shown.addText("Pa");
    expect(shown.restOf({ role: "assistant", content: "Paris", refusal: null }, null)).toEqual([textDelta("ris")]);
  });

  it("goes on in the middle of a tool call's arguments, and begins the next one", () => {
    const begun = [call(0, { name: "f", arguments: "" }, "a"), call(0, { arguments: '{"x"' })];
    const all = [...begun, call(0, { arguments: ":1}" }), call(1, { name: "g", arguments: "{}" }, "b")];
    expect(rest(begun, all)).toEqual([
      {
        delta: {
          tool_calls: [
            { index: 0, function: { arguments: ":1}" } },
            { index: 1, id: "b", type: "function", function: { name: "g", arguments: "{}" } },
          ],
        },
      },
    ]);
  });

  it("finds tool calls by their id when an earlier one comes late", () => {
    const begun = [call(1, { name: "g", arguments: "{" }, "b")];
    const all = [...begun, call(0, { name: "f", arguments: "{}" }, "a"), call(1, { arguments: "}" })];
    expect(rest(begun, all)).toEqual([
      {
        delta: {
          tool_calls: [
            { index: 0, id: "a", type: "function", function: { name: "f", arguments: "{}" } },
            { index: 1, function: { arguments: "}" } },
          ],
        },
      },
    ]);
  });

  it("goes on with logprobs where they stopped", () => {
    expect(rest([logprobs("ab")], [logprobs("ab"), logprobs("c")])).toEqual([logprobs("c")]);
  });

  it("has no fields that say nothing, and no role", () => {
    const message = { role: "assistant", content: "", refusal: null, annotations: [], audio: null } as const;
    expect(new ShownAnswer().restOf(message, null)).toEqual([]);
  });

  it.each<[string, AnswerDelta[], AnswerDelta[]]>([
    ["another text", [textDelta("Po")], [textDelta("Paris")]],
    ["a shorter text", [textDelta("Paris!")], [textDelta("Paris")]],
    ["no text", [textDelta("Paris")], [call(0, { name: "f", arguments: "{}" }, "a")]],
    ["another tool", [call(0, { name: "f" }, "a")], [call(0, { name: "g", arguments: "{}" }, "a")]],
    ["another tool call", [call(0, { name: "f" }, "a")], [call(0, { name: "f", arguments: "{}" }, "b")]],
    ["other arguments", [call(0, { name: "f", arguments: "[" }, "a")], [call(0, { name: "f", arguments: "{}" }, "a")]],
    ["no tool call", [call(0, { name: "f" }, "a")], [textDelta("Paris")]],
    ["other logprobs", [{ ...logprobs("a"), delta: {} }], [{ ...logprobs("b"), delta: {} }]],
    ["no logprobs", [logprobs("a")], [textDelta("a")]],
    ["another field", [{ delta: { reasoning_content: "So" } }], [{ delta: { reasoning_content: "Well" } }]],
    ["no such field", [{ delta: { reasoning_content: "So" } }], [textDelta("a")]],
  ])("is unknown when the answer has %s than was shown", (_name, shown, all) => {
    expect(rest(shown, all)).toBeUndefined();
  });

  it("comes in pieces when it is long, and no character is cut", () => {
    const long = `a${"😀".repeat(REST_PIECE_CHARS_MAX)}`;
    const all = [
      textDelta(long),
      call(0, { name: "f", arguments: long }, "a"),
      { delta: { tool_calls: [{ index: 1, id: "b", type: "custom", custom: { name: "g", input: long } }] } },
      logprobs("x".repeat(REST_PIECE_CHARS_MAX / 8)),
      { delta: { vendor: { score: 1 } } },
    ];
    const pieces = rest([], all);
    expect(mergeAnswer(pieces ?? [])).toEqual(mergeAnswer(all));
    expect(pieces?.length).toBeGreaterThan(8);
    for (const piece of pieces ?? []) {
      expect(JSON.stringify(piece).length).toBeLessThan(REST_PIECE_CHARS_MAX + 500);
      for (const text of JSON.stringify(piece).match(/"(?:content|arguments|input)":"([^"]*)"/g) ?? []) {
        expect(text.includes("\\ud")).toBe(false);
      }
    }
  });
});

it("whatever was shown of whatever answer, the rest makes it whole", () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  const words = () => ["a", "é😀", "x".repeat(1 + random(40))][random(3)] ?? "a";
  const text = () => (random(4) === 0 ? "" : words());
  const piece = (): AnswerDelta => {
    const index = random(3);
    const begun = { index, id: `id${index}`, type: "function", function: { name: `f${index}`, arguments: text() } };
    const custom = { index: 3 + index, id: `id${3 + index}`, custom: { name: `c${index}`, input: text() } };
    const more = { status: words(), extra: { signature: words(), score: random(3) } };
    const kinds: (() => AnswerDelta)[] = [
      () => ({ delta: { tool_calls: [{ ...custom, type: random(3) === 0 ? "" : "custom" }] } }),
      () => ({
        delta: {
          tool_calls: [
            { index, id: `id${index}`, ...more },
            { index: 3 + index, id: `id${3 + index}`, custom: { input: words() } },
          ],
        },
      }),
      () => textDelta(text()),
      () => logprobs(words()),
      () => ({ delta: { tool_calls: [begun] } }),
      () => ({ delta: { reasoning_content: words(), score: random(9), list: [random(9)], other: null } }),
      () => ({ delta: { vendor: { note: words(), parts: [{ a: random(3) }] } } }),
    ];
    return kinds[random(kinds.length)]?.() ?? textDelta("");
  };
  for (let round = 0; round < 300; round++) {
    const all = Array.from({ length: random(20) }, piece);
    const shown = all.slice(0, random(all.length + 1));
    const left = rest(shown, all);
    expect(left, `seed ${seed}`).toBeDefined();
    expect(mergeAnswer([...shown, ...(left ?? [])]), `seed ${seed}`).toEqual(mergeAnswer(all));
  }
});
