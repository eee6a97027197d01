/** Bytes of the heap that a queued call takes, ids and its program's entry included. */
import { callId, type Input, type PolicyName, programId, Scheduler } from "@autellix/core";
import { ENGINE, INCARNATION } from "./agent.ts";
import { Driver } from "./driver.ts";
import { IdWriter } from "./ids.ts";
import { capacityOf, coreConfigOf, defaultLoad } from "./load.ts";

/** `threads`: the calls of a program are queued side by side. `alone`: the call named no program. */
export type MemoryShape = "threads" | "named" | "alone";

export interface MemoryLoad {
  policy: PolicyName;
  shape: MemoryShape;
  queuedCalls: number;
  /** Of shape `threads`. */
  callsPerProgram: number;
}

export interface MemoryResult extends MemoryLoad {
  bytesPerCall: number;
}

const START_MS = 1_764_000_000_000.4375;

/** @returns bytes in use when all garbage is gone; with what lies in buffers outside of the heap. */
export function heapBytes(): number {
  if (typeof globalThis.gc !== "function") throw new Error("memory is measured under --expose-gc");
  // What the first collection finds dead may have held what the second one frees.
  globalThis.gc();
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Windows of a small load that runs first. */
const WARM_UP_WINDOWS = 400;

export function measureMemory(load: MemoryLoad): MemoryResult {
  const core = { ...defaultLoad, policy: load.policy, queuedCalls: load.queuedCalls };
  warmUp(load.policy);
  const scheduler = new Scheduler(coreConfigOf(core));
  const capacity = capacityOf(core);
  scheduler.apply({ kind: "engineJoined", at: START_MS, engine: ENGINE, incarnation: INCARNATION, capacity });
  scheduler.apply({ kind: "leaderStarted", at: START_MS });
  const arrival = arrivals(load, core.turnoverMs / load.queuedCalls, core.deadlineMs);
  const before = heapBytes();
  for (let i = 0; i < load.queuedCalls; i++) scheduler.apply(arrival(i));
  const bytes = heapBytes() - before;
  const { queued } = scheduler.counts();
  if (queued !== load.queuedCalls) throw new Error(`${queued} calls are queued of ${load.queuedCalls}`);
  return { ...load, bytesPerCall: bytes / load.queuedCalls };
}

/**
 * V8 lays an object out by what it has seen in its fields: a field that once held a fraction takes a number of its own
 * in every later object. So calls are measured as they are in a process that has served some.
 */
function warmUp(policy: PolicyName): void {
  const load = { ...defaultLoad, policy, queuedCalls: 1_000, batchCallsMax: 32, heldCallsMax: 128 };
  const driver = new Driver(new Scheduler(coreConfigOf(load)), load);
  driver.fill();
  for (let i = 0; i < WARM_UP_WINDOWS; i++) driver.window();
}

/** @returns a maker of arrivals that keeps none of them. */
function arrivals(load: MemoryLoad, gapMs: number, deadlineMs: number): (index: number) => Input {
  const callIds = new IdWriter(1);
  const programIds = new IdWriter(2);
  const { shape, callsPerProgram } = load;
  return (index) => {
    const at = START_MS + gapMs * index;
    const arrivedAt = Math.floor(at);
    const id = callIds.write(index + 1, index);
    const program = Math.floor(shape === "threads" ? index / callsPerProgram : index);
    const call = {
      id: callId(id),
      seq: index + 1,
      // A call that named none is the program of its own id; the service makes both strings.
      program: programId(shape === "alone" ? callIds.write(index + 1, index) : programIds.write(program + 1, program)),
      ...(shape === "alone" ? { alone: true } : {}),
      ...(shape === "threads" ? { thread: `branch-${index % callsPerProgram}` } : {}),
      arrivedAt,
      deadlineAt: arrivedAt + deadlineMs,
      promptTokens: 16 + (index % 2_048),
    };
    return { kind: "callArrived", at, call };
  };
}
