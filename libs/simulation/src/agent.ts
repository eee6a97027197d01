/** The agent of one engine, as the scheduler sees it: obeys plans, runs windows, reports. */
import type {
  EngineCapacity,
  EngineId,
  EnginePlan,
  EngineReport,
  FinishedCall,
  Millis,
  PlannedCall,
  ReportedCall,
} from "@autellix/core";
import { type CallId, engineId } from "@autellix/core";
import type { EnginePreset } from "@autellix/engines/cost";
import type { SimCall, SimProgram } from "./calls.ts";
import { EngineModel } from "./engine-model.ts";
import { BLOCK_TOKENS } from "./kv-memory.ts";
import type { System } from "./systems.ts";

export const INCARNATION = "1";
/** No limit of the lab's: a preempted call may always wait beside the others, as in the paper. */
const HELD_CALLS_MAX = 1_000_000;

/** What an agent asks of the world around it. */
export interface AgentWorld {
  /** A call that has not ended. */
  callOf(id: CallId): SimCall | undefined;
  report(report: EngineReport): void;
  ended(call: SimCall, at: Millis): void;
  segmentEndsAt(agent: VirtualAgent, at: Millis, version: number): void;
}

export class VirtualAgent {
  readonly id: EngineId;
  readonly capacity: EngineCapacity;
  readonly model: EngineModel;
  windows = 0;
  /** Between two segments, where a plan can be applied. */
  atBoundary = true;
  private readonly world: AgentWorld;
  private readonly windowSteps: number;
  /** Reports at once when calls end, and applies a plan at the next step. */
  private readonly isPrompt: boolean;
  private readonly keepsEnded: boolean;
  private pending: EnginePlan | undefined;
  private planNumber = 0;
  private slots = 0;
  /** Calls of the plan in force, in the order in which they came: as a live agent names them. */
  private held: SimCall[] = [];
  /** Of the plan that is applied, those that were not held before. */
  private newcomers: SimCall[] = [];
  private reserve: SimCall[] = [];
  /** Contexts of ended calls: those of the last plan, and those that ended since. */
  private readonly retained = new Map<CallId, SimCall>();
  private stamp = 0;
  /** Of the running segment; one that was cut short has a new version. */
  private version = 0;
  private segmentSteps = 0;
  /** Steps since the window began: since the last report that was due, as a live agent counts them. */
  private windowStepsDone = 0;
  private reportNumber = 0;
  private finished: FinishedCall[] = [];
  private readonly unreported: SimProgram[] = [];
  private readonly reportedCalls: ReportedCall[] = [];
  private readonly endedNow: SimCall[] = [];

  constructor(index: number, preset: EnginePreset, system: System, plansOn: "window" | "arrival", world: AgentWorld) {
    this.id = engineId(`e${index}`);
    this.world = world;
    this.windowSteps = system.windowSteps;
    this.isPrompt = plansOn === "arrival";
    this.keepsEnded = system.cache === "policy";
    this.model = new EngineModel(preset, system);
    this.capacity = {
      batchCallsMax: preset.batchCallsMax,
      residentCallsMax: preset.residentCallsMax,
      heldCallsMax: HELD_CALLS_MAX,
      kvBlocks: this.model.kv.kvBlocks,
      blockTokens: BLOCK_TOKENS,
      preemption: system.preemption,
      hostBlocks: this.model.kv.hostBlocks,
      retains: this.keepsEnded,
    };
  }

  get isIdle(): boolean {
    return this.atBoundary && this.model.batch.length === 0;
  }

  // ── plans ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** A plan came: in force from the next step on, or from the next window on. */
  receive(plan: EnginePlan, at: Millis): void {
    this.pending = plan;
    if (this.atBoundary || !this.isPrompt) return;
    const steps = this.model.stepsBy(at);
    if (steps === this.segmentSteps) return;
    this.segmentSteps = steps;
    this.world.segmentEndsAt(this, this.model.endOf(steps), ++this.version);
  }

  /** Goes on after the moment's planning: with the plan that came, or the one that it has. */
  goOn(at: Millis): void {
    if (this.pending) {
      this.apply(this.pending, at);
      this.pending = undefined;
    } else this.model.resumeParked();
    if (this.model.batch.length > 0) this.beginSegment(at);
  }

  private apply(plan: EnginePlan, at: Millis): void {
    const before = this.held;
    const stamp = ++this.stamp;
    this.planNumber = plan.number;
    this.slots = plan.run.length;
    this.newcomers = [];
    const { model } = this;
    const run = this.taken(plan.run, stamp, at);
    this.reserve = this.taken(plan.reserve, stamp, at);
    const idle: SimCall[] = [];
    // Out before in: what comes in needs the room.
    for (const kept of plan.keep) {
      const call = this.take(kept, stamp, at);
      if (!call) continue;
      if (kept.tier === "host") model.waitForSwap(model.kv.swapOut(call));
      else if (kept.tier === "none") model.kv.drop(call);
      else if (call.place === "engine") idle.push(call);
    }
    this.held = [];
    for (const call of before) {
      if (call.planStamp === stamp) this.held.push(call);
      else if (call.endedAt === undefined) model.kv.drop(call);
    }
    for (const call of this.newcomers) this.held.push(call);
    if (this.keepsEnded) this.retain(plan, idle);
    model.begins(run, this.reserve, idle);
    model.waitForPlan();
  }

