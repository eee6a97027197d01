/**
 * A NATS client that knows nothing of Autellix but a subject and the shape of an OpenAI request: JSON in, JSON out.
 * Nothing here is imported from this repository; `plain_nats.py` does the same in Python.
 *
 *     node examples/plain-nats.ts [nats://127.0.0.1:4222] [pool]
 */
import { randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const ANSWER_MS_MAX = 60_000;

/** @returns the record of the call as it is stored. @throws when the call was refused, failed, or nobody answered. */
export async function main(url = "nats://127.0.0.1:4222", pool = "SmolLM2-135M-Instruct"): Promise<unknown> {
  const nc = await connect({ servers: url });
  try {
    const callId = randomUUID();
    const inbox = `_INBOX.${randomUUID()}`;
    const answers = nc.subscribe(inbox, { timeout: ANSWER_MS_MAX });

    const fields = headers();
    fields.set("Autellix-Reply", inbox);
    const body = {
      messages: [{ role: "user", content: "What is the capital of France?" }],
      max_tokens: 48,
      temperature: 0,
    };
    const accepted = await nc.request(`autellix.calls.${pool}.default.${callId}`, JSON.stringify(body), {
      headers: fields,
      timeout: 5_000,
    });
    const ack = accepted.json<{ seq?: number; error?: { description: string } }>();
    if (ack.error) throw new Error(`refused: ${ack.error.description}`);
    console.log(`accepted as ${callId}, number ${ack.seq} in the queue's stream`);

    let status = "";
    for await (const message of answers) {
      const chunk = message.json<{ restart?: boolean; choices?: { delta?: { content?: string | null } }[] }>();
      if (chunk.restart) process.stdout.write("\n(an engine was lost, the answer starts over)\n");
      process.stdout.write(chunk.choices?.[0]?.delta?.content ?? "");
      status = message.headers?.get("Autellix-End") ?? "";
      if (status !== "") break;
    }
    console.log(`\nended: ${status}`);

    const stored = await nc.request(`$JS.API.DIRECT.GET.AUTELLIX_OUTCOMES.autellix.outcomes.${pool}.default.${callId}`);
    const record = stored.json<{ usage?: unknown; error?: { message: string } }>();
    console.log("on record:", JSON.stringify(record.error ?? record.usage));
    if (status !== "completed") throw new Error(`the call ended as ${status}: ${record.error?.message ?? ""}`);
    return record;
  } finally {
    await nc.close();
  }
}

if (import.meta.main) await main(process.argv[2], process.argv[3]);
