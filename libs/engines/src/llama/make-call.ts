/** Request → call: checked, rendered, tokenized, with what its answer must keep to. */
import { AutellixError, type ChatCall, refuseForeign } from "@autellix/protocol";
import type { LlamaModel, Token } from "node-llama-cpp";
import type { OpenCall } from "../port.ts";
import { Answer, type AnswerPlan, type CallsPlan } from "./answer.ts";
import { LlamaCall } from "./call.ts";
import { compileGrammar, type GrammarState, grammarState } from "./grammar.ts";
import { JsonGrammar } from "./json-grammar.ts";
import { bytesOfTokens, idsByByte, idsOfBytes } from "./pieces.ts";
import { PromptRenderer, tooLong } from "./prompt.ts";
import type { Vocabulary } from "./sampling.ts";
import { CallsReader, callableTools, callsGrammar, maySeveral } from "./tools.ts";

const SCHEMA_FIELD = "response_format.json_schema.schema";

export class CallMaker {
  readonly vocabulary: Vocabulary;
  readonly #model: LlamaModel;
  readonly #prompts: PromptRenderer;
  readonly #contextTokensMax: number;
  readonly #idsByByte: ReadonlyMap<number, number>;

  constructor(model: LlamaModel, contextTokensMax: number) {
    this.#model = model;
    this.#prompts = new PromptRenderer(model);
    this.#contextTokensMax = contextTokensMax;
    const size = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
    const ends = Array.from({ length: size }, (_, id) => id as Token).filter((id) => model.isEogToken(id));
    this.vocabulary = { size, ends, bytesOf: bytesOfTokens(model) };
    // Here, and not in the step in which an answer begins a call: that would hold up the whole batch.
    this.#idsByByte = idsByByte(size, this.vocabulary.bytesOf);
  }

  /** @throws AutellixError as `Engine.open` does. */
  async make({ key, chat, forcedIds }: OpenCall): Promise<LlamaCall> {
    refuseForeign(chat);
    const tools = callableTools(chat);
    const contextTokensMax = this.#contextTokensMax;
    const { messages, completionTokensMax } = chat;
    const prompt = this.#prompts.ids({ messages, tools, tokensMax: contextTokensMax });
    if (prompt.length + (completionTokensMax ?? 1) > contextTokensMax)
      throw tooLong(prompt.length, contextTokensMax, completionTokensMax);
    const model = this.#model;
    const calls = tools.length === 0 ? undefined : await this.#calls(chat, key);
    const plan: AnswerPlan = {
      // Control tokens have no text, but the marks of tool calls may be such tokens.
      decode: (ids) => model.detokenize(ids as Token[], calls !== undefined),
      isEnd: (id) => model.isEogToken(id as Token),
      stop: chat.stop,
      tokensMax: completionTokensMax ?? contextTokensMax - prompt.length,
      grammar: await this.#format(chat, calls),
      calls,
    };
    const answer = new Answer(plan);
    // An id outside the vocabulary would fail the whole batch, not only this call.
    const forced = answer.replay(forcedIds, (id) => id >= 0 && id < this.vocabulary.size);
    return new LlamaCall(key, chat, prompt, answer, forced);
  }

  async #calls(chat: ChatCall, key: string): Promise<CallsPlan> {
    const syntax = this.#prompts.callSyntax;
    const tools = callableTools(chat);
    const grammar = await compileGrammar(this.#model.llama, callsGrammar(syntax, chat, tools), "tools");
    const names = tools.map((tool) => tool.name);
    return {
      reader: new CallsReader(syntax, names, key),
      grammar: () => grammarState(this.#model, grammar),
      trigger: chat.toolChoice === "auto" ? syntax.first : undefined,
      single: !maySeveral(syntax, chat),
      // Byte by byte: tokenizers put spaces in front of a text.
      tokenize: (text) => idsOfBytes(text, this.#idsByByte) ?? this.#model.tokenize(text, true),
    };
  }

  async #format(chat: ChatCall, calls: CallsPlan | undefined): Promise<(() => GrammarState) | undefined> {
    const format = chat.responseFormat;
    // An answer that is nothing but calls has no format.
    if (format.type === "text" || (calls !== undefined && calls.trigger === undefined)) return undefined;
    if (calls !== undefined) throw unsupported("response_format", "is not supported beside tools that may be called");
    const json = new JsonGrammar();
    const root = format.type === "json_object" ? json.object : json.schema(objectSchema(format.schema), SCHEMA_FIELD);
    const grammar = await compileGrammar(this.#model.llama, json.text(root), "response_format");
    return () => grammarState(this.#model, grammar);
  }
}

/** OpenAI's API knows no others; and of the others one cannot always tell where they end. */
function objectSchema(schema: Record<string, unknown>): Record<string, unknown> {
  if (schema.type === "object" || (schema.type === undefined && ("properties" in schema || "$ref" in schema)))
    return schema;
  throw unsupported(`${SCHEMA_FIELD}.type`, 'must be "object"');
}

function unsupported(param: string, reason: string): AutellixError {
  return new AutellixError("unsupported_parameter", `${param} ${reason}`, { param });
}
