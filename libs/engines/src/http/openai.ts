/** Any other server that speaks OpenAI's chat. It has no token ids: a call can be stopped only before its first token. */
import type { HttpClient } from "./client.ts";
import { type Dialect, readChatChunk, type ServerFacts, streamed } from "./dialect.ts";

export function openai(client: HttpClient, facts: ServerFacts, unknownFinish: (reason: string) => void): Dialect {
  return {
    facts,
    byIds: undefined,
    chat: (body, _priority, stop) => ({
      path: "/v1/chat/completions",
      body: streamed(body, facts.model, stop),
      read: (event, resuming) => readChatChunk(event, resuming, unknownFinish),
    }),
    // Whatever it answers, it answers.
    healthy: async () => (await client.json("GET", "/v1/models")).status < 500,
    load: async () => undefined,
  };
}
