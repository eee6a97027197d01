/** One run of the live system: a policy, a memory, the programs; and what it recorded of itself. */
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EngineCapacity, Input } from "@autellix/core";
import { type Counters, listen, openBus, statusSchema, subjects } from "@autellix/protocol";
import { readCallTrace, type TracedCall } from "@autellix/protocol/call-trace";
import { type InputLogConfig, readInputLog } from "@autellix/protocol/input-log";
import { linesOf } from "@autellix/protocol/lines";
import { RecordedCalls } from "@autellix/simulation";
import { type Progress, type RunResult, runOpenLoop } from "../run.ts";
import { type Stack, startStack } from "../stack.ts";
import type { ProgramSpec } from "../workload.ts";

export interface Arm {
  protocol: "finite" | "steady";
  policy: string;
  /** Contexts may go to host memory. */
  hostTier: boolean;
}

export interface ArmOptions {
  arm: Arm;
  programs: readonly ProgramSpec[];
  /** Of `npm start`: which engine and model. */
  engineArgs: readonly string[];
  engineEnv: Record<string, string>;
  charsPerToken: number;
  contextTokensMax: number;
  seed: number;
  /** For all programs to end after the last has arrived. */
  drainMsMax: number;
  onProgress: (progress: Progress) => void;
  onStack: (line: string) => void;
  signal: AbortSignal;
}

/** What the frontend and the scheduler recorded, for the simulator. */
export interface Recording {
  trace: TracedCall[];
  config: InputLogConfig;
  capacity: EngineCapacity;
}

export interface ArmResult {
  arm: Arm;
  run: RunResult;
  counters: Counters;
  recording: Recording;
}

const STATUS_MS_MAX = 5_000;
/** Greedy: each arm generates the same text, so that all do the same work. */
const TEMPERATURE = 0;

/** @throws Error when the stack does not start, or its records are not there. */
export async function runArm(options: ArmOptions): Promise<ArmResult> {
  const { arm, programs, seed, signal } = options;
  const folder = await mkdtemp(join(tmpdir(), "autellix-live-"));
  try {
    const stack = await startStack({
      args: [
        ...options.engineArgs,
        ...["--engines", "1", "--frontends", "1", "--log-level", "warn", "--policy", arm.policy],
        ...["--trace", join(folder, "trace.jsonl"), "--input-log", join(folder, "inputs.jsonl")],
      ],
      env: { ...options.engineEnv, ...(arm.hostTier ? {} : { AUTELLIX_HOST_KV_BYTES_MAX: "0" }) },
      onProgress: options.onStack,
      signal,
    });
    let run: RunResult;
    let counters: Counters;
    try {
      run = await runOpenLoop({ name: arm.policy, url: `${stack.baseUrl}/v1` }, programs, {
        seed,
        temperature: TEMPERATURE,
        charsPerToken: options.charsPerToken,
        contextTokensMax: options.contextTokensMax,
        callMsMax: options.drainMsMax,
        drainMsMax: options.drainMsMax,
        endPrograms: true,
        onProgress: options.onProgress,
        signal,
      });
      counters = await countersOf(stack);
    } finally {
      await stack.stop();
    }
    return { arm, run, counters, recording: await readRecording(folder) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Of the one engine, as the leader tells everybody: from a status that came after all had ended. */
async function countersOf({ natsUrl }: Stack): Promise<Counters> {
  const bus = await openBus({ url: natsUrl, name: "bench:live" });
  try {
    const { promise, resolve, reject } = Promise.withResolvers<Counters>();
    const timer = setTimeout(() => reject(new Error("the scheduler tells no status")), STATUS_MS_MAX);
    listen(
      bus,
      subjects.statusOfAll,
      statusSchema,
      ({ engines, runningCalls, queuedCalls }) => {
        const [engine] = engines;
        if (engine !== undefined && runningCalls + queuedCalls === 0) resolve(engine.counters);
      },
      reject,
    );
    return await promise.finally(() => clearTimeout(timer));
  } finally {
    await bus.nc.close();
  }
}

async function readRecording(folder: string): Promise<Recording> {
  const files = await readdir(folder);
  const linesIn = async (start: string) => {
    const name = files.find((file) => file.startsWith(start));
    if (name === undefined) throw new Error(`the live run has recorded no ${start}`);
    return linesOf(createReadStream(join(folder, name), "utf8"));
  };
  const { calls } = await readCallTrace(await linesIn("trace"));
  const recorded = new RecordedCalls();
  let config: InputLogConfig | undefined;
  for await (const item of readInputLog(await linesIn("inputs"))) {
    if (item.kind === "header") config = item.header.config;
    if (item.kind === "input") recorded.hear(item.input as Input);
  }
  if (config === undefined || recorded.capacity === undefined) throw new Error("the input log knows no engine");
  return { trace: calls, config, capacity: recorded.capacity };
}
