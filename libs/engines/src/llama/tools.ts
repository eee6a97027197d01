/** Tool calls as the model writes them, and as OpenAI's API shows them. */
import { createHash } from "node:crypto";
import { type AnswerDelta, AutellixError, type ChatCall, type ToolDefinition } from "@autellix/protocol";
import { type ChatWrapper, LlamaText, SpecialToken } from "node-llama-cpp";
import { JsonGrammar } from "./json-grammar.ts";
import { literal } from "./schema-rules.ts";

/** Calls in one answer. */
const TOOL_CALLS_MAX = 16;

/** The texts around name and arguments, in the format that the model was trained on, up to where it would end. */
export interface CallSyntax {
  /** In front of the first call's name. Where it begins in a free answer, a call begins. */
  first: string;
  /** In front of the name of each later call. */
  next: string;
  between(name: string): string;
  after(name: string): string;
  /** Behind the last call. */
  end: string;
  /** False where the model ends its answer after each call. */
  canRepeat: boolean;
  /** One call as the conversation shows it, control tokens included. */
  shown(name: string, args: string): LlamaText;
}

/** Stands for an end token. */
const END = "\ufdd0";
const NAME = "{{functionName}}";

/**
 * @param ends texts of the model's end tokens.
 * @throws AutellixError `unsupported_parameter` when calls in this format are more than texts around JSON.
 */
export function callSyntax(wrapper: ChatWrapper, ends: readonly string[]): CallSyntax {
  const { call, parallelism } = wrapper.settings.functions;
  const { sectionPrefix, betweenCalls, sectionSuffix } = parallelism?.call ?? {};
  const shown = (name: string, args: string) =>
    LlamaText([call.prefix, name, named(call.paramsPrefix, name), args, named(call.suffix, name)]);
  const sample = wrapper.generateFunctionCall("f", { a: 1 }).toString();
  if (sample !== shown("f", '{"a": 1}').toString()) throw unsupportedFormat();
  const text = (part: string | LlamaText | undefined) => textOf(LlamaText(part ?? ""), ends);
  const [after, next] = [text(call.suffix), text(betweenCalls) + text(call.prefix)];
  const first = (text(sectionPrefix) + text(call.prefix)).trimStart();
  if (first === "" || first.includes(END)) throw unsupportedFormat();
  const endsAfterEach = after.includes(END);
  return {
    first,
    next,
    between: (name) => text(call.paramsPrefix).replaceAll(NAME, name),
    after: (name) => upToEnd(after).replaceAll(NAME, name),
    end: endsAfterEach ? "" : upToEnd(text(sectionSuffix)).trimEnd(),
    canRepeat: !endsAfterEach && !next.includes(END),
    shown,
  };
}

function named(part: string | LlamaText, name: string): LlamaText {
  return LlamaText(part).mapValues((value) => (typeof value === "string" ? value.replaceAll(NAME, name) : value));
}

function textOf(part: LlamaText, ends: readonly string[]): string {
  const texts = part.values.map((value) => {
    if (!(value instanceof SpecialToken)) return String(value);
    if (value.value === "EOS" || value.value === "EOT") return END;
    throw unsupportedFormat();
  });
  return ends.reduce((text, end) => text.replaceAll(end, END), texts.join(""));
}

function upToEnd(text: string): string {
  return text.split(END, 1)[0] ?? "";
}

function unsupportedFormat(): AutellixError {
  const message = "tools are not supported with the chat format of this model";
  return new AutellixError("unsupported_parameter", message, { param: "tools" });
}

/** The tools that the answer may call; none when it may not. */
export function callableTools({ tools, toolChoice }: ChatCall): readonly ToolDefinition[] {
  if (toolChoice === "none") return [];
  if (typeof toolChoice === "string") return tools;
  const named = tools.filter((tool) => tool.name === toolChoice.name);
  if (named.length > 0) return named;
  throw new AutellixError("invalid_request", `tool_choice names "${toolChoice.name}", which is not among the tools`, {
    param: "tool_choice",
  });
}

/** Whether one answer may make several calls. A tool that is named is called once. */
export function maySeveral(syntax: CallSyntax, { parallelToolCalls, toolChoice }: ChatCall): boolean {
  return parallelToolCalls && syntax.canRepeat && typeof toolChoice === "string";
}

