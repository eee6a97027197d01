/** Messages → token ids, in the format that the model was trained on. */
import { AutellixError, type ChatMessage, type ToolDefinition } from "@autellix/protocol";
import {
  type ChatModelFunctions,
  type ChatWrapper,
  type LlamaModel,
  LlamaText,
  resolveChatWrapper,
  SpecialToken,
  type Token,
} from "node-llama-cpp";
import { historyOf } from "./history.ts";
import { messageOf } from "./library.ts";
import { type CallSyntax, callSyntax } from "./tools.ts";

/** No vocabulary packs more characters into each token of a long text; a longer prompt is not even tokenized. */
const CHARACTERS_PER_TOKEN_MAX = 64;

export interface PromptOptions {
  messages: readonly ChatMessage[];
  /** Those that the answer may call. */
  tools: readonly ToolDefinition[];
  tokensMax: number;
}

export class PromptRenderer {
  readonly #model: LlamaModel;
  /** In the order in which they are tried: some templates refuse two messages of one role in a row. */
  readonly #wrappers: readonly [ChatWrapper, ChatWrapper];
  #callSyntax: CallSyntax | undefined;

  /**
   * The library takes its own wrapper where it proves equal to the model's template, else the template itself. The
   * difference matters: templates may add a system message of their own, with which small models go astray
   * (SmolLM2-135M then answers in French), wrappers send what the caller sent.
   */
  constructor(model: LlamaModel) {
    this.#model = model;
    const wrapper = (joinAdjacentMessagesOfTheSameType: boolean) =>
      resolveChatWrapper(model, {
        warningLogs: false,
        customWrapperSettings: { jinjaTemplate: { reasoning: null, joinAdjacentMessagesOfTheSameType } },
      });
    this.#wrappers = [wrapper(false), wrapper(true)];
  }

  /** How the model writes tool calls. @throws AutellixError `unsupported_parameter` when that cannot be said as text. */
  get callSyntax(): CallSyntax {
    this.#callSyntax ??= callSyntax(this.#wrappers[0], this.#endTexts());
    return this.#callSyntax;
  }

  #endTexts(): string[] {
    const { tokens } = this.#model.fileInfo.metadata.tokenizer.ggml;
    return tokens.filter((text, id) => text !== "" && this.#model.isEogToken(id as Token));
  }

  /**
   * Ids of the whole prompt, up to where the model's answer begins. Text of messages never becomes a control token.
   * @throws AutellixError `context_length_exceeded`; `invalid_request` when the template refuses the messages.
   */
  ids(options: PromptOptions): number[] {
    const { messages, tokensMax } = options;
    const characters = messages.reduce((sum, message) => sum + charactersOf(message), 0);
    if (messages.length > tokensMax || characters > tokensMax * CHARACTERS_PER_TOKEN_MAX) {
      throw tooLong(`far more than ${tokensMax}`, tokensMax);
    }
    const ids: number[] = this.#render(options).tokenize(this.#model.tokenizer);
    const { bos, shouldPrependBosToken } = this.#model.tokens;
    if (shouldPrependBosToken && bos !== null && ids[0] !== bos) ids.unshift(bos);
    return ids;
  }

  #render({ messages, tools }: PromptOptions): LlamaText {
    const refusals: string[] = [];
    for (const wrapper of this.#wrappers) {
      // Anew for each: wrappers may change what they are given.
      const chatHistory = historyOf(messages, () => this.callSyntax);
      const functions =
        tools.length === 0 ? {} : { availableFunctions: functionsOf(tools), documentFunctionParams: true };
      try {
        const { contextText } = wrapper.generateContextState({ chatHistory, ...functions });
        return this.#withoutNeedlessBos(wrapper, contextText);
      } catch (error) {
        refusals.push(messageOf(error));
      }
    }
    throw new AutellixError("invalid_request", `The model's chat template refuses these messages: ${refusals.at(-1)}`, {
      param: "messages",
    });
  }

  /**
   * The library's own wrappers always begin with BOS; a template writes it where it is wanted. (SmolLM2's BOS is
   * `<|im_start|>`: it would stand there twice.)
   */
  #withoutNeedlessBos(wrapper: ChatWrapper, text: LlamaText): LlamaText {
    const [first, ...rest] = text.values;
    const needless =
      wrapper.wrapperName !== "JinjaTemplate" &&
      !this.#model.tokens.shouldPrependBosToken &&
      first instanceof SpecialToken &&
      first.value === "BOS";
    return needless ? new LlamaText(rest) : text;
  }
}

function functionsOf(tools: readonly ToolDefinition[]): ChatModelFunctions {
  // The library's type is the part of JSON schema that it makes grammars of; here they are only shown to the model.
  return Object.fromEntries(
    tools.map(({ name, description, parameters }) => [
      name,
      {
        ...(description === undefined ? {} : { description }),
        ...(parameters === undefined ? {} : { params: shownSchema(parameters) }),
      },
    ]),
  ) as ChatModelFunctions;
}

/** Some formats show tools as TypeScript types, in which the library knows `oneOf` alone. */
function shownSchema(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shownSchema);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key === "anyOf" && Array.isArray(inner) ? "oneOf" : key,
      shownSchema(inner),
    ]),
  );
}

function charactersOf({ content, toolCalls = [] }: ChatMessage): number {
  return toolCalls.reduce((sum, call) => sum + call.function.arguments.length, content.length);
}

export function tooLong(promptTokens: number | string, contextTokensMax: number, completionTokens = 1): AutellixError {
  return new AutellixError(
    "context_length_exceeded",
    `The prompt has ${promptTokens} tokens and the answer needs ${completionTokens}, but the context holds ${contextTokensMax}.`,
    { param: "messages" },
  );
}
