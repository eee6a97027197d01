/**
 * NATS, engine, frontend and scheduler of one machine, all drawn from a seed: answers come in any order, late, or say
 * that nobody answered. What must never happen is checked on every effect.
 */
import {
  type CallKey,
  encode,
  type HaveAnswer,
  type Plan,
  type PlanCall,
  type Report,
  type StoredRecord,
  type TokenItem,
} from "@autellix/protocol";
import type { Effect, Happening } from "../../src/events.ts";
import { FakeEngine, tightInfo } from "./engine.ts";
import { entry, INBOX, Rig } from "./rig.ts";

type Of<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

/** Where a call is in a plan: mostly somewhere, so that it lives to be moved. */
const LISTS = ["run", "run", "run", "reserve", "keep", "keep", "keep", "keep", "keep", "none"] as const;

/** A small generator with a seed (mulberry32). @returns 0 ≤ x < 1 */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An engine does one thing after another, and its answers come in that order; opening a call is beside it. */
function isOfEngine(happening: Happening | undefined): boolean {
  return ["stepped", "swapped", "parked", "retained"].includes(happening?.kind ?? "");
}

export class World {
  readonly rig = new Rig({ info: tightInfo });
  readonly engine: FakeEngine;
  readonly #random: () => number;
  /** Answers under way. */
  readonly #pending: Happening[] = [];
  readonly #records = new Map<string, StoredRecord>();
  readonly #heard: Report[] = [];
  readonly #seen = new Map<string, number>();
  /** Attempts below this one are not heard any more, by call. */
  readonly #refused = new Map<string, number>();
  #seq = 100;
  /** No loss, no delay from here on. */
  calm = false;
  /** By call key: the attempt that may run. */
  readonly calls = new Map<string, { attempt: number; fence: number }>();

  constructor(seed: number) {
    this.#random = random(seed);
    this.engine = new FakeEngine(
      (happening) => this.#pending.push(happening),
      () => !this.calm && this.chance(0.15),
    );
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  terminal(key: string): StoredRecord | undefined {
    const record = this.#records.get(key);
    return record?.head.kind === "outcome" ? record : undefined;
  }

  /** Nothing is under way, on the engine or anywhere else. */
  get idle(): boolean {
    return this.#pending.length === 0 && this.engine.calls.size === 0;
  }

  /** One more random thing happens. */
  next(): void {
    const roll = this.calm ? 0 : this.#random();
    if (roll < 0.75 && this.#pending.length > 0) {
      const drawn = this.calm ? 0 : Math.floor(this.#random() * this.#pending.length);
      const index = isOfEngine(this.#pending[drawn]) ? this.#pending.findIndex(isOfEngine) : drawn;
      const [happening] = this.#pending.splice(index, 1);
      if (happening) {
        this.engine.answered(happening);
        this.#carryOut(this.rig.happen(happening, Math.floor(this.#random() * 5)));
      }
    } else if (roll < 0.85) this.#carryOut(this.rig.pass(Math.floor(this.#random() * 400)));
    else this.plan();
  }

  /** Time passes until every pause is over. */
  wait(): void {
    this.#carryOut(this.rig.pass(1_000));
  }

  /** A plan in which any call is anywhere, or nowhere. */
  plan(): void {
    const lists = { run: [] as PlanCall[], reserve: [] as PlanCall[], keep: [] as Plan["keep"] };
    const cancel: { call: string; attempt: number; cause: "client" }[] = [];
    for (const key of this.calls.keys()) this.#place(key, lists, cancel);
    const heard = this.#heard;
    const fences = (heard.at(-1)?.fenced ?? []).map(({ call, attempt }) => ({
      call,
      attempt,
      fence: this.terminal(call) || this.chance(0.5) ? null : (this.#records.get(call)?.seq ?? 0),
    }));
    // Late, or not: what was reported since is not known to who made the plan.
    const seen = this.calm ? heard.at(-1) : this.pick(heard.slice(-5));
    const parts = { ...lists, cancel, fences, reportSeen: seen?.number ?? 0, retained: this.#retained() };
    const effects = this.rig.plan(parts);
    this.engine.plan = { ...parts } as Plan;
    this.#carryOut(effects);
  }

  #retained(): NonNullable<Plan["retained"]> {
    if (this.calm) return [];
    const ended = this.#ended().filter(() => this.chance(0.7));
    return ended.map((call) => ({ call, tier: this.pick(["engine", "host"] as const) ?? "engine" }));
  }

  #ended(): CallKey[] {
    return [...this.calls.keys()].filter((key) => this.terminal(key));
  }

  #place(
    key: string,
    lists: { run: PlanCall[]; reserve: PlanCall[]; keep: Plan["keep"] },
    cancel: { call: string; attempt: number; cause: "client" }[],
  ): void {
    const call = this.calls.get(key);
    if (call === undefined) return;
    if (!this.calm && this.chance(0.02) && !this.terminal(key)) {
      call.attempt++;
      call.fence = this.#store(key, {
        kind: "marker",
        attempt: call.attempt,
        epoch: 1,
        engine: "e2",
        cause: "engine_lost",
        crashes: 0,
      });
    }
    if (!this.calm && this.chance(0.01)) cancel.push({ call: key, attempt: call.attempt, cause: "client" });
    const list = this.calm ? "run" : this.pick(LISTS);
    if (list === undefined || list === "none" || (this.calm && this.terminal(key))) return;
    const reply = key.endsWith("i") ? INBOX : undefined;
    const continues = this.chance(0.4) ? this.pick(this.#ended()) : undefined;
    const dispatch = { fence: call.fence, ...(reply ? { reply } : {}), ...(continues ? { continues } : {}) };
    const planned = entry(key, dispatch, call.attempt);
    const tier = this.pick(["engine", "host", "none", undefined] as const);
    if (list === "keep" && tier) lists.keep.push({ ...planned, tier });
    else lists[list].push(planned);
  }

  #store(key: string, head: StoredRecord["head"], body: Uint8Array = new Uint8Array()): number {
    this.#seq++;
    this.#records.set(key, { seq: this.#seq, head, body });
    return this.#seq;
  }

