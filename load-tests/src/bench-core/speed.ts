/** One load for some seconds, in this process: calls per second, time of a plan, collections. */
import { setImmediate as turn } from "node:timers/promises";
import { Scheduler } from "@autellix/core";
import type { Spread } from "../stats.ts";
import { Driver } from "./driver.ts";
import { type CoreLoad, coreConfigOf } from "./load.ts";
import { heapBytes } from "./memory.ts";
import { type Pauses, PauseWatch } from "./pauses.ts";
import type { CoreMs, Counts } from "./timings.ts";

export interface SpeedResult {
  load: CoreLoad;
  /** Of the measured phase. */
  counts: Counts;
  elapsedMs: number;
  /** Time inside `apply`; collections that happened there are in it. */
  coreMs: CoreMs;
  /** The longest single stretch of it, collections included. */
  longestMs: CoreMs;
  /** CPU time of the main thread: less than `elapsedMs` when other processes took its core. */
  cpuMs: number;
  planUs: Spread;
  pauses: Pauses;
  /** Means over the windows. */
  batchCalls: number;
  heldCalls: number;
  /** Calls per second while the queue was filled, inside `apply`: arrivals alone. */
  fillPerSecond: number;
  /** After the run, all garbage gone, per queued call: with ended programs and the driver's few numbers. */
  steadyBytesPerCall: number;
  /** What the heap has grown by since the queue was filled, per ended call: more than its program's entry is a leak. */
  keptBytesPerEndedCall: number;
}

/** The queue turns over once before anything is measured, or for this time. */
export const WARM_UP_MS_MAX = 20_000;

/** @throws when the core breaks a rule that the driver checks. */
export async function measureSpeed(load: CoreLoad, measureMs: number): Promise<SpeedResult> {
  const watch = new PauseWatch();
  const before = heapBytes();
  const driver = new Driver(new Scheduler(coreConfigOf(load)), load);
  const { timings, agent } = driver;
  driver.fill();
  const fillPerSecond = (1_000 * timings.counts.arrived) / timings.coreMs.arrivals;
  const filled = heapBytes();

  const warmFromMs = performance.now();
  timings.restart();
  // The event loop turns after each window, as a service's does: V8 has work to do there.
  while (timings.counts.acked < load.queuedCalls && performance.now() - warmFromMs < WARM_UP_MS_MAX) {
    driver.window();
    await turn();
  }

  const warmedUp = timings.counts.acked;
  timings.restart();
  let batchSum = 0;
  let heldSum = 0;
  const cpuFrom = process.threadCpuUsage();
  const fromMs = performance.now();
  while (performance.now() - fromMs < measureMs) {
    const { running, held } = agent.counts;
    batchSum += running;
    heldSum += held;
    driver.window();
    await turn();
  }
  const toMs = performance.now();
  const { user, system } = process.threadCpuUsage(cpuFrom);
  await turn();
  const pauses = watch.between(fromMs, toMs);
  watch.stop();
  const { windows, acked } = timings.counts;
  const after = heapBytes();
  return {
    load,
    counts: { ...timings.counts },
    elapsedMs: toMs - fromMs,
    coreMs: { ...timings.coreMs },
    longestMs: { ...timings.longestMs },
    cpuMs: (user + system) / 1_000,
    planUs: timings.planUs(),
    pauses,
    batchCalls: batchSum / windows,
    heldCalls: heldSum / windows,
    fillPerSecond,
    steadyBytesPerCall: (after - before) / driver.openCalls,
    keptBytesPerEndedCall: (after - filled) / (warmedUp + acked),
  };
}
