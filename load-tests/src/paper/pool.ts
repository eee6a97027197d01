/**
 * Worker threads that play runs, one each: a simulation is synchronous and takes a core.
 */
import { Worker } from "node:worker_threads";
import type { RunSpec } from "./spec.ts";
import type { RunResult } from "./summary.ts";

export interface Executor {
  /** How many runs it plays at once. */
  readonly width: number;
  execute(spec: RunSpec): Promise<RunResult>;
  close(): Promise<void>;
}

export type WorkerAnswer = { result: RunResult } | { error: string };

/** A workload of a few hundred thousand calls, its results, and the core's state. */
const HEAP_MIB_MAX = 6_144;

export class WorkerPool implements Executor {
  readonly width: number;
  private readonly idle: Worker[] = [];
  private readonly all = new Set<Worker>();

  constructor(width: number) {
    this.width = width;
  }

  /** @throws when more than `width` runs are asked for at once, or when the run itself throws. */
  async execute(spec: RunSpec): Promise<RunResult> {
    const worker = this.idle.pop() ?? this.start();
    const answer = await this.ask(worker, spec);
    this.idle.push(worker);
    if ("error" in answer) throw new Error(`${answer.error}\nin the run ${JSON.stringify(spec)}`);
    return answer.result;
  }

  async close(): Promise<void> {
    await Promise.all([...this.all].map((worker) => worker.terminate()));
  }

  private start(): Worker {
    if (this.all.size >= this.width) throw new Error(`more than ${this.width} runs at once`);
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
    });
    this.all.add(worker);
    worker.once("exit", () => this.all.delete(worker));
    return worker;
  }

  private ask(worker: Worker, spec: RunSpec): Promise<WorkerAnswer> {
    return new Promise((answered, failed) => {
      const onExit = (code: number) => failed(new Error(`a worker ended with ${code} in ${JSON.stringify(spec)}`));
      worker.once("exit", onExit);
      worker.once("error", failed);
      worker.once("message", (answer: WorkerAnswer) => {
        worker.off("exit", onExit);
        worker.off("error", failed);
        answered(answer);
      });
      worker.postMessage(spec);
    });
  }
}
