/** The contract suite on the llama engine with a model. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ChatCall } from "@autellix/protocol";
import type { Token } from "node-llama-cpp";
import { openLlamaEngine } from "../src/llama/index.ts";
import { loadModel, useLlama } from "../src/llama/library.ts";
import { engineContract, SUBJECT } from "./contract.ts";

/** @param short a call with a short greedy answer that ends by itself; default: searched. */
export function llamaContract(
  name: string,
  modelFile: () => Promise<string>,
  vocabularyTokens: number,
  short?: ChatCall,
): void {
  let release: () => Promise<void>;
  engineContract(
    name,
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "autellix-contract-"));
      const file = await modelFile();
      const options = { modelFile: file, models: ["m"], ...SUBJECT, hostKvDir: folder };
      const hostKvBytesMax = (await hostBlockBytes(file, folder)) * SUBJECT.hostBlocks;
      const engine = await openLlamaEngine({ ...options, hostKvBytesMax });
      const use = await useLlama(false, () => {});
      const model = await loadModel(use, file, []);
      release = async () => {
        await model.dispose();
        await use.release();
        await rm(folder, { recursive: true });
      };
      return {
        engine,
        decode: (ids) => model.detokenize(ids.filter((id) => !model.isEogToken(id as Token)) as Token[]),
        foreignId: vocabularyTokens,
        another: () => openLlamaEngine({ ...options, hostKvBytesMax }),
        ...(short === undefined ? {} : { short }),
      };
    },
    async ({ engine }) => {
      await engine.shutdown();
      await release();
    },
    { hostTier: true, leaves: true, retains: true },
  );
}

/** What a block takes in the host tier: a property of the model. */
async function hostBlockBytes(modelFile: string, hostKvDir: string): Promise<number> {
  const engine = await openLlamaEngine({ modelFile, models: ["m"], hostKvDir, batchCallsMax: 1 });
  await engine.shutdown();
  return engine.hostBlockBytes ?? 0;
}
