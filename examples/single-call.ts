/**
 * One streamed call. Without a program around it, a call is a program of its own.
 *
 *     node examples/single-call.ts [http://127.0.0.1:8080]
 */
import { BASE_URL, openChat } from "./openai.ts";

export async function main(baseUrl: string = BASE_URL): Promise<void> {
  const { openai, model } = await openChat(baseUrl);
  const stream = await openai.chat.completions.create({
    model,
    messages: [{ role: "user", content: "What is the capital of France?" }],
    max_completion_tokens: 64,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  let tokens = 0;
  for await (const chunk of stream) {
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  console.log(`\n(${tokens} tokens of ${model})`);
  if (tokens === 0) throw new Error("the stream ended without usage");
}

if (import.meta.main) await main(process.argv[2]);
