/**
 * One engine: a batch that is advanced step by step, in closed form where nothing changes from step to step. A run of
 * steps that is advanced at once is a segment; it ends where a call can end, and each step with prompt tokens is one.
 */
import type { Millis } from "@autellix/core";
import {
  attendedBy,
  decodeStepsCost,
  type EngineCost,
  type EnginePreset,
  type StepLoad,
  stepCost,
} from "@autellix/engines/cost";
import type { SimCall } from "./calls.ts";
import { BLOCK_TOKENS, KvMemory } from "./kv-memory.ts";
import type { System } from "./systems.ts";

export interface EngineCounts {
  steps: number;
  busyMs: number;
  planMs: number;
  /** Σ over steps of the calls in them. */
  stepCalls: number;
  batchMax: number;
  prefilledTokens: number;
  decodedTokens: number;
  /** Contexts that left the engine because others had outgrown the plan. */
  outgrown: number;
}

const NONE: readonly SimCall[] = [];

export class EngineModel {
  readonly kv: KvMemory;
  readonly counts: EngineCounts = {
    steps: 0,
    busyMs: 0,
    planMs: 0,
    stepCalls: 0,
    batchMax: 0,
    prefilledTokens: 0,
    decodedTokens: 0,
    outgrown: 0,
  };
  /** What the next step advances, in the plan's order. */
  batch: SimCall[] = [];
  /** What left the batch because it had outgrown the engine. */
  private parked: SimCall[] = [];
  /** Contexts that lie idle on the engine, most valuable first. */
  private idle: SimCall[] = [];
  private readonly cost: EngineCost;
  private readonly chunkTokens: number;
  /** Σ over calls of their time in steps. */
  callsMs = 0;
  /** Moving contexts holds up the next step: vLLM 0.6 swaps in the step's own stream. */
  private swapMs = 0;
  /** Planning holds up the next step, and is nobody's service. */
  private planMs = 0;

  // ── the segment ──
  private startedAt: Millis = 0;
  steps = 0;
  /** It is one step, with prompt tokens. */
  private prefills = false;
  /** Of its first step. */
  private readonly load: Required<StepLoad> = {
    prefillTokens: 0,
    decodeTokens: 0,
    contextTokens: 0,
    attendedTokens: 0,
  };

  constructor(preset: EnginePreset, system: System) {
    this.cost = preset.cost;
    this.chunkTokens = system.chunkTokens;
    this.kv = new KvMemory(preset, system);
  }

  /**
   * A plan's batch; the contexts that are not on the engine come in.
   *
   * @param reserve what fills a vacancy: its contexts come in, too.
   * @param idle contexts that stay where they are, while there is room.
   */
  begins(batch: SimCall[], reserve: readonly SimCall[] = [], idle: SimCall[] = []): void {
    this.batch = batch;
    this.parked = [];
    this.idle = idle;
    const { kv } = this;
    while (kv.blocksWith(batch) + kv.blocksWith(reserve) - kv.blocksWith(NONE) > kv.kvBlocks && this.evictIdle());
    for (const call of batch) this.swapMs += kv.swapIn(call);
    for (const call of reserve) this.swapMs += kv.swapIn(call);
  }

  /** The plan is the old one: it says that they shall run. */
  resumeParked(): void {
    for (const call of this.parked) {
      this.swapMs += this.kv.swapIn(call);
      this.batch.push(call);
    }
    this.parked = [];
  }

  waitForSwap(ms: Millis): void {
    this.swapMs += ms;
  }

  /** One pass of planning: paid once, however many plans came. */
  waitForPlan(): void {
    this.planMs = this.cost.planMs;
  }

  /**
   * Begins a segment of this batch.
   *
   * @param stepsMax at least 1.
   * @returns when it ends.
   */
  begin(at: Millis, stepsMax: number): Millis {
    this.startedAt = at;
    this.cutSlices();
    if (!this.prefills) this.measureDecodes(stepsMax);
    if (this.outgrows()) {
      if (!this.evictIdle()) this.parkTail();
      return this.begin(at, stepsMax);
    }
    return at + this.planMs + this.durationOf(this.steps);
  }

