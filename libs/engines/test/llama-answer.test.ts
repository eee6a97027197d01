/** Answers of the llama engine on a vocabulary of our own: what is content, what is a call, and what is held back. */
import { LlamaText } from "node-llama-cpp";
import { describe, expect, it } from "vitest";
import { Answer, type AnswerPlan } from "../src/llama/answer.ts";
import type { GrammarState } from "../src/llama/grammar.ts";
import { type CallSyntax, CallsReader } from "../src/llama/tools.ts";
import { contentOf, logprobsOf, toolCallsOf } from "./contract/parameters.ts";

const SYNTAX: CallSyntax = {
  first: "<call>",
  next: "\n<call>",
  between: () => "(",
  after: () => ")",
  end: "",
  canRepeat: true,
  shown: () => LlamaText(""),
};
/** Each id is the index of its text; the last one is the end. */
const VOCABULARY = [
  "Hi ",
  "<ca",
  "ll>",
  "f(",
  '{"a":',
  '"}{" }',
  ")",
  "ll>f(",
  "ll>x",
  "\n<call>",
  "fg(",
  "{}",
  "<call>",
  "!",
  "",
];
const END = VOCABULARY.length - 1;
const ids = (...texts: string[]) => texts.map((text) => VOCABULARY.indexOf(text));

/** Allows the beginnings of these texts. */
function grammarOf(...texts: string[]): () => GrammarState {
  return () => {
    let seen = "";
    const fits = (text: string) => texts.some((one) => one.startsWith(text));
    return {
      allows: (id) => (id === END ? texts.includes(seen) : fits(seen + VOCABULARY[id])),
      accept: (id) => {
        seen += VOCABULARY[id];
      },
      get isComplete() {
        return texts.includes(seen);
      },
    };
  };
}

function answer(
  fields: Partial<AnswerPlan>,
  trigger?: string,
  single = true,
  grammar = grammarOf("<call>f({})", "<call>fg({})\n<call>f({})"),
): Answer {
  const reader = new CallsReader(SYNTAX, ["f", "fg"], "tenant/key");
  const tokenize = (text: string) => [...text].map((letter) => VOCABULARY.push(letter) - 1);
  const calls = { reader, grammar, trigger, single, tokenize };
  return new Answer({
    decode: (all) => all.map((id) => VOCABULARY[id]).join(""),
    isEnd: (id) => id === END,
    stop: [],
    tokensMax: 100,
    grammar: undefined,
    calls: trigger === undefined && fields.calls === undefined ? undefined : calls,
    ...fields,
  });
}

function push(one: Answer, all: readonly number[]) {
  const pushed = all.map((id) => one.push(id));
  const deltas = pushed.flatMap(({ text, deltas }) => deltas ?? (text === "" ? [] : [{ delta: { content: text } }]));
  return { text: pushed.map(({ text }) => text), content: contentOf(deltas), calls: toolCallsOf(deltas) };
}

describe("an answer that may call tools", () => {
  it("holds back what could be a call, and shows it when it is none", () => {
    const one = answer({}, "<call>");
    expect(push(one, ids("Hi ", "<ca", "!", "<ca")).text).toEqual(["Hi ", "", "<ca!", ""]);
    expect([push(one, [END]).text, one.finish]).toEqual([["<ca"], "stop"]);
  });

  it("calls where a call begins, also with a token that reaches beyond the mark", () => {
    for (const begin of [ids("<ca", "ll>", "f("), ids("<ca", "ll>f(")]) {
      const one = answer({}, "<call>");
      const { content, calls } = push(one, [...ids("Hi "), ...begin, ...ids("{}", ")")]);
      expect([content, calls.map(({ name, arguments: args }) => [name, args])]).toEqual(["Hi ", [["f", "{}"]]]);
      expect([one.finish, calls[0]?.id]).toEqual(["tool_calls", expect.stringMatching(/^call_[0-9a-f]{24}$/)]);
    }
  });

  it("shows as content what begins like a call and goes on as none", () => {
    const one = answer({ stop: ["!"] }, "<call>");
    expect(push(one, ids("<ca", "ll>x", "Hi ", "<call>")).text).toEqual(["", "<call>x", "Hi ", "<call>"]);
    expect([push(one, ids("!")).text, one.finish]).toEqual([[""], "stop"]);
  });

  it("makes several calls, and ends when the model ends", () => {
    const one = answer({}, "<call>", false);
    const { calls } = push(one, ids("<call>", "fg(", "{}", ")", "\n<call>", "f(", "{}", ")"));
    expect([calls.map(({ name }) => name), one.finish]).toEqual([["fg", "f"], undefined]);
    push(one, [END]);
    expect(one.finish).toBe("tool_calls");
  });

  it("ends with length in the middle of a call", () => {
    const one = answer({ tokensMax: 2 }, "<call>");
    expect(push(one, ids("<call>", "f(")).calls).toMatchObject([{ name: "f", arguments: "" }]);
    expect(one.finish).toBe("length");
  });

  it("tells arguments from what only looks like their end", () => {
    const reader = new CallsReader(SYNTAX, ["f"], "k");
    const args = '{"a":"}){\\"\\\\","b":[{"c":1},"]"]}';
    const deltas = [...`<call>f(${args})`].flatMap((letter) => reader.push(letter));
    expect(toolCallsOf(deltas).map((made) => made.arguments)).toEqual([args]);
  });
});

describe("log probabilities of an answer", () => {
  const item = (text: string) => ({ token: text, logprob: -1, bytes: [...Buffer.from(text)], top_logprobs: [] });

  it("come with their text, and not with a stop sequence", () => {
    const one = answer({ stop: ["ll>x"] });
    const shown = ids("Hi ", "<ca", "ll>", "f(", "!", "ll>x").map((id) => {
      const { text, deltas = [] } = one.push(id, item(VOCABULARY[id] as string));
      expect(contentOf(deltas)).toBe(text);
      return logprobsOf(deltas).map(({ token }) => token);
    });
    expect(shown).toEqual([["Hi "], ["<ca"], [], ["ll>", "f("], ["!"], []]);
  });
});
