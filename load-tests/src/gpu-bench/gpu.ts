/** Whether llama.cpp can compute on a GPU here. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { UnreadableFile } from "../ending.ts";

const run = promisify(execFile);
const CUDA_PACKAGES = "@node-llama-cpp/linux-x64-cuda and @node-llama-cpp/linux-x64-cuda-ext";

/**
 * @returns its name; undefined without one, or without its driver.
 * @throws UnreadableFile when there is one and node-llama-cpp has no binary for it, with how to get that.
 */
export async function findGpu(): Promise<string | undefined> {
  const name = await nameOfGpu();
  if (name === undefined) return undefined;
  const llama = await getLlama({ gpu: "auto", build: "never", skipDownload: true, logLevel: LlamaLogLevel.error });
  const kind = llama.gpu;
  await llama.dispose();
  if (kind === false)
    throw new UnreadableFile(
      `${name} is here, but node-llama-cpp has only its CPU binary: remove the lines of ${CUDA_PACKAGES} ` +
        'from "overrides" in package.json and run npm install (about 900 MB), then start this again',
    );
  return name;
}

async function nameOfGpu(): Promise<string | undefined> {
  try {
    const { stdout } = await run("nvidia-smi", [
      "--query-gpu=name,memory.total,driver_version",
      "--format=csv,noheader",
    ]);
    return stdout.trim().split("\n")[0] || undefined;
  } catch {
    return undefined; // no driver, or it finds no device
  }
}
