/** The contract of the engine port over HTTP, on a conformance server of each dialect that has token ids. */
import { openHttpEngine } from "../src/http/index.ts";
import { ConformanceServer } from "./conformance-server/index.ts";
import { decode, END_ID, VOCABULARY } from "./conformance-server/model.ts";
import { chat, complete, engineContract, SUBJECT, type Subject } from "./contract.ts";

for (const dialect of ["vllm", "sglang", "llama-server"] as const) {
  let server: ConformanceServer;
  engineContract(
    `the HTTP engine on ${dialect}`,
    async () => {
      server = await new ConformanceServer({
        dialect,
        slots: SUBJECT.batchCallsMax,
        contextTokensMax: SUBJECT.contextTokensMax,
      }).start();
      const engine = await openHttpEngine({
        url: server.url,
        slots: SUBJECT.batchCallsMax,
        contextTokensMax: SUBJECT.contextTokensMax,
        limits: { stepMs: 5 },
      });
      const subject: Subject = {
        engine,
        decode: (ids) => decode(ids.filter((id) => id !== END_ID)),
        foreignId: VOCABULARY,
      };
      return dialect === "llama-server" ? { ...subject, short: await shortOf(subject) } : subject;
    },
    async ({ engine }) => {
      await engine.shutdown();
      await server.stop();
    },
    { exactBatch: false, contexts: false, forwards: true },
  );
}

/** llama-server never says the ids of an answer that is cut inside a character, as the contract cuts it at 5 tokens. */
async function shortOf({ engine }: Subject) {
  for (let i = 0; ; i++) {
    const short = chat(`Tell me about thing ${i}.`);
    const { ids, text, finish } = await complete(engine, short);
    const fits = finish === "stop" && ids.length >= 12 && ids.length <= 60 && /[^ -~\n]/.test(text);
    if (fits && !decode(ids.slice(0, 5)).endsWith("\ufffd")) return short;
  }
}