  #carryOut(effects: Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === "open") this.#checkOpen(effect);
      if (!this.engine.carryOut(effect)) this.#one(effect);
    }
    this.#heard.push(...this.rig.reports(effects));
    this.engine.checkRest();
  }

  #checkOpen({ key, forcedIds }: Of<"open">): void {
    const seen = this.#seen.get(key) ?? 0;
    if (key.endsWith("f") && (this.calls.get(key)?.attempt ?? 0) > 1 && forcedIds.length !== seen)
      throw new Error(`${key} resumes from ${forcedIds.length}, its frontend has ${seen}`);
  }

  #one(effect: Effect): void {
    switch (effect.kind) {
      case "fetch":
        this.#fetch(effect);
        return;
      case "askHave":
        this.#pending.push({ kind: "haveAnswered", id: effect.id, answer: this.#have(effect.call, effect.attempt) });
        return;
      case "writeOutcome":
        this.#write(effect);
        return;
      case "readOutcome":
        this.#pending.push({ kind: "outcomeRead", id: effect.id, result: this.#read(this.#keyOf(effect.address)) });
        return;
      case "requestEnd":
        if (!this.terminal(effect.call)) throw new Error(`${effect.call} has an end, but no record`);
        this.#pending.push({ kind: "endAnswered", id: effect.id, confirmed: this.calm || this.chance(0.5) });
        return;
      case "ping":
        this.#pending.push({ kind: "pingAnswered", frontend: effect.frontend, answered: true });
        return;
      case "send":
        this.#tokens(effect.message as { kind?: string; items?: TokenItem[] });
    }
  }

  #keyOf({ tenant, callId }: { tenant: string; callId: string }): string {
    return `${tenant}/${callId}`;
  }

  #read(key: string) {
    if (!this.calm && this.chance(0.2)) return { kind: "unknown" } as const;
    const record = this.#records.get(key);
    return record ? ({ kind: "found", record } as const) : ({ kind: "none" } as const);
  }

  #fetch({ id, address }: Of<"fetch">): void {
    const key = this.#keyOf(address);
    const bytes = encode({ messages: [{ role: "user", content: key }] }, "json");
    const body =
      !this.calm && this.chance(0.2)
        ? ({ kind: "unknown" } as const)
        : ({ kind: "found", bytes, encoding: undefined } as const);
    this.#pending.push({ kind: "fetched", id, body, outcome: this.#read(key) });
  }

  #have(key: string, attempt: number): HaveAnswer | undefined {
    // By answering, a frontend refuses earlier attempts.
    this.#refused.set(key, attempt);
    if (!this.calm && this.chance(0.3)) return undefined;
    const count = this.#seen.get(key) ?? 0;
    return { state: "live", count, ids: Array.from({ length: count }, (_, i) => i) };
  }

  #write({ id, address, head, body, fence }: Of<"writeOutcome">): void {
    const key = this.#keyOf(address);
    const last = this.#records.get(key)?.seq ?? 0;
    if (last !== fence) {
      this.#pending.push({ kind: "outcomeWritten", id, result: { kind: "refused" } });
      return;
    }
    if (!this.calm && this.chance(0.1)) {
      this.#pending.push({ kind: "outcomeWritten", id, result: { kind: "unknown" } });
      return;
    }
    if (this.terminal(key)) throw new Error(`${key} has two outcomes`);
    const seq = this.#store(key, head, body);
    const heard = this.calm || this.chance(0.8);
    this.#pending.push({ kind: "outcomeWritten", id, result: heard ? { kind: "stored", seq } : { kind: "unknown" } });
  }

  #tokens(message: { kind?: string; items?: TokenItem[] }): void {
    if (message.kind !== "tokens") return;
    for (const { call, attempt, index, count } of message.items ?? []) {
      if (attempt < (this.#refused.get(call) ?? 0)) continue;
      // As a frontend does: what it has is dropped, what is ahead is a gap.
      const seen = this.#seen.get(call) ?? 0;
      if (index > seen) throw new Error(`${call}: token ${index} after ${seen}`);
      this.#seen.set(call, Math.max(seen, index + count));
    }
  }
}
