/** One worker thread: plays the runs that it is told, one after the other. */
import { parentPort } from "node:worker_threads";
import type { WorkerAnswer } from "./pool.ts";
import { playRun } from "./run-point.ts";
import type { RunSpec } from "./spec.ts";

parentPort?.on("message", (spec: RunSpec) => parentPort?.postMessage(answer(spec)));

function answer(spec: RunSpec): WorkerAnswer {
  try {
    return { result: playRun(spec) };
  } catch (error) {
    return { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
