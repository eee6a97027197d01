/**
 * An ideal agent of one engine: it applies each plan at once, runs whole windows, and reports every window. Nothing is
 * late, lost or repeated. It holds calls as a real one does, from their dispatch to their end.
 */
import {
  type CallId,
  callId,
  type EnginePlan,
  type EngineReport,
  engineId,
  type FinishedCall,
  type PlannedCall,
  type ReportedCall,
} from "@autellix/core";
import { IdBytes } from "./ids.ts";

export const ENGINE = engineId("engine-0");
export const INCARNATION = "b64a1d5e-7a3f-4a0e-9d52-0d3c8c1f6e11";

interface HeldCall {
  id: CallId;
  /** In `IdBytes`. */
  handle: number;
  attempt: number;
  serviceMs: number;
  /** At the dispatch. */
  waitedMs: number;
  heldAt: number;
  contextTokens: number;
  windowsLeft: number;
  /** Number of the last plan that named it. */
  planNumber: number;
}

export interface AgentOptions {
  heldCallsMax: number;
  windowSteps: number;
  /** Draws how many windows a call takes, ≥ 1. */
  windows: () => number;
  /** Prompt tokens of a call, as its arrival said. */
  promptTokens: (call: CallId) => number;
}

export class Agent {
  readonly #options: AgentOptions;
  readonly #ids: IdBytes;
  readonly #held = new Map<CallId, HeldCall>();
  #run: HeldCall[] = [];
  #finished: { call: FinishedCall; report: number }[] = [];
  #reports = 0;
  #planNumber = 0;
  /** Calls that were ended because a plan's `cancel` named them. */
  cancelled = 0;

  constructor(options: AgentOptions) {
    this.#options = options;
    // A plan's new calls are taken on before the ones that it drops are dropped.
    this.#ids = new IdBytes(2 * options.heldCallsMax);
  }

  /** Calls that it holds, and how many of them the next window advances. */
  get counts(): { held: number; running: number } {
    return { held: this.#held.size, running: this.#run.length };
  }

  /** Applies a plan: what is in none of its lists is dropped. */
  take(plan: EnginePlan, at: number): void {
    if (plan.number <= this.#planNumber) throw new Error(`plan ${plan.number} comes after plan ${this.#planNumber}`);
    if (plan.fences.length > 0) throw new Error("a plan answers a fence that nobody asked for");
    this.#planNumber = plan.number;
    this.#finished = this.#finished.filter(({ report }) => report > plan.reportSeen);
    this.#run = plan.run.map((planned) => this.#named(planned, at));
    for (const planned of plan.reserve) this.#named(planned, at);
    for (const planned of plan.keep) this.#named(planned, at);
    for (const { call } of plan.cancel) {
      const held = this.#held.get(call);
      if (held) this.#end(held, at, "cancelled");
    }
    const named = plan.run.length + plan.reserve.length + plan.keep.length;
    if (this.#held.size === named) return;
    for (const held of this.#held.values()) if (held.planNumber !== plan.number) this.#drop(held);
    if (this.#held.size !== named) throw new Error("a plan names a call twice, or one that has ended");
  }

  /** One window of steps that took `windowMs` together. @returns how many calls have ended with it. */
  runWindow(windowMs: number, at: number): number {
    const ran = this.#run;
    this.#run = [];
    for (const held of ran) {
      held.serviceMs += windowMs;
      held.contextTokens += this.#options.windowSteps;
      if (--held.windowsLeft > 0) this.#run.push(held);
      else this.#end(held, at, "completed");
    }
    return ran.length - this.#run.length;
  }

  /** Its whole state. Ids are fresh strings, as a decoder makes them. */
  report(): EngineReport {
    const calls: ReportedCall[] = [];
    for (const { handle, attempt, serviceMs, contextTokens } of this.#held.values()) {
      calls.push({ call: callId(this.#ids.fresh(handle)), attempt, serviceMs, contextTokens });
    }
    this.#reports++;
    return {
      engine: ENGINE,
      incarnation: INCARNATION,
      number: this.#reports,
      planNumber: this.#planNumber,
      calls,
      finished: this.#finished.map(({ call }) => call),
      fenced: [],
    };
  }

  #named({ call, attempt, dispatch }: PlannedCall, at: number): HeldCall {
    const known = this.#held.get(call);
    if (known) {
      if (attempt !== known.attempt) throw new Error(`call ${call} has a second attempt, but nothing was lost`);
      known.planNumber = this.#planNumber;
      return known;
    }
    if (!dispatch) throw new Error(`call ${call} is planned without its details`);
    const held: HeldCall = {
      id: call,
      handle: this.#ids.keep(call),
      attempt,
      serviceMs: 0,
      waitedMs: dispatch.waitedMs,
      heldAt: at,
      contextTokens: this.#options.promptTokens(call),
      windowsLeft: this.#options.windows(),
      planNumber: this.#planNumber,
    };
    this.#held.set(call, held);
    return held;
  }

  #end(held: HeldCall, at: number, status: "completed" | "cancelled"): void {
    const { attempt, serviceMs, waitedMs, heldAt, contextTokens } = held;
    const waitingMs = Math.max(0, waitedMs + (at - heldAt) - serviceMs);
    const call = callId(this.#ids.fresh(held.handle));
    const finished = { call, attempt, status, found: false, serviceMs, waitingMs, contextTokens };
    this.#finished.push({ call: finished, report: this.#reports + 1 });
    if (status === "cancelled") this.cancelled++;
    this.#drop(held);
  }

  #drop(held: HeldCall): void {
    this.#held.delete(held.id);
    this.#ids.drop(held.handle);
  }
}
