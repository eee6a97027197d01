/** Messages → token ids, in the format that the model was trained on. */
import { AutellixError, type ChatMessage } from "@autellix/protocol";
import {
  type ChatHistoryItem,
  type ChatWrapper,
  type LlamaModel,
  LlamaText,
  resolveChatWrapper,
  SpecialToken,
} from "node-llama-cpp";
import { messageOf } from "./library.ts";

/** No vocabulary packs more characters into each token of a long text; a longer prompt is not even tokenized. */
const CHARACTERS_PER_TOKEN_MAX = 64;

export interface PromptOptions {
  messages: readonly ChatMessage[];
  tokensMax: number;
}

export class PromptRenderer {
  readonly #model: LlamaModel;
  /** In the order in which they are tried: some templates refuse two messages of one role in a row. */
  readonly #wrappers: ChatWrapper[];

  /**
   * The library takes its own wrapper where it proves equal to the model's template, else the template itself. The
   * difference matters: templates may add a system message of their own, with which small models go astray
   * (SmolLM2-135M then answers in French), wrappers send what the caller sent.
   */
  constructor(model: LlamaModel) {
    this.#model = model;
    this.#wrappers = [false, true].map((joinAdjacentMessagesOfTheSameType) =>
      resolveChatWrapper(model, {
        warningLogs: false,
        customWrapperSettings: { jinjaTemplate: { reasoning: null, joinAdjacentMessagesOfTheSameType } },
      }),
    );
  }

  /**
   * Ids of the whole prompt, up to where the model's answer begins. Text of messages never becomes a control token.
   * @throws AutellixError `context_length_exceeded`; `invalid_request` when the template refuses the messages.
   */
  ids(options: PromptOptions): number[] {
    const { messages, tokensMax } = options;
    const characters = messages.reduce((sum, message) => sum + message.content.length, 0);
    if (messages.length > tokensMax || characters > tokensMax * CHARACTERS_PER_TOKEN_MAX) {
      throw tooLong(`far more than ${tokensMax}`, tokensMax);
    }
    const ids: number[] = this.#render(messages).tokenize(this.#model.tokenizer);
    const { bos, shouldPrependBosToken } = this.#model.tokens;
    if (shouldPrependBosToken && bos !== null && ids[0] !== bos) ids.unshift(bos);
    return ids;
  }

  #render(messages: readonly ChatMessage[]): LlamaText {
    const chatHistory: ChatHistoryItem[] = messages.map(({ role, content }) =>
      role === "assistant" ? { type: "model", response: [content] } : { type: role, text: content },
    );
    chatHistory.push({ type: "model", response: [] });
    const refusals: string[] = [];
    for (const wrapper of this.#wrappers) {
      try {
        return this.#withoutNeedlessBos(wrapper, wrapper.generateContextState({ chatHistory }).contextText);
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

export function tooLong(promptTokens: number | string, contextTokensMax: number, completionTokens = 1): AutellixError {
  return new AutellixError(
    "context_length_exceeded",
    `The prompt has ${promptTokens} tokens and the answer needs ${completionTokens}, but the context holds ${contextTokensMax}.`,
    { param: "messages" },
  );
}
