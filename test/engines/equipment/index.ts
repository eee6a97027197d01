/** The test equipment: real engines' servers that were not written here, fetched once into the cache. */
import { join } from "node:path";
import { cacheDir } from "@autellix/runtime";
import { obtainLlamaServer } from "./llama-server.ts";
import { type EquipmentOptions, obtainChatModel, obtainTinyModel, obtainVllm } from "./vllm.ts";

/** Of the tiny model, wherever a server of the equipment serves it. */
export const TINY_SEED = 1;

/** A component, or why it is not there and how to get it, in one line. */
export type Component<T> = T | { missing: string };

export interface Equipment {
  /** `modelDir` holds the tiny model, `chatModelDir` SmolLM2. */
  vllm: Component<{ python: string; modelDir: string; chatModelDir: string }>;
  llamaServer: Component<{ bin: string }>;
}

/** Gets what can be had. What is missing is said, and is no error here. */
export async function obtainEquipment(options: Omit<EquipmentOptions, "cache">): Promise<Equipment> {
  const all = { ...options, cache: join(cacheDir(options.env), "engines") };
  return {
    llamaServer: await component(all, "llama-server", "put one on your PATH or set LLAMA_SERVER_BIN", async () => ({
      bin: (await obtainLlamaServer(all)).path,
    })),
    vllm: await component(all, "vLLM", "or set VLLM_PYTHON to a Python that has it", async () => {
      const vllm = await obtainVllm(all);
      const modelDir = await obtainTinyModel(vllm, { ...all, seed: TINY_SEED });
      return { python: vllm.python, modelDir, chatModelDir: await obtainChatModel(vllm, all) };
    }),
  };
}

async function component<T>(
  { signal, say }: EquipmentOptions,
  name: string,
  advice: string,
  obtain: () => Promise<T>,
): Promise<Component<T>> {
  try {
    return await obtain();
  } catch (error) {
    signal.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    const missing = `${name} is missing: ${reason.replaceAll("\n", " ")}; ${advice}`;
    say(missing);
    return { missing };
  }
}
