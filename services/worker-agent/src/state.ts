/** All that an agent knows, and the effects of the reaction in progress. Changed by the files beside it only. */
import type { EngineInfo, Plan } from "@autellix/protocol";
import { Buckets, CALL_BOUNDS_S } from "@autellix/runtime";
import type { EndDelivery } from "./delivery.ts";
import type { Effect } from "./events.ts";
import type { HeldCall } from "./held-call.ts";
import type { AgentLimits } from "./limits.ts";
import { Timers } from "./timers.ts";
import { Traces } from "./traces.ts";

export interface AgentSetup {
  pool: string;
  engine: string;
  /** Made anew at each start of the process. */
  incarnation: string;
  info: EngineInfo;
  limits: AgentLimits;
  /** Whether spans can be sent. */
  traces?: boolean;
}

export class AgentState {
  readonly setup: AgentSetup;
  nowMs = 0;
  /** The plan in force. */
  plan: Plan | undefined;
  /** Highest epoch seen; plans of lower ones are refused. */
  epoch = 0;
  /** In the order in which they were taken on. */
  readonly held = new Map<number, HeldCall>();
  /** By call and attempt (`attemptName`). */
  readonly heldByName = new Map<string, HeldCall>();
  /** Ends that their frontend has not confirmed. */
  readonly deliveries = new Map<number, EndDelivery>();
  /** Calls of the last step that was begun, or of the next one while contexts are moved for it. */
  batch: ReadonlySet<number> = new Set();
  stepping = false;
  /** Calls, ended ones among them, whose contexts are being moved: no step begins before they are where they shall be. */
  readonly moving = new Set<number>();
  connected = true;
  /** `running`: begun calls go on; `flushing`: only results are stored; `done`: the process may end. */
  draining: "no" | "running" | "flushing" | "done" = "no";
  readonly timers = new Timers();
  /** For people: from acceptance to a call's first token, in seconds. */
  readonly firstToken = new Buckets(CALL_BOUNDS_S);
  /** Unset when spans cannot be sent. */
  readonly traces: Traces | undefined;
  #nextId = 1;
  #effects: Effect[] = [];

  constructor(setup: AgentSetup) {
    this.setup = setup;
    if (setup.traces) this.traces = new Traces(this);
  }

  newId(): number {
    return this.#nextId++;
  }

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  takeEffects(): Effect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  add(call: HeldCall): void {
    this.held.set(call.id, call);
    this.heldByName.set(call.name, call);
  }

  /** Forgets a call, and frees what the engine has of it. */
  remove(call: HeldCall): void {
    this.traces?.left(call);
    this.closeOnEngine(call);
    this.held.delete(call.id);
    if (this.heldByName.get(call.name) === call) this.heldByName.delete(call.name);
    this.timers.clear(`start ${call.id}`);
    this.timers.clear(`have ${call.id}`);
    this.timers.clear(`ending ${call.id}`);
  }

  closeOnEngine(call: HeldCall): void {
    if (call.opened) this.emit({ kind: "close", id: call.id });
    call.opened = false;
    call.contextTokens = 0;
    call.hostTokens = 0;
  }

  /** Time since a held call was accepted, earlier attempts included. */
  sinceAcceptedMs({ dispatch, receivedAtMs }: HeldCall): number {
    return dispatch.waitedMs + dispatch.servedMs + this.nowMs - receivedAtMs;
  }

  /** Results whose record is not stored. */
  unsentOutcomes(): number {
    let count = 0;
    for (const call of this.held.values()) if (call.phase === "ending") count++;
    return count;
  }

  /** Whether calls that have not begun may begin. */
  mayBegin(): boolean {
    return this.draining === "no" && this.unsentOutcomes() < this.setup.limits.unsentOutcomesMax;
  }
}
