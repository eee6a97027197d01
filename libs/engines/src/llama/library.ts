/**
 * node-llama-cpp as this process uses it: one `Llama`, shared by all engines; and its failures in readable words.
 */
import { open } from "node:fs/promises";
import { AutellixError } from "@autellix/protocol";
import { getLlama, type Llama, LlamaLogLevel, type LlamaModel } from "node-llama-cpp";
import { reuseSamplers } from "./samplers.ts";

export type LogLevel = "error" | "warn" | "info" | "debug";
export type Log = (level: LogLevel, message: string) => void;

/** Lines of llama.cpp that are kept for the message of a failure. */
const ERROR_LINES_MAX = 3;
const LOG_DELAY_MS = 20;
const GGUF_VERSION_MAX = 3;

interface Shared {
  gpu: "auto" | false;
  llama: Promise<Llama>;
  uses: number;
  logs: Set<Log>;
}
let shared: Shared | undefined;

export interface LlamaUse {
  llama: Llama;
  /** Gives the instance back; the last one ends it, so that the process can exit. */
  release(): Promise<void>;
}

/** @throws AutellixError `engine_error` when there is no binary for this machine, or another `gpu` is in use. */
export async function useLlama(gpu: "auto" | false, log: Log): Promise<LlamaUse> {
  if (shared !== undefined && shared.gpu !== gpu) {
    throw new AutellixError("engine_error", "All llama engines of a process must use the same gpu setting.");
  }
  const logs = shared?.logs ?? new Set<Log>();
  const toAll = (level: LlamaLogLevel, message: string) => {
    for (const one of logs) one(levelOf(level), message.trim());
  };
  shared ??= {
    gpu,
    llama: getLlama({
      gpu,
      build: "never",
      skipDownload: true,
      progressLogs: false,
      logLevel: LlamaLogLevel.warn,
      logger: toAll,
    }),
    uses: 0,
    logs,
  };
  const mine = shared;
  mine.uses++;
  mine.logs.add(log);
  let released = false;
  const release = async () => {
    if (released) return;
    released = true;
    mine.logs.delete(log);
    mine.uses--;
    if (mine.uses > 0) return;
    if (shared === mine) shared = undefined;
    await (await mine.llama).dispose();
  };
  try {
    const llama = await mine.llama;
    reuseSamplers(llama);
    return { llama, release };
  } catch (cause) {
    if (shared === mine) shared = undefined;
    throw new AutellixError(
      "engine_error",
      `llama.cpp has no binary for this machine (gpu: ${gpu}): install the platform package of node-llama-cpp, or use the simulated engine.`,
      { cause },
    );
  }
}

/** @throws AutellixError `engine_error` with one sentence that says what to do. */
export async function loadModel(use: LlamaUse, modelFile: string, errors: readonly string[]): Promise<LlamaModel> {
  await checkFile(modelFile);
  try {
    return await use.llama.loadModel({ modelPath: modelFile });
  } catch (cause) {
    await logsArrived();
    const reason = [...errors.slice(-ERROR_LINES_MAX), messageOf(cause)].join("; ");
    throw new AutellixError(
      "engine_error",
      `The model ${modelFile} cannot be loaded (${reason}): fetch it again, or name another GGUF file.`,
      { cause },
    );
  }
}

async function checkFile(modelFile: string): Promise<void> {
  const head = Buffer.alloc(8);
  try {
    const file = await open(modelFile, "r");
    try {
      await file.read(head, 0, head.length, 0);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new AutellixError(
      "engine_error",
      `The model ${modelFile} cannot be read (${messageOf(cause)}): name a GGUF file.`,
      { cause },
    );
  }
  const version = head.readUInt32LE(4);
  if (head.toString("latin1", 0, 4) !== "GGUF" || version === 0 || version > GGUF_VERSION_MAX) {
    throw new AutellixError("engine_error", `The model ${modelFile} is no GGUF file: fetch it again, or name another.`);
  }
}

/** Lines of llama.cpp arrive some turns of the event loop after the call that failed. */
export async function logsArrived(): Promise<void> {
  await new Promise<void>((resolve) => setTimeout(resolve, LOG_DELAY_MS));
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function levelOf(level: LlamaLogLevel): LogLevel {
  if (level === LlamaLogLevel.fatal || level === LlamaLogLevel.error) return "error";
  if (level === LlamaLogLevel.warn) return "warn";
  return level === LlamaLogLevel.info ? "info" : "debug";
}
