/**
 * The official client, pointed at Autellix. The examples share it.
 */
import { autellixFetch } from "@autellix/client";
import OpenAI from "openai";

export const BASE_URL = "http://127.0.0.1:8080";

export interface Chat {
  openai: OpenAI;
  model: string;
  /** One whole call: the text of the answer. */
  ask(messages: OpenAI.ChatCompletionMessageParam[], completionTokensMax?: number): Promise<string>;
}

/** @throws when the server cannot be reached or serves no model. */
export async function openChat(baseUrl: string): Promise<Chat> {
  const openai = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: "any", fetch: autellixFetch() });
  const { data } = await openai.models.list();
  const model = data[0]?.id;
  if (model === undefined) throw new Error(`${baseUrl} serves no model`);
  return {
    openai,
    model,
    async ask(messages, completionTokensMax = 64) {
      const completion = await openai.chat.completions.create({
        model,
        messages,
        max_completion_tokens: completionTokensMax,
        temperature: 0,
      });
      return completion.choices[0]?.message.content ?? "";
    },
  };
}
