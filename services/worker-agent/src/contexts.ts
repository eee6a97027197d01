/**
 * Contexts that belong to no call that could run: those of ended calls, kept for their programs' next ones (paper
 * §4.4), and those that a call takes over while it is opened.
 */
import type { CallKey, KvUse, Plan, Tier } from "@autellix/protocol";
import { blocksOf } from "./batch.ts";
import type { ContextPlace } from "./events.ts";
import type { HeldCall } from "./held-call.ts";
import type { AgentState } from "./state.ts";

/** The context of an ended call. Its engine's call keeps the id. */
export interface Retained {
  readonly id: number;
  readonly key: CallKey;
  contextTokens: number;
  hostTokens: number;
  swapRefused: boolean;
  /** The engine has said that it keeps it: it can be gone on from. */
  settled: boolean;
  /** As the last plan has it; undefined while none has named it. */
  tier: Tier | undefined;
  /** First report that carries its call's end; undefined until that is stored. */
  report: number | undefined;
}

export class Contexts {
  readonly #state: AgentState;
  /** Most valuable first: as the plan names them, then those that it does not know yet. */
  #retained = new Map<CallKey, Retained>();
  /** Contexts that calls take over which are being opened, by the opened call. */
  readonly #takenOver = new Map<number, ContextPlace>();

  constructor(state: AgentState) {
    this.#state = state;
  }

  /** An ended call's context stays. @returns false where the engine retains none, or there is none. */
  retain(call: HeldCall): boolean {
    const { info, limits } = this.#state.setup;
    if (!info.retains || this.#state.draining !== "no" || !call.opened) return false;
    // A call that named no program is one by itself (its program has its id): nobody comes after it.
    if (call.contextTokens + call.hostTokens === 0 || call.dispatch.program === call.address.callId) return false;
    this.drop(call.key);
    const { id, key, contextTokens, hostTokens } = call;
    const unknown = { swapRefused: false, settled: false, tier: undefined, report: undefined };
    const retained: Retained = { id, key, contextTokens, hostTokens, ...unknown };
    if (this.#retained.size >= limits.retainedMax) {
      const least = [...this.#retained.keys()].at(-1);
      if (least !== undefined) this.drop(least);
    }
    this.#retained.set(key, retained);
    this.#state.emit({ kind: "retain", id });
    call.opened = false;
    call.contextTokens = 0;
    call.hostTokens = 0;
    return true;
  }

  /** Of the call's ended attempt here. */
  of(call: HeldCall): Retained | undefined {
    const retained = this.#retained.get(call.key);
    return retained?.id === call.id ? retained : undefined;
  }

  /** The context that a held call will go on from. */
  continuedBy(call: HeldCall): Retained | undefined {
    const { continues } = call.dispatch;
    if (continues === undefined || call.opened || call.phase !== "starting") return undefined;
    return this.#retained.get(continues);
  }

  drop(key: CallKey): void {
    const retained = this.#retained.get(key);
    if (retained === undefined) return;
    this.#retained.delete(key);
    this.#state.emit({ kind: "close", id: retained.id });
  }

  /**
   * What a plan does not name is dropped, once it was made by a scheduler that knows of it: that has read its call's
   * end. What it names is in its order.
   */
  planned({ retained: named = [], reportSeen, run, reserve, keep }: Plan): void {
    const continued = new Set([...run, ...reserve, ...keep].map(({ dispatch }) => dispatch?.continues));
    for (const call of this.#state.held.values()) {
      const context = this.continuedBy(call);
      if (context) continued.add(context.key);
    }
    const tiers = new Map(named.map(({ call, tier }) => [call, tier]));
    const ordered = [...continued].flatMap((key) => (key === undefined ? [] : [key]));
    const inOrder = new Map<CallKey, Retained>();
    for (const key of [...ordered, ...tiers.keys()]) {
      const context = this.#retained.get(key);
      if (context === undefined || inOrder.has(key)) continue;
      context.tier = continued.has(key) ? "engine" : tiers.get(key);
      inOrder.set(key, context);
    }
    for (const context of this.#retained.values()) {
      if (inOrder.has(context.key)) continue;
      if (context.report === undefined || context.report > reportSeen) inOrder.set(context.key, context);
      else this.#state.emit({ kind: "close", id: context.id });
    }
    this.#retained = inOrder;
  }

  /** The engine opens a call on this context: it is the call's from here on. */
  takeOver(context: Retained, call: HeldCall): void {
    this.#retained.delete(context.key);
    const { contextTokens, hostTokens } = context;
    this.#takenOver.set(call.id, { contextTokens, hostTokens });
  }

  /** The engine has answered: the call has its context, or it is gone. */
  opened(id: number): void {
    this.#takenOver.delete(id);
  }

  retained(id: number, kept: boolean, place: ContextPlace): void {
    const context = this.#byId(id);
    if (context === undefined) return;
    if (kept) {
      context.settled = true;
      this.place(context, place);
      // Else the engine has closed it.
    } else this.#retained.delete(context.key);
  }

  #byId(id: number): Retained | undefined {
    for (const context of this.#retained.values()) if (context.id === id) return context;
    return undefined;
  }

  /** A held call or an ended one; undefined when it is gone. */
  owner(id: number): HeldCall | Retained | undefined {
    return this.#byId(id) ?? this.#state.held.get(id);
  }

  place(owner: HeldCall | Retained, { contextTokens, hostTokens }: ContextPlace): void {
    owner.contextTokens = contextTokens;
    owner.hostTokens = hostTokens;
  }

  /** Ended calls' contexts that no held call is about to take over, most valuable first. */
  idle(): Retained[] {
    const claimed = new Set<Retained | undefined>();
    for (const call of this.#state.held.values()) claimed.add(this.continuedBy(call));
    return [...this.#retained.values()].filter((context) => !claimed.has(context));
  }

  /** What cannot be moved now: contexts of calls that are being opened. */
  fixed(): ContextPlace[] {
    return [...this.#takenOver.values()];
  }

  kvUse(): KvUse {
    const { held, batch, setup } = this.#state;
    const use = { running: 0, parked: 0, retained: 0, host: 0 };
    for (const call of held.values()) {
      use[batch.has(call.id) ? "running" : "parked"] += blocksOf(call.contextTokens, setup.info);
      use.host += blocksOf(call.hostTokens, setup.info);
    }
    for (const { contextTokens, hostTokens } of [...this.#retained.values(), ...this.#takenOver.values()]) {
      use.retained += blocksOf(contextTokens, setup.info);
      use.host += blocksOf(hostTokens, setup.info);
    }
    return use;
  }
}