  /** How many of the segment's steps are under way or over, so that it can end at the next boundary. */
  stepsBy(at: Millis): number {
    const elapsedMs = at - this.startedAt - this.planMs;
    let [low, high] = [1, this.steps];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.durationOf(middle) < elapsedMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** When so many of the segment's steps are over. */
  endOf(steps: number): Millis {
    return this.startedAt + this.planMs + this.durationOf(steps);
  }

  /**
   * The segment ends after so many of its steps. Every call of the batch is charged with their full duration.
   *
   * @param ended gets the calls that end with it; they have left the batch.
   * @returns the number of steps.
   */
  end(at: Millis, steps: number, ended: SimCall[]): number {
    const ms = this.durationOf(steps);
    this.count(ms, steps);
    const { batch } = this;
    let kept = 0;
    for (let i = 0; i < batch.length; i++) {
      const call = batch[i] as SimCall;
      call.serviceMs += ms;
      if (this.prefills) this.prefilled(call, at);
      else this.decoded(call, steps);
      if (call.generated >= call.decodeTokens) {
        call.endedAt = at;
        ended.push(call);
      } else batch[kept++] = call;
    }
    batch.length = kept;
    this.swapMs = 0;
    this.planMs = 0;
    return steps;
  }

  // ── one segment ────────────────────────────────────────────────────────────────────────────────────────────

  /** Prompt tokens of the next step: first come, first served over the batch until the chunk is full. */
  private cutSlices(): void {
    const { batch, chunkTokens } = this;
    let left = chunkTokens;
    let [prefillTokens, decodeTokens, contextTokens, attendedTokens] = [0, 0, 0, 0];
    for (let i = 0; i < batch.length; i++) {
      const call = batch[i] as SimCall;
      call.slice = 0;
      if (!call.prefills) {
        decodeTokens++;
        contextTokens += call.computed;
        continue;
      }
      if (left <= 0) continue;
      if (!call.begun) this.swapMs += this.kv.begin(call);
      const missing = call.missingTokens;
      call.slice = missing < left ? missing : left;
      left -= call.slice;
      prefillTokens += call.slice;
      attendedTokens += attendedBy(call.slice, call.computed);
    }
    this.prefills = prefillTokens > 0;
    const { load } = this;
    load.prefillTokens = prefillTokens;
    load.attendedTokens = attendedTokens;
    // Whole prompts take a step of their own: those that generate wait, in the batch.
    const wait = this.prefills && chunkTokens === Number.POSITIVE_INFINITY;
    load.decodeTokens = wait ? 0 : decodeTokens;
    load.contextTokens = wait ? 0 : contextTokens;
    this.steps = 1;
  }

  /** As many steps as nothing changes in: until the window is over, or the first call ends. */
  private measureDecodes(stepsMax: number): void {
    let steps = stepsMax;
    for (let i = 0; i < this.batch.length; i++) {
      const call = this.batch[i] as SimCall;
      const left = call.decodeTokens - call.generated;
      if (left < steps) steps = left;
    }
    this.steps = steps;
  }

  private durationOf(steps: number): Millis {
    return (
      this.swapMs + (this.prefills ? stepCost(this.cost, this.load) : decodeStepsCost(this.cost, this.load, steps))
    );
  }

  private prefilled(call: SimCall, at: Millis): void {
    if (call.slice > 0) {
      call.computed += call.slice;
      call.slice = 0;
      if (call.computed === call.contextTokens) {
        call.generated++;
        this.counts.decodedTokens++;
        if (call.generated === 1) call.firstTokenAt = at;
      }
      this.kv.grow(call);
    } else if (this.load.decodeTokens > 0 && !call.prefills) this.decoded(call, 1);
  }

  private decoded(call: SimCall, steps: number): void {
    const before = call.computed;
    const after = before + steps;
    call.computed = after;
    call.generated += steps;
    this.counts.decodedTokens += steps;
    // A block is full, or a new one begins.
    if (Math.floor(before / BLOCK_TOKENS) !== Math.floor(after / BLOCK_TOKENS) || before % BLOCK_TOKENS === 0)
      this.kv.grow(call);
  }

  private count(ms: Millis, steps: number): void {
    const { counts } = this;
    const calls = this.batch.length;
    counts.busyMs += ms;
    counts.planMs += this.planMs;
    counts.steps += steps;
    counts.stepCalls += steps * calls;
    this.callsMs += ms * calls;
    counts.prefilledTokens += this.load.prefillTokens;
    if (calls > counts.batchMax) counts.batchMax = calls;
  }

  /** The core plans with contexts as they were reported: a plan that comes inside a window does not know what has grown. */
  private outgrows(): boolean {
    const { batch, kv, steps } = this;
    if (batch.length < 2 && this.idle.length === 0) return false;
    const growthMax =
      Math.ceil(this.load.prefillTokens / BLOCK_TOKENS) + batch.length * (1 + Math.ceil(steps / BLOCK_TOKENS));
    return kv.blocksWith(NONE) + growthMax > kv.kvBlocks && kv.blocksAfter(batch, steps) > kv.kvBlocks;
  }

  /** @returns false when nothing lies idle. */
  private evictIdle(): boolean {
    const least = this.idle.pop();
    if (!least) return false;
    if (least.endedAt === undefined) this.swapMs += this.kv.evict(least);
    else this.kv.drop(least);
    this.counts.outgrown++;
    return true;
  }

  private parkTail(): void {
    const tail = this.batch.pop();
    if (!tail) throw new Error("an empty batch does not outgrow its engine");
    tail.slice = 0;
    this.swapMs += this.kv.evict(tail);
    this.counts.outgrown++;
    this.parked.push(tail);
  }
}
