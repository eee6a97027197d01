/**
 * Contexts of finished calls that an engine keeps for their programs' next calls, in the order of their value: the
 * least valuable goes first when its blocks are needed (lazily, paper §4.4), to the host tier while that has room.
 * Nothing is worth more than what a queued call waits to go on from (decision 0033).
 */
import type { Call } from "./call.ts";
import type { RetainedContext } from "./contract.ts";
import type { Engine } from "./engine.ts";
import type { CallId } from "./ids.ts";
import { byRank } from "./queues.ts";
import type { ProgramEntry } from "./table.ts";

/** Retained contexts per engine. */
export const RETAINED_MAX = 1024;
/** Active calls of a program that are looked at, oldest first, for the one that waits for a context. */
export const HEIR_LOOKS_MAX = 128;

export interface Retained {
  readonly call: CallId;
  readonly engine: Engine;
  readonly program: ProgramEntry;
  readonly thread: string | undefined;
  readonly blocks: number;
  /** Level that its program's next call enters: where the policy keeps by it, lower ones are worth more. */
  readonly level: number;
  /** Its place inside that level, as the policy ranks it. */
  readonly rank: number;
  /** Rises with each context: later ones are worth more. */
  readonly order: number;
  tier: "engine" | "host";
  /** The queued call that will go on from it; owned by `claim` and `unclaim`. */
  heir?: Call | undefined;
}

/** Most valuable first: what is surely needed, the soonest first; then what may be. */
function byValue(a: Retained, b: Retained): number {
  if (a.heir && b.heir) return byRank(a.heir, b.heir);
  if (a.heir || b.heir) return a.heir ? -1 : 1;
  return a.level - b.level || a.rank - b.rank || b.order - a.order;
}

/** The retained contexts of one engine. */
export class RetainedContexts {
  /** Most valuable first. */
  private readonly contexts: Retained[] = [];
  engineBlocks = 0;
  hostBlocks = 0;
  engineContexts = 0;
  /** Of those that queued calls wait to go on from. */
  heirCount = 0;
  heirBlocks = 0;
  /** Changes whenever the list does: a plan is due. */
  version = 0;

  list(): RetainedContext[] {
    return this.contexts.map(({ call, tier }) => ({ call, tier }));
  }

  /** Keeps a finished call's context; it takes the place of an earlier one of the same thread. */
  add(context: Retained): void {
    const older = find(context.program, context.engine, context.thread);
    if (older) this.remove(older);
    this.place(context);
    context.program.retained = [...(context.program.retained ?? []), context];
    this.count(context, 1);
    // The next call may have come before this one's end was heard.
    bequeath(context);
    const last = this.contexts.at(-1);
    if (this.contexts.length > RETAINED_MAX && last) this.remove(last);
  }

  /** Its value has another reason now. The agent hears of the new order with the next plan that there is. */
  inherit(context: Retained, heir: Call | undefined): void {
    this.take(context);
    this.disinherit(context);
    if (heir) {
      context.heir = heir;
      heir.claims = context;
      this.heirCount++;
      this.heirBlocks += context.blocks;
    }
    this.place(context);
  }

  /** Queued calls that wait for a context of here, in the order in which they will run. */
  heirs(): Call[] {
    const heirs: Call[] = [];
    for (const { heir } of this.contexts) {
      if (heir === undefined) break;
      heirs.push(heir);
    }
    return heirs;
  }

  remove(context: Retained): void {
    this.take(context);
    this.disinherit(context);
    context.program.retained = context.program.retained?.filter((other) => other !== context);
    this.count(context, -1);
  }

  /** Makes room, least valuable first: to the host tier while it has room, else dropped. */
  shrink(room: { engineBlocks: number; engineContexts: number; hostBlocks: number; swaps: boolean }): void {
    while (this.hostBlocks > room.hostBlocks) this.remove(this.least("host"));
    while (this.engineBlocks > room.engineBlocks || this.engineContexts > room.engineContexts) {
      const victim = this.least("engine");
      if (!room.swaps || !this.makeHostRoom(victim, room.hostBlocks)) {
        this.remove(victim);
        continue;
      }
      this.count(victim, -1);
      victim.tier = "host";
      this.count(victim, 1);
    }
  }

  /** Drops what is worth less than this one from a full host tier. @returns whether there is room for it. */
  private makeHostRoom(context: Retained, hostBlocksMax: number): boolean {
    while (this.hostBlocks + context.blocks > hostBlocksMax) {
      const least = this.contexts.findLast((other) => other.tier === "host");
      if (!least || byValue(least, context) < 0) return false;
      this.remove(least);
    }
    return true;
  }

