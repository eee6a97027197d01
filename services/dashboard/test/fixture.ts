/** Pieces of a pool, for the tests of what is made of them. */
import type { ViewCall, ViewEnded, ViewEngine, ViewPool, ViewProgram } from "@autellix/protocol/view";
import { emptyShot, type PoolChanges, PoolModel } from "../src/shared/pool-model.ts";

export function pool(more: Partial<ViewPool> = {}): ViewPool {
  return {
    pool: "p",
    epoch: 1,
    leader: "l",
    policy: "plas",
    waitingByLevel: [0, 0, 0],
    levelBoundsMs: [1_000, 3_000],
    queuedCalls: 0,
    runningCalls: 0,
    queuedCallsMax: 100,
    programs: 0,
    endsPerSecond: 0,
    dispatching: true,
    totals: { demotions: 0, promotions: 0, preemptions: 0, ended: 0, failovers: 0 },
    ...more,
  };
}

export function call(id: string, more: Partial<ViewCall> = {}): ViewCall {
  return {
    call: `t/${id}`,
    program: "a",
    state: "waiting",
    level: 0,
    attempt: 1,
    arrivedAtMs: 0,
    waitingMs: 0,
    serviceMs: 0,
    promptTokens: 10,
    completionTokens: 0,
    ...more,
  };
}

/** Came at 100, waited for 30 ms, 10 of them in a queue, ran for 50 ms. */
export function ended(id: string, more: Partial<ViewEnded> = {}): ViewEnded {
  return {
    call: `t/${id}`,
    program: "a",
    status: "completed",
    level: 0,
    engine: "e",
    attempt: 1,
    arrivedAtMs: 100,
    endedAtMs: 180,
    queuedMs: 10,
    waitingMs: 30,
    serviceMs: 50,
    promptTokens: 31,
    completionTokens: 9,
    ...more,
  };
}

export function program(name: string, more: Partial<ViewProgram> = {}): ViewProgram {
  return {
    tenant: "t",
    program: name,
    state: "open",
    serviceMs: 0,
    waitingMs: 0,
    attained: 0,
    level: 0,
    calls: { waiting: 0, running: 0, ended: 0 },
    startedAtMs: 0,
    lastAtMs: 0,
    ...more,
  };
}

export function engine(id: string, run: readonly string[] = [], more: Partial<ViewEngine> = {}): ViewEngine {
  return {
    engine: id,
    incarnation: "1",
    state: "up",
    info: {
      kind: "simulated",
      models: ["m"],
      preemption: "swap",
      batchCallsMax: 2,
      residentCallsMax: 4,
      heldCallsMax: 8,
      kvBlocks: 100,
      blockTokens: 16,
      contextTokensMax: 1_000,
    },
    run: run.map((one) => `t/${one}`),
    reserve: [],
    keep: [],
    retained: [],
    counters: { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 },
    ...more,
  };
}

export function changes(atMs: number, more: Partial<PoolChanges> = {}): PoolChanges {
  return { atMs, programs: [], calls: [], engines: [], gone: { programs: [], calls: [], engines: [] }, ...more };
}

export function emptyModel(atMs = 0): PoolModel {
  return new PoolModel(emptyShot(pool(), atMs));
}