/** Grammar of one or more calls. @throws AutellixError `unsupported_parameter` naming the keyword of a schema. */
export function callsGrammar(syntax: CallSyntax, chat: ChatCall, tools: readonly ToolDefinition[]): string {
  const grammar = new JsonGrammar();
  const all = chat.tools.map((tool) => tool.name);
  const calls = tools.map(({ name, parameters }) => {
    const field = `tools[${all.indexOf(name)}].function.parameters`;
    const args = parameters === undefined ? '"{}"' : grammar.schema({ ...parameters, type: "object" }, field);
    return `${literal(name + syntax.between(name))} ${args} ${literal(syntax.after(name))}`;
  });
  const one = `(${calls.join(" | ")})`;
  const more = maySeveral(syntax, chat) ? ` (${literal(syntax.next)} ${one}){0,${TOOL_CALLS_MAX - 1}}` : "";
  return grammar.text(`${literal(syntax.first)} ${one}${more} ${literal(syntax.end)}`);
}

/** Reads calls out of text that follows the grammar, piece by piece. */
export class CallsReader {
  readonly #syntax: CallSyntax;
  readonly #names: readonly string[];
  readonly #key: string;
  #calls = 0;
  #state: "lead" | "name" | "arguments" | "after" = "lead";
  #name = "";
  #text = "";
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** @param key of the call: ids are made of it, so that a later attempt gives the same ones. */
  constructor(syntax: CallSyntax, names: readonly string[], key: string) {
    this.#syntax = syntax;
    this.#names = names;
    this.#key = key;
  }

  /** @returns what of OpenAI's `tool_calls` this text brought. */
  push(text: string): AnswerDelta[] {
    this.#text += text;
    const deltas: AnswerDelta[] = [];
    for (let more = true; more; ) more = this.#read(deltas);
    return deltas;
  }

  /** @returns false when it needs more text. */
  #read(deltas: AnswerDelta[]): boolean {
    const { first, next } = this.#syntax;
    if (this.#state === "lead") return this.#skip(this.#calls === 0 ? first : next, "name");
    if (this.#state === "after") return this.#skip(this.#syntax.after(this.#name), "lead");
    if (this.#state === "name") return this.#readName(deltas);
    const end = this.#argumentsEnd();
    if (end === 0) return false;
    const fragment = this.#text.slice(0, end);
    this.#text = this.#text.slice(end);
    deltas.push(toolDelta({ index: this.#calls - 1, function: { arguments: fragment } }));
    if (this.#depth === 0) this.#state = "after";
    return this.#depth === 0;
  }

  #skip(text: string, state: "name" | "lead"): boolean {
    if (!this.#text.startsWith(text)) return false;
    this.#text = this.#text.slice(text.length);
    this.#state = state;
    return true;
  }

  #readName(deltas: AnswerDelta[]): boolean {
    const name = this.#names.find((one) => this.#text.startsWith(one + this.#syntax.between(one)));
    if (name === undefined) return false;
    this.#name = name;
    this.#text = this.#text.slice(name.length + this.#syntax.between(name).length);
    this.#state = "arguments";
    const index = this.#calls++;
    const id = `call_${createHash("sha256").update(`${this.#key} ${index}`).digest("hex").slice(0, 24)}`;
    deltas.push(toolDelta({ index, id, type: "function", function: { name, arguments: "" } }));
    return true;
  }

  /** @returns how much of the text belongs to the arguments. The depth is 0 again when they end there. */
  #argumentsEnd(): number {
    for (let i = 0; i < this.#text.length; i++) {
      const char = this.#text[i];
      if (this.#escaped) this.#escaped = false;
      else if (this.#inString) {
        if (char === "\\") this.#escaped = true;
        if (char === '"') this.#inString = false;
      } else if (char === '"') this.#inString = true;
      else if (char === "{" || char === "[") this.#depth++;
      else if (char === "}" || char === "]") {
        this.#depth--;
        if (this.#depth === 0) return i + 1;
      }
    }
    return this.#text.length;
  }
}

function toolDelta(fragment: Record<string, unknown>): AnswerDelta {
  return { delta: { tool_calls: [fragment] } };
}
