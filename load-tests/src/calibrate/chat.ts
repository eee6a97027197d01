/** Calls of a given size, as the port takes them. */
import type { OpenCall } from "@autellix/engines";
import { parseChat } from "@autellix/protocol";
import { makePrompt } from "../text.ts";

export interface ChatSize {
  /** Prompts of one index begin alike, those of different ones do not. */
  index: number;
  promptTokens: number;
  completionTokens: number;
  /** Of the model's tokenizer. */
  charsPerToken: number;
}

/** Sampled, with a seed: greedy answers of small models repeat themselves, or end at once. */
export function chatOf({
  index,
  promptTokens,
  completionTokens,
  charsPerToken,
}: ChatSize): Pick<OpenCall, "chat" | "body"> {
  const body = {
    messages: [{ role: "user", content: `${index}. ${makePrompt(promptTokens, index, charsPerToken)}` }],
    max_tokens: completionTokens,
    temperature: 1,
    seed: index,
  };
  return { chat: parseChat(body), body };
}