  clear(): void {
    for (const context of [...this.contexts]) this.remove(context);
  }

  private disinherit(context: Retained): void {
    if (!context.heir) return;
    context.heir.claims = undefined;
    context.heir = undefined;
    this.heirCount--;
    this.heirBlocks -= context.blocks;
  }

  private place(context: Retained): void {
    let place = this.contexts.length;
    while (place > 0 && byValue(this.contexts[place - 1] as Retained, context) > 0) place--;
    this.contexts.splice(place, 0, context);
  }

  private take(context: Retained): void {
    const place = this.contexts.indexOf(context);
    if (place < 0) throw new Error(`the context of ${context.call} is not retained here`);
    this.contexts.splice(place, 1);
  }

  private least(tier: "engine" | "host"): Retained {
    const context = this.contexts.findLast((other) => other.tier === tier);
    if (!context) throw new Error(`no retained context has the tier ${tier}, but its blocks are counted`);
    return context;
  }

  private count(context: Retained, sign: 1 | -1): void {
    this.version++;
    if (context.tier === "host") {
      this.hostBlocks += sign * context.blocks;
      return;
    }
    this.engineBlocks += sign * context.blocks;
    this.engineContexts += sign;
  }
}

function find(program: ProgramEntry, engine: Engine, thread: string | undefined): Retained | undefined {
  return program.retained?.find((context) => context.engine === engine && context.thread === thread);
}

/** The context that a call would go on from, if it began now. */
function contextFor(engine: Engine, call: Call): Retained | undefined {
  const context = find(call.program, engine, call.thread) ?? find(call.program, engine, undefined);
  // Whether the two begin alike is the engine's to see; a prompt that is surely shorter is another one.
  const tokensMax = Math.max(call.contextTokens, call.promptTokensMax);
  return context && tokensMax >= (context.blocks - 1) * engine.capacity.blockTokens ? context : undefined;
}

/** In a queue, and not in the batch that is being formed either, though no plan with it is out. */
function waits(call: Call): boolean {
  return call.list !== undefined && !call.planned && call.tier === "none";
}

/** Of the calls that would go on from a context, the one that runs first. */
function heirOf(context: Retained): Call | undefined {
  const { engine, program } = context;
  let heir: Call | undefined;
  let looks = 0;
  for (const call of program.threads()) {
    if (++looks > HEIR_LOOKS_MAX) break;
    if (call.engine !== engine || !waits(call) || contextFor(engine, call) !== context) continue;
    if (!heir || byRank(call, heir) < 0) heir = call;
  }
  return heir;
}

/** A call that has not started is in a queue of its engine: the context that it will go on from is kept for it. */
export function claim(call: Call): void {
  const { engine } = call;
  if (!engine?.capacity.retains || !waits(call)) return;
  const context = contextFor(engine, call);
  if (call.claims === context) return;
  unclaim(call);
  if (context && (!context.heir || byRank(call, context.heir) < 0)) engine.retained.inherit(context, call);
}

/** It waits for this context no more: it is in no queue, or a later one is there. Another call may wait for it. */
export function unclaim(call: Call): void {
  const context = call.claims;
  if (!context) return;
  context.engine.retained.inherit(context, undefined);
  bequeath(context);
}

/** Gives a context that nobody claims to the call that it is for, which may have claimed an earlier one. */
function bequeath(context: Retained): void {
  const heir = heirOf(context);
  if (!heir) return;
  unclaim(heir);
  context.engine.retained.inherit(context, heir);
}

/** A call starts: the context that it goes on from is its own now. */
export function continueFrom(engine: Engine, call: Call): void {
  const context = contextFor(engine, call);
  // Not what it waited for, when another call waits for a later one of its thread.
  if (call.claims !== context) unclaim(call);
  if (!context || (context.heir && context.heir !== call)) return;
  call.continues = context.call;
  engine.retained.remove(context);
}

/**
 * No call of the program comes any more: its contexts go, but for what its queued calls wait to go on from.
 *
 * @returns the engines that had them.
 */
export function dropRetained(program: ProgramEntry): Engine[] {
  const engines: Engine[] = [];
  for (const context of program.retained ?? []) {
    if (context.heir) continue;
    context.engine.retained.remove(context);
    engines.push(context.engine);
  }
  return engines;
}
