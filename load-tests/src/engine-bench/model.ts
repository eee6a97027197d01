/** The model that is measured when none is named: that of `npm start`. */
import { rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import { obtainDefaultModel } from "@autellix/runtime";
import { showStatus } from "../console.ts";
import { UnreadableFile } from "../ending.ts";

const TINY_SEED = 1;

/**
 * @param named a GGUF file, or `tiny`.
 * @param env says where the cache is.
 * @throws UnreadableFile in one line when it can be had nowhere.
 */
export async function modelFileOf(
  named: string | undefined,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<string> {
  if (named === "tiny") return await tinyModelFile();
  if (named !== undefined) return named;
  try {
    return await obtainDefaultModel({ env, signal, onProgress: () => showStatus("fetching the model") });
  } catch (error) {
    signal.throwIfAborted();
    throw new UnreadableFile(error instanceof Error ? error.message : String(error));
  }
}

/** Written anew each time: it takes milliseconds. */
async function tinyModelFile(): Promise<string> {
  const path = join(tmpdir(), "autellix-tiny.gguf");
  const written = `${path}.${process.pid}`;
  await writeTinyModel(written, { seed: TINY_SEED });
  await rename(written, path);
  return path;
}
