/** Calls of OpenAI's client on the system in containers, and what became of them. */
import OpenAI from "openai";

/** Tokens of each answer: seconds of work for all of them together, so that a kill meets them. */
const COMPLETION_TOKENS = 1_500;

/** Later calls repeat the texts of the first ones. */
export const TEXTS = 12;

export interface Answer {
  index: number;
  text: string;
  /** How often an end came. */
  ends: number;
  attempts: number;
  serviceMs: number;
  /** The connection broke, or an error came instead of the end. */
  error?: string;
}

export interface Load {
  /** Calls that have begun to answer. */
  begun(): number;
  /** When all have ended. */
  answers: Promise<Answer[]>;
}

/**
 * Streams `count` calls at once, the first `TEXTS` each with a text of its own.
 * @param program of all of them; without it each is a program of its own.
 */
export function startCalls(url: string, model: string, count: number, program?: string): Load {
  let begun = 0;
  // No retries: an SDK that tried again would hide a lost call.
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0, timeout: 110_000 });
  const headers = program === undefined ? {} : { "Autellix-Program-Id": program };
  const ask = async (index: number): Promise<Answer> => {
    const answer: Answer = { index, text: "", ends: 0, attempts: 0, serviceMs: 0 };
    const messages = [{ role: "user" as const, content: `Call ${index % TEXTS}: tell me something long.` }];
    try {
      const body = { model, messages, temperature: 0, max_tokens: COMPLETION_TOKENS, stream: true } as const;
      for await (const chunk of await client.chat.completions.create(body, { headers })) {
        const text = chunk.choices[0]?.delta?.content ?? "";
        if (answer.text === "" && text !== "") begun++;
        answer.text += text;
        if (chunk.choices[0]?.finish_reason) answer.ends++;
        const { autellix } = chunk as { autellix?: { attempts: number; service_ms?: number } };
        if (autellix) answer.attempts = autellix.attempts;
        answer.serviceMs = autellix?.service_ms ?? answer.serviceMs;
      }
    } catch (error) {
      answer.error = error instanceof Error ? error.message : String(error);
    }
    return answer;
  };
  return { begun: () => begun, answers: Promise.all(Array.from({ length: count }, (_, index) => ask(index))) };
}