  private taken(planned: readonly PlannedCall[], stamp: number, at: Millis): SimCall[] {
    const calls: SimCall[] = [];
    for (let i = 0; i < planned.length; i++) {
      const call = this.take(planned[i] as PlannedCall, stamp, at);
      if (call) calls.push(call);
    }
    return calls;
  }

  /** @returns undefined for a call that ended after the plan was made. */
  private take({ call: id, dispatch }: PlannedCall, stamp: number, at: Millis): SimCall | undefined {
    const call = this.world.callOf(id);
    if (!call) return undefined;
    if (call.engine === undefined) {
      call.engine = this.id;
      call.dispatchedAt = at;
    }
    if (call.planStamp !== stamp - 1) this.newcomers.push(call);
    call.planStamp = stamp;
    if (dispatch?.continues !== undefined) this.takeOver(call, dispatch.continues);
    return call;
  }

  /** The call goes on from a context that was kept for it, which stays until its prefill begins. */
  private takeOver(call: SimCall, id: CallId): void {
    const context = this.retained.get(id);
    if (!context) return;
    this.retained.delete(id);
    call.continues = context;
  }

  /** @param idle gets those that stay on the engine. */
  private retain(plan: EnginePlan, idle: SimCall[]): void {
    const { model, retained } = this;
    const named = new Set(plan.retained.map(({ call }) => call));
    for (const [id, call] of retained) {
      if (named.has(id)) continue;
      retained.delete(id);
      model.kv.drop(call);
    }
    for (const { call: id, tier } of plan.retained) {
      const call = retained.get(id);
      if (call && tier === "host") model.waitForSwap(model.kv.swapOut(call));
      else if (call?.place === "engine") idle.push(call);
    }
  }

  // ── windows ────────────────────────────────────────────────────────────────────────────────────────────────

  private beginSegment(at: Millis): void {
    this.atBoundary = false;
    const endsAt = this.model.begin(at, Math.max(1, this.windowSteps - this.windowStepsDone));
    this.segmentSteps = this.model.steps;
    this.world.segmentEndsAt(this, endsAt, ++this.version);
  }

  /** @param version of the segment that ends; an older one was cut short. */
  segmentEnded(at: Millis, version: number): void {
    if (version !== this.version) return;
    const { endedNow, model } = this;
    this.windowStepsDone += model.end(at, this.segmentSteps, endedNow);
    for (const call of endedNow) this.finish(call, at);
    const someEnded = endedNow.length > 0;
    endedNow.length = 0;
    while (model.batch.length < this.slots && this.reserve.length > 0)
      model.batch.push(this.reserve.shift() as SimCall);
    this.atBoundary = true;
    const windowIsOver = this.windowStepsDone >= this.windowSteps || model.batch.length === 0;
    if (windowIsOver || (this.isPrompt && someEnded)) {
      if (windowIsOver) this.windows++;
      this.windowStepsDone = 0;
      model.waitForPlan();
      this.report();
    } else if (!this.isPrompt) this.beginSegment(at);
  }

  private finish(call: SimCall, at: Millis): void {
    const { serviceMs, arrivedAt, contextTokens, program } = call;
    if (this.keepsEnded) {
      this.model.kv.retain(call);
      this.retained.set(call.id, call);
    } else this.model.kv.end(call);
    const waitingMs = Math.max(0, at - arrivedAt - serviceMs);
    this.finished.push({
      call: call.id,
      attempt: 1,
      status: "completed",
      found: false,
      serviceMs,
      waitingMs,
      contextTokens,
    });
    program.unreported++;
    this.unreported.push(program);
    this.world.ended(call, at);
  }

  // ── reports ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether this agent saw a call of the program end that it has not reported. */
  owesReportOf(program: SimProgram): boolean {
    return this.unreported.includes(program);
  }

  report(): void {
    const { finished, reportedCalls } = this;
    reportedCalls.length = 0;
    for (let i = 0; i < this.held.length; i++) {
      const call = this.held[i] as SimCall;
      if (call.endedAt !== undefined) continue;
      call.reported.serviceMs = call.serviceMs;
      call.reported.contextTokens = call.contextTokens;
      reportedCalls.push(call.reported);
    }
    this.finished = [];
    for (const program of this.unreported) program.unreported--;
    this.unreported.length = 0;
    this.world.report({
      engine: this.id,
      incarnation: INCARNATION,
      number: ++this.reportNumber,
      planNumber: this.planNumber,
      calls: reportedCalls,
      finished,
      fenced: [],
    });
  }
}
