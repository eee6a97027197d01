/**
 * Drives the scheduler as one ideal engine per id would: each step takes 1 ms and advances every call of the plan's
 * batch by one unit. Programs release their next call when the one before has finished.
 */
import {
  balancers,
  type CallId,
  type Command,
  type CoreConfig,
  callId,
  type EnginePlan,
  engineId,
  type FinishedCall,
  type Ladder,
  type Policy,
  programId,
  Scheduler,
} from "../src/index.ts";

export interface TestProgram {
  name: string;
  /** Steps of each call; one call after the other. */
  steps: number[];
}

export function coreConfig(policy: Policy, ladder: Ladder, over: Partial<CoreConfig> = {}): CoreConfig {
  return {
    policy,
    ladder,
    balancer: balancers["least-used"],
    windowSteps: 1,
    reserveCallsMax: 0,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 1e9,
    cancelMemoryMs: 60_000,
    cancelMemoryMax: 100,
    planResendMs: 500,
    ...over,
  };
}

export interface Trace {
  /** Time at which each program's last call finished. */
  finishes: Record<string, number>;
  /** Σ over programs of finish − steps: the paper's "total waiting" (Fig. 2). */
  waiting: number;
  lines: string[];
}

const STEPS_MAX = 1_000;

export function runPrograms(config: CoreConfig, batchCallsMax: number, programs: TestProgram[]): Trace {
  const scheduler = new Scheduler(config);
  const engine = engineId("e0");
  const left = new Map<CallId, { program: TestProgram; index: number; steps: number; served: number }>();
  const trace: Trace = { finishes: {}, waiting: 0, lines: [] };
  let seq = 0;
  let plan: EnginePlan | undefined;
  const take = (commands: Command[]) => {
    for (const command of commands) if (command.kind === "sendPlan") plan = command.plan;
  };
  const release = (program: TestProgram, index: number, at: number) => {
    const id = callId(`t/${program.name}${index}`);
    const steps = program.steps[index] ?? 0;
    left.set(id, { program, index, steps, served: 0 });
    const call = { id, seq: ++seq, program: programId(program.name), arrivedAt: at, deadlineAt: 1e12, promptTokens: 1 };
    take(scheduler.apply({ kind: "callArrived", at, call }));
  };
  const capacity = {
    batchCallsMax,
    residentCallsMax: 100,
    heldCallsMax: 100,
    kvBlocks: 1e6,
    blockTokens: 16,
    preemption: "recompute" as const,
  };
  take(scheduler.apply({ kind: "engineJoined", at: 0, engine, incarnation: "i", capacity }));
  take(scheduler.apply({ kind: "leaderStarted", at: 0 }));
  for (const program of programs) release(program, 0, 0);
  take(scheduler.apply({ kind: "planDue", at: 0 }));

  for (let at = 1; left.size > 0; at++) {
    if (at > STEPS_MAX) throw new Error("the programs do not finish");
    const batch = plan?.run.map((p) => p.call) ?? [];
    trace.lines.push(`${at - 1}: ${batch.map((id) => id.slice(2)).join(" ")}`);
    const finished: FinishedCall[] = [];
    for (const id of batch) {
      const call = left.get(id);
      if (call && ++call.served === call.steps) {
        finished.push({ call: id, attempt: 1, status: "completed", found: false, serviceMs: call.steps, waitingMs: 0 });
      }
    }
    const started = new Set([...(plan?.run ?? []), ...(plan?.keep ?? [])].map((p) => p.call));
    const calls = [...started].flatMap((id) => {
      const call = left.get(id);
      return call && call.served < call.steps
        ? [{ call: id, attempt: 1, serviceMs: call.served, contextTokens: 1 }]
        : [];
    });
    const report = { engine, incarnation: "i", number: at, planNumber: plan?.number ?? 0, calls, finished, fenced: [] };
    take(scheduler.apply({ kind: "reported", at, report }));
    for (const { call: id } of finished) {
      const call = left.get(id);
      left.delete(id);
      if (!call) continue;
      if (call.index + 1 < call.program.steps.length) release(call.program, call.index + 1, at);
      else trace.finishes[call.program.name] = at;
    }
    take(scheduler.apply({ kind: "planDue", at }));
  }
  for (const program of programs) {
    trace.waiting += (trace.finishes[program.name] ?? 0) - program.steps.reduce((a, b) => a + b, 0);
  }
  return trace;
}
